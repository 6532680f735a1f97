"""Symile, GRAM, TRIANGLE: contrast of whole tuples, which sees what only all modalities together tell; and ConFu: pairs
of modalities are contrasted, and every fused subset with each modality outside it.

Source: see `losses.tuples`. Differences from the released codes: a row is never among its own negatives (`compat`);
clamped temperatures; GRAM without an anchor, and without its matching term; of ConFu any number of modalities, no
dropout where subsets are fused, no masking of inputs, whose ratio the code inverts and no published run uses.

Shapes: b rows of this rank, N rows of the global batch that have all modalities, P width of a head.
"""

from collections.abc import Mapping
from functools import partial, reduce
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError
from mmcontrast.losses.rows import over_rows, upcast
from mmcontrast.losses.tuples import Subset, confu_loss, gram_loss, symile_loss
from mmcontrast.methods.base import Batch, Presence, Progress, refuse_finetuning
from mmcontrast.methods.baselines.objectives import ConFuObjective, TupleContrastObjective
from mmcontrast.methods.self_supervised import Projected, SelfSupervised
from mmcontrast.methods.tuple_infonce.negatives import derangement
from mmcontrast.models.heads import Temperature, mlp


def drawn_tuples(n: int, k: int, generator: torch.Generator, plain: bool = False) -> list[list[Tensor]]:
    """For each of k modalities, rows (n,) that the other k - 1 are taken from; no tuple is of one row in all of them.

    Any of them differs from the first by a permutation without fixed points; two modalities leave one other, as in
    CLIP. plain: independent permutations, as in the released code, where a tuple may be some row's own.
    """

    def permutations() -> list[Tensor]:
        if plain:
            return [torch.randperm(n, generator=generator) for _ in range(k - 1)]
        first_N = torch.randperm(n, generator=generator) if k > 2 else torch.arange(n)
        return [first_N, *(first_N[derangement(n, generator)] for _ in range(k - 2))]

    return [permutations() for _ in range(k)]


class TupleContrast(Projected):
    """loss = that of tuples of the heads' outputs, inputs as they are, over the rows that have all modalities.

    Of Symile also scored: `product`, the elementwise product of the heads' unit outputs, whose sum its loss scores.
    Raises ConfigError: as Projected; also for a number of modalities that the loss does not take, or an anchor that the
    dataset has not.
    """

    def __init__(self, cell: CellConfig) -> None:
        self.objective = spec = TupleContrastObjective.model_validate(cell.objective)
        super().__init__(cell, spec)
        k = len(self.modalities)
        if (spec.loss == "triangle" and k != 3) or (spec.negatives == "all" and k > 3):
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): objective: a triangle is of three modalities, every "
                f"combination for Symile of at most three, and dataset '{cell.dataset}' has {k}; give loss: gram, or "
                "negatives: drawn"
            )
        self.hub = None if spec.anchor is None else self.place(spec.anchor)
        self.tau = Temperature(spec.tau)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence = Presence.of(batch, progress.gather)
        loss = partial(self._symile if self.objective.loss == "symile" else self._gram, progress.generator)
        z = self.project(batch.inputs, progress.gather, presence)
        return {"loss": over_rows(loss, presence.rows(*self.modalities), *z)}

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        found = super().embeddings(batch)
        if self.objective.loss == "symile":
            found["product"] = reduce(torch.mul, self.unit_outputs(batch))
        return found

    def _symile(self, generator: torch.Generator, *z: Tensor) -> Tensor:
        spec = self.objective
        if spec.negatives == "all":
            return symile_loss(z, self.tau())
        return symile_loss(z, self.tau(), drawn_tuples(len(z[0]), len(z), generator, spec.compat.plain_permutations))

    def _gram(self, generator: torch.Generator, *z: Tensor) -> Tensor:
        spec, root = self.objective, not self.objective.compat.without_root
        form: Literal["volume", "triangle"] = "triangle" if spec.loss == "triangle" else "volume"
        return gram_loss(z, self.tau(), self.hub, form=form, smoothing=spec.smoothing, eps=spec.eps, root=root)


class ConFu(SelfSupervised):
    """A linear head on each encoder, and an MLP on the encodings of each subset of two to K - 1 modalities.

    Inputs are as they are. `embed` is what all of them give, before it is made unit, side by side; zeros where a row
    lacks what it is made of. With two modalities there is no subset, and it is Cross.
    Raises ConfigError: a `finetune` stage, or no model.projection, whose last width all heads have.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_finetuning(cell)
        self.objective = spec = ConFuObjective.model_validate(cell.objective)
        width, out = cell.model.width, self.projection_widths()[-1]
        self.heads = nn.ModuleDict({m: nn.Linear(width, out) for m in self.modalities})
        sizes = range(2, len(self.modalities)) if spec.fused_weight else ()
        self.subsets: list[Subset] = [s for size in sizes for s in combinations(self.modalities, size)]
        self.fusions = nn.ModuleList([mlp([len(s) * width, spec.hidden, out]) for s in self.subsets])

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence, spec = Presence.of(batch, progress.gather), self.objective
        outputs = {s: progress.gather(z_bP) for s, z_bP in self._outputs(batch.inputs, presence).items()}
        z = {m: outputs.pop((m,)) for m in self.modalities}
        return {"loss": confu_loss(z, outputs, spec.tau, spec.fused_weight, presence.whole)}

    def embed(self, batch: Batch) -> Tensor:
        return self.embeddings(batch)[""]

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """Also the encoders' outputs, and what is left without each modality: what is made of it is zeros."""
        outputs = self._outputs(batch.inputs, Presence.of(batch))

        def without(m: str) -> Tensor:
            return torch.cat([0 * z_bP if m in s else z_bP for s, z_bP in outputs.items()], dim=-1)

        return {"": without(""), "encoders": self.encodings(batch)} | {
            f"without_{m}": without(m) for m in self.modalities
        }

    def _outputs(self, inputs: Mapping[str, Tensor], presence: Presence) -> dict[Subset, Tensor]:
        """Modalities -> (b, P), zeros in rows that lack one of them; first of every one alone."""
        e = self.encode(inputs, presence)
        found: dict[Subset, Tensor] = {(m,): self.heads[m](e_bd) for m, e_bd in e.items()}
        for subset, fusion in zip(self.subsets, self.fusions, strict=True):
            found[subset] = fusion(torch.cat([e[m] for m in subset], dim=-1))
        return {s: upcast(reduce(lambda z_bP, m: presence.blank(m, z_bP), s, z_bP)) for s, z_bP in found.items()}


METHODS = {"tuple_contrast": TupleContrast, "confu": ConFu}

"""ConFu: pairs of modalities are contrasted, and every fused subset with each modality outside it.

Source: see `losses.tuples`. Differences from the released code: any number of modalities; no dropout where subsets are
fused; no masking of inputs, whose ratio the code inverts and no published run uses.

Shapes: b rows of this rank, P width of what is contrasted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import combinations

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.losses.rows import upcast
from mmcontrast.losses.tuples import Subset, confu_loss
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.baselines.objectives import ConFuObjective
from mmcontrast.methods.self_supervised import SelfSupervised, refuse_finetuning
from mmcontrast.models.heads import mlp


class ConFu(SelfSupervised):
    """A linear head on each encoder, and an MLP on the encodings of each subset of two to K - 1 modalities.

    Inputs are as they are. `embed` is what all of them give, before it is made unit, side by side; zeros where a row
    lacks what it is made of. With two modalities there is no subset, and it is Cross.

    Raises:
        ConfigError: a `finetune` stage, or no model.projection, whose last width all heads have.
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


METHOD = ConFu

"""Symile, GRAM and TRIANGLE: contrast of whole tuples, which sees what only all modalities together tell.

Source: see `losses.tuples`. Differences from the released codes: a row is never among its own negatives (`compat`);
clamped temperatures; GRAM without an anchor, and without its matching term.

Shapes: b rows of this rank, N rows of the global batch that have all modalities, P width of a head.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Literal

import torch
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError
from mmcontrast.losses.rows import over_rows
from mmcontrast.losses.tuples import gram_loss, symile_loss
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.baselines.objectives import TupleContrastObjective
from mmcontrast.methods.self_supervised import Projected
from mmcontrast.methods.tuple_infonce.negatives import derangement
from mmcontrast.models.heads import Temperature


def drawn_tuples(n: int, k: int, generator: torch.Generator, plain: bool = False) -> list[list[Tensor]]:
    """For each of k modalities, rows (n,) that the other k - 1 are taken from; no tuple is of one row in all of them.

    So it is because any of them differs from the first by a permutation without fixed points. Two modalities leave one
    other: the other rows of the batch, as in CLIP.

    Args:
        plain: independent permutations instead, as in the released code, where a tuple may be some row's own.
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

    Raises:
        ConfigError: as Projected; also for a number of modalities that the loss does not take, or an anchor that the
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


METHOD = TupleContrast

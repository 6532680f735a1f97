"""Symile: contrast of whole tuples, which sees what only all modalities together tell.

Source: see `loss.py`. Where paper and released code differ: the paper's text could not be read. Difference from the
code: drawn tuples are never a row's own (`compat`).

Shapes: b rows of this rank, N rows of the global batch that have all modalities, K modalities, P width of a head.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError
from mmcontrast.losses.rows import over_rows
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.presence import Presence
from mmcontrast.methods.self_supervised import Projected
from mmcontrast.methods.symile.loss import symile_loss
from mmcontrast.methods.symile.objective import SymileObjective
from mmcontrast.methods.tuple_infonce.negatives import derangement
from mmcontrast.models.temperature import Temperature

MOST_COMBINED = 3


def tuples(n: int, k: int, generator: torch.Generator, plain: bool = False) -> list[list[Tensor]]:
    """For each of k modalities, rows (n,) that the other k - 1 are taken from; no tuple is of one row in all of them.

    So it is because any two of them differ by a permutation without fixed points. Two modalities leave one other, which
    can only be taken from each row in turn: the other rows of the batch, as in CLIP.

    Args:
        plain: independent permutations instead, as in the released code, where a tuple may be some row's own.
    """
    out = []
    for _ in range(k):
        if plain:
            out.append([torch.randperm(n, generator=generator) for _ in range(k - 1)])
            continue
        first_N = torch.randperm(n, generator=generator) if k > 2 else torch.arange(n)
        out.append([first_N, *(first_N[derangement(n, generator)] for _ in range(k - 2))])
    return out


class Symile(Projected):
    """loss = mean over modalities of InfoNCE against tuples of the others, inputs as they are.

    It is over the rows that have all modalities. Scored also: `product`, the elementwise product of the heads' unit
    outputs, whose sum is what the loss scores.

    Raises:
        ConfigError: as Projected; also for `negatives: all` of more than three modalities.
    """

    def __init__(self, cell: CellConfig) -> None:
        self.objective = spec = SymileObjective.model_validate(cell.objective)
        super().__init__(cell, spec)
        if spec.negatives == "all" and len(self.modalities) > MOST_COMBINED:
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): objective.negatives: all, of {len(self.modalities)} "
                f"modalities, are the batch to the power of {len(self.modalities) - 1} tuples; set it to drawn"
            )
        self.tau = Temperature(spec.tau)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence, spec = Presence.of(batch, progress.gather), self.objective

        def loss(*z: Tensor) -> Tensor:
            drawn = spec.negatives == "drawn"
            plain = spec.compat.plain_permutations
            permutations = tuples(len(z[0]), len(z), progress.generator, plain) if drawn else None
            return symile_loss(z, 1 / self.tau(), permutations)

        z = self.project(batch.inputs, progress.gather, presence)
        return {"loss": over_rows(loss, presence.rows(*self.modalities), *z)}

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().embeddings(batch), "product": reduce(torch.mul, self.unit_outputs(batch))}


METHOD = Symile

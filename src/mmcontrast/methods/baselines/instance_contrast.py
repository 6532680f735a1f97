"""Losses that MXM-CLR's reconstruction is compared with, on the same encoders and the same kind of batches.

CLIP and TriCoLo take one observation of each modality an instance; SupCon, MIL-NCE and SigLIP as many as there are.

Shapes: P rows of modality a, Q of modality b, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import TrainingError
from mmcontrast.losses.observations import mil_nce, siglip, weighted_nt_xent
from mmcontrast.losses.pairwise import info_nce
from mmcontrast.losses.supervised import supcon_rows
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.baselines.objectives import InstanceContrastObjective
from mmcontrast.methods.multifold import MultifoldMethod, Rows, Temperature

SIGLIP_BIAS = -10.0


class InstanceContrast(MultifoldMethod):
    """One of five losses over rows and the instances they are of; over pairs of modalities, summed.

    SupCon pools all modalities at once instead. TriCoLo's weights belong to directions by name; a direction that
    is not named has none.
    """

    def __init__(self, cell: CellConfig) -> None:
        self.objective = spec = InstanceContrastObjective.model_validate(cell.objective)
        super().__init__(cell, spec.views)
        self.tau = Temperature(spec.tau)
        if spec.loss == "siglip":
            self.bias = nn.Parameter(torch.tensor([SIGLIP_BIAS]))
        self.loss: Callable[[Rows], Tensor] = getattr(self, f"_{spec.loss}")

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"loss": self.loss(self.gathered(self.rows(batch), batch, progress))}

    def _clip(self, rows: Rows) -> Tensor:
        self._refuse_unpaired(rows)
        return self._over_pairs(rows, lambda a, b, ids_a, ids_b: info_nce(a, b, self.tau()))

    def _tricolo(self, rows: Rows) -> Tensor:
        self._refuse_unpaired(rows)
        directions = [f"{x}->{y}" for x in self.modalities for y in self.modalities if x != y]
        weights = self.objective.directions or dict.fromkeys(directions, 0.5)
        return weighted_nt_xent({m: z for m, (z, _) in rows.items()}, weights, tau=self.tau())

    def _mil_nce(self, rows: Rows) -> Tensor:
        double_count = self.objective.double_count
        return self._over_pairs(rows, lambda *pair: mil_nce(*pair, tau=self.tau(), double_count=double_count))

    def _siglip(self, rows: Rows) -> Tensor:
        return self._over_pairs(rows, lambda *pair: siglip(*pair, scale=1 / self.tau(), bias=self.bias.squeeze()))

    def _supcon(self, rows: Rows) -> Tensor:
        z_RD, ids_R = (torch.cat(part) for part in zip(*rows.values(), strict=True))
        return supcon_rows(z_RD, ids_R, self.tau())

    def _over_pairs(self, rows: Rows, loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        terms = [loss(a, b, ids_a, ids_b) for (a, ids_a), (b, ids_b) in combinations(rows.values(), 2)]
        return torch.stack(terms).sum()

    def _refuse_unpaired(self, rows: Rows) -> None:
        """Row k of every modality must be of one instance."""
        first, *others = [ids for _, ids in rows.values()]
        if any(ids.shape != first.shape or bool((ids != first).any()) for ids in others):
            counts = ", ".join(f"{len(ids)} of {m}" for m, (_, ids) in rows.items())
            raise TrainingError(
                f"{self.cell.name}: loss '{self.objective.loss}' pairs row k of every modality, and a batch has "
                f"{counts}; set pretrain.sampling.per_instance to 1, or sample by caption"
            )


METHOD = InstanceContrast

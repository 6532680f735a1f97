"""DeCUR: no negatives, and a place of its own for what only one modality has.

Source: see `losses.disentangled`. Difference from the released code: each modality has its own projector (`compat`) and
its own augmentations.

Shapes: b rows of this rank, P width of a head's output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError
from mmcontrast.losses.disentangled import decur_loss
from mmcontrast.methods.base import Batch, Presence, Progress, keep_local
from mmcontrast.methods.baselines.objectives import DecurObjective
from mmcontrast.methods.self_supervised import Projected, augmented, build_augmenters


class DeCUR(Projected):
    """loss = Barlow Twins of each modality's augmentations, and of pairs of modalities in two blocks of dimensions.

    Scored also: `common` and `unique`, these blocks of all modalities' heads side by side.

    Raises:
        ConfigError: as Projected; also for a kind of modality without augmentations, or a block without dimensions.
    """

    def __init__(self, cell: CellConfig) -> None:
        self.objective = spec = DecurObjective.model_validate(cell.objective)
        super().__init__(cell, spec)
        self.augmenters = build_augmenters(cell, spec.augmentations)
        width = cell.model.width if spec.head == "none" else self.projection_widths()[-1]
        self.common = round(spec.common * width)
        if not 0 < self.common < width:
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): objective.common: {spec.common} of {width} "
                "dimensions leaves a block without any; give a share nearer to 0.5, or a wider head"
            )
        if spec.compat.one_projector:
            self.heads = nn.ModuleDict({self.modalities[0]: self.heads[self.modalities[0]]})

    def head_of(self, modality: str) -> nn.Module:
        return super().head_of(self.modalities[0] if self.objective.compat.one_projector else modality)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence = Presence.of(batch, progress.gather)
        first, second = (
            self.project(augmented(self.augmenters, batch, progress), progress.gather, presence) for _ in range(2)
        )
        has = [presence.rows(m) for m in self.modalities]
        return {"loss": decur_loss(first, second, self.common, self.objective.off_diagonal, has)}

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        heads = self.project(batch.inputs, keep_local, Presence.of(batch))
        blocks = {"common": slice(self.common), "unique": slice(self.common, None)}
        found = {name: torch.cat([z_bP[:, block] for z_bP in heads], dim=-1) for name, block in blocks.items()}
        return {**super().embeddings(batch), **found}


METHOD = DeCUR

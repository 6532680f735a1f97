"""GRAM: modalities are aligned by the volume that their embeddings span; TRIANGLE by the area between three.

Source: see `loss.py`. Differences from the released code: a clamped temperature, a form without an anchor, and no
matching term, which needs a multimodal encoder.

Shapes: b rows of this rank, N rows of the global batch that have all modalities.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.losses.rows import over_rows
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.gram.loss import gram_loss, gram_symmetric_loss
from mmcontrast.methods.gram.objective import GramObjective
from mmcontrast.methods.presence import Presence
from mmcontrast.methods.self_supervised import Projected
from mmcontrast.models.temperature import Temperature


class Gram(Projected):
    """loss = that of tuples in which one modality is exchanged between rows, inputs as they are.

    It is over the rows that have all modalities.

    Raises:
        ConfigError: as Projected; also for a triangle of other than three modalities, or an anchor that there is not.
    """

    def __init__(self, cell: CellConfig) -> None:
        self.objective = spec = GramObjective.model_validate(cell.objective)
        super().__init__(cell, spec)
        where = f"params/methods/{cell.method}.yaml ({cell.name}): objective"
        if spec.form == "triangle" and len(self.modalities) != 3:
            raise ConfigError(
                f"{where}.form: a triangle is of three modalities, and dataset '{cell.dataset}' has "
                f"{len(self.modalities)}; set it to volume"
            )
        if spec.anchor is not None and spec.anchor not in self.modalities:
            raise ConfigError(
                f"{where}.anchor: dataset '{cell.dataset}' has no modality '{spec.anchor}'; "
                f"{nearest(spec.anchor, self.modalities)}"
            )
        self.tau = Temperature(spec.tau)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence, spec = Presence.of(batch, progress.gather), self.objective
        options: dict[str, Any] = {k: getattr(spec, k) for k in ("smoothing", "form", "eps")}
        options["without_root"] = spec.compat.without_root

        def loss(*z: Tensor) -> Tensor:
            if spec.anchor is None:
                return gram_symmetric_loss(z, self.tau(), **options)
            k = self.modalities.index(spec.anchor)
            return gram_loss(z[k], [*z[:k], *z[k + 1 :]], self.tau(), **options)

        z = self.project(batch.inputs, progress.gather, presence)
        return {"loss": over_rows(loss, presence.rows(*self.modalities), *z)}


METHOD = Gram

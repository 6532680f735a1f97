"""Hyper-parameters of DeCUR."""

from __future__ import annotations

from pydantic import Field

from mmcontrast.config.augmentations import Augmentations
from mmcontrast.config.base import Strict
from mmcontrast.config.objective import ProjectedObjective


class DecurCompat(Strict):
    """What the released code does where it departs from its description."""

    one_projector: bool = Field(
        default=False, description="All modalities go through one projector, batch statistics and all."
    )


class DecurObjective(ProjectedObjective):
    """Decorrelated dimensions within each modality; between modalities some are common, the others unique."""

    common: float = Field(default=0.75, gt=0, lt=1, description="Share of the heads' dimensions that is common.")
    off_diagonal: float = Field(default=0.0051, ge=0, description="Weight of correlations of different dimensions.")
    augmentations: Augmentations
    compat: DecurCompat = Field(default=DecurCompat(), description="Defects of the released code, off by default.")


OBJECTIVE = DecurObjective

"""Hyper-parameters of ConFu."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mmcontrast.config.objective import Objective


class ConFuObjective(Objective):
    """Contrast of pairs of modalities, and of fused subsets with each modality outside them."""

    classifier: ClassVar[bool] = False
    tau: float = Field(default=0.07, gt=0, description="Temperature.")
    fused_weight: float = Field(
        default=0.5, ge=0, le=1, description="Lambda, the weight of fused terms; pairs have the rest."
    )
    hidden: int = Field(default=512, gt=0, description="Hidden width of what fuses a subset.")


OBJECTIVE = ConFuObjective

"""Hyper-parameters of InfMasking."""

from typing import Literal

from pydantic import Field

from mmcontrast.methods.comm.objective import CommCompat, CommObjective


class InfMaskingCompat(CommCompat):
    """What the released code does besides, CoMM's habits included."""

    mask_whole_modalities: bool = Field(
        default=False,
        description="A modality of so few tokens that none would be left is masked whole, in every draw; else one "
        "token of it is kept.",
    )


class InfMaskingObjective(CommObjective):
    """CoMM, and fused embeddings pulled to those of the same view with most tokens masked."""

    form: Literal["released"] = "released"
    strength: float = Field(default=1.0, ge=0, description="Lambda, the weight of the spread of the draws at the end.")
    ratio: float = Field(default=0.7, ge=0, le=1, description="Share of each modality's tokens that a draw masks.")
    draws: int = Field(default=5, ge=1, description="Draws T of masks for each view.")
    mask_weight: float = Field(default=1.0, ge=0, description="Weight of the term of each view and its draws.")
    compat: InfMaskingCompat = Field(default=InfMaskingCompat(), description="Habits of the released code, off.")


OBJECTIVE = InfMaskingObjective

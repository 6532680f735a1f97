"""Hyper-parameters of M3CoL."""

from typing import Literal

from pydantic import Field

from mmcontrast.config.base import Strict
from mmcontrast.config.objective import Objective


class M3CoLCompat(Strict):
    """Switches that bring back what the released code does where it departs from the method (methods: defects)."""

    both_sides_mixed: bool = Field(
        default=False, description="Compare mixed a with MIXED b (in-place edit of a shared clone), targets of a only."
    )
    overwrite_targets: bool = Field(
        default=False, description="Where a sample is its own partner, the target is overwritten instead of added."
    )


class M3CoLObjective(Objective):
    """M3CoL: supervised losses + beta times (M3Co, later MultiSClip)."""

    alpha: float = Field(default=0.15, gt=0, description="Both parameters of the Beta distribution of lambda.")
    p_select: float = Field(default=0.5, ge=0, le=1, description="Probability that a sample is mixed at all.")
    tau: float = Field(default=0.1, gt=0, description="Temperature of M3Co.")
    tau_soft: float = Field(default=0.125, gt=0, description="Temperature of MultiSClip, predictions and targets.")
    beta: float = Field(default=0.1, ge=0, description="Weight of the contrastive term.")
    schedule_fraction: float = Field(
        default=0.33, ge=0, le=1, description="M3Co while epoch < int(fraction * epochs), MultiSClip after."
    )
    pairing: Literal["ring", "all"] = Field(default="ring", description="Directed pairs of modalities.")
    mix_space: Literal["input", "embedding"] = Field(default="embedding", description="What is mixed.")
    detach_targets: bool = Field(default=False, description="Stop the gradient through MultiSClip's soft targets.")
    unimodal_heads: bool = Field(default=True, description="Add the sum of the unimodal cross-entropies.")
    compat: M3CoLCompat = Field(default=M3CoLCompat(), description="Defects of the released code, off by default.")


OBJECTIVE = M3CoLObjective

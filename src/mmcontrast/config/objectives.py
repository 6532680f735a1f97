"""Hyper-parameters of every method's objective, one model a method.

They stand apart from the methods themselves because the workflow checks all of `params/` each time it starts,
and a method's module imports torch (three seconds) while this one does not.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Objective(BaseModel):
    """Base of all objectives: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UnimodalObjective(Objective):
    """Cross-entropy on one modality alone."""

    modality: str | None = Field(
        default=None, description="Modality the classifier sees; null = all, each with its own head, averaged."
    )


class ConcatObjective(Objective):
    """Cross-entropy on the concatenated embeddings, with or without unimodal heads and an InfoNCE term."""

    unimodal_heads: bool = Field(default=False, description="Add the sum of the unimodal cross-entropies.")
    beta: float = Field(default=0.0, ge=0, description="Weight of the CLIP-type InfoNCE term; 0 = off.")
    tau: float = Field(default=0.1, gt=0, description="Temperature of the InfoNCE term.")
    pairing: Literal["ring", "all"] = Field(default="ring", description="Pairs of modalities that are contrasted.")


class MixupObjective(Objective):
    """Input mixup with mixed labels: one coefficient and one permutation per batch, shared by the modalities."""

    alpha: float = Field(default=0.2, gt=0, description="Both parameters of the Beta distribution.")
    unimodal_heads: bool = Field(default=True, description="Add the sum of the unimodal cross-entropies.")


class M3CoLCompat(Objective):
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


OBJECTIVES: dict[str, type[Objective]] = {
    "unimodal": UnimodalObjective,
    "concat": ConcatObjective,
    "mixup": MixupObjective,
    "m3col": M3CoLObjective,
}

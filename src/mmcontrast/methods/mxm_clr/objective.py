"""Hyper-parameters of MXM-CLR's reconstruction."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mmcontrast.config.objective import Objective, TemperatureSpec, Views


class MXMCLRObjective(Objective):
    """MXM-CLR as reconstructed here: (1 - w) hard + w soft, or hard + w soft. The paper's own values are not known."""

    tau: TemperatureSpec = TemperatureSpec()
    tau_soft: float = Field(default=0.2, gt=0, description="Temperature of the soft targets.")
    hard: Literal["mean", "logsum"] = Field(
        default="mean", description="mean: cross-entropy to all positives alike; logsum: one may carry the anchor."
    )
    relation: Literal["block", "intra", "pair"] = Field(
        default="block", description="What soft targets are made of; see mxm_clr/loss.py."
    )
    soft_weight: float = Field(default=0.5, ge=0, description="w; 0 = hard alone. convex: at most 1.")
    combine: Literal["convex", "additive"] = "convex"
    warmup: int = Field(default=1, ge=0, description="Epochs over which w rises from 0; 0 = none.")
    teacher: Literal["self", "ema"] = Field(
        default="self", description="Whose embeddings make the soft targets: these, or a momentum copy's."
    )
    teacher_decay: float = Field(default=0.999, ge=0, lt=1, description="Of the momentum copy, per step.")
    views: Views = Views()

    @model_validator(mode="after")
    def _convex_weight(self) -> Self:
        if self.combine == "convex" and self.soft_weight > 1:
            raise ValueError(f"soft_weight: {self.soft_weight:g} is above 1, the most for combine: convex")
        return self

    @model_validator(mode="after")
    def _targets_that_are_not_the_predictions(self) -> Self:
        copied = self.relation == "pair" and self.teacher == "self" and not self.tau.learned and self.soft_weight > 0
        if copied and self.tau_soft == self.tau.start:
            raise ValueError(
                f"tau_soft: {self.tau_soft:g} is tau too, and with relation: pair the soft targets are then the "
                "predictions themselves, which have no gradient; give another tau_soft, or a momentum teacher"
            )
        return self


OBJECTIVE = MXMCLRObjective

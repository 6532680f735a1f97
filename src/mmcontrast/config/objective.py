"""What the hyper-parameters of all objectives share; each method's own lie beside its code, in `methods/`."""

from typing import ClassVar, Literal

from pydantic import Field

from mmcontrast.config.base import Strict


class Objective(Strict):
    """Base of all objectives."""

    # whether what `finetune` trains ends in a classifier; else its embeddings are scored by a linear probe
    classifier: ClassVar[bool] = True
    # whether modalities go through encoders
    encoders: ClassVar[bool] = True


class ProjectedObjective(Objective):
    """Base of those that contrast what heads make of the modalities' embeddings."""

    classifier: ClassVar[bool] = False
    head: Literal["mlp", "linear", "none"] = Field(
        default="mlp", description="What stands between a modality's embedding and the loss; its widths: projection."
    )
    embedding: Literal["encoders", "heads"] = Field(
        default="encoders", description="What is scored: the encoders' outputs, or what the heads make of them."
    )


class TemperatureSpec(Strict):
    """A temperature: fixed, or learned from a start."""

    start: float = Field(default=0.1, gt=0, description="Its value, or the first value of a learned one.")
    learned: bool = False
    smallest: float = Field(default=0.01, gt=0, description="Where a learned one is clamped (CLIP: scale <= 100).")


class Views(Strict):
    """How the images of an instance become rows."""

    mode: Literal["single", "group", "fused"] = Field(
        default="single",
        description="single: one row each. fused: all one row, by the largest value over them (MVCNN). group: "
        "`groups` such rows.",
    )
    groups: int = Field(default=2, ge=1, description="Rows per instance in mode group.")

    @property
    def pooled_groups(self) -> int:
        """0 = nothing is pooled, 1 = all views as one row, g = g rows."""
        return {"single": 0, "fused": 1, "group": self.groups}[self.mode]

"""Hyper-parameters of GRAM and TRIANGLE."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mmcontrast.config.base import Strict
from mmcontrast.config.objective import ProjectedObjective, TemperatureSpec


class GramCompat(Strict):
    """What the released code does where it departs from the formula."""

    without_root: bool = Field(
        default=False, description="triangle: twice the squared area, as the code has it, instead of the area."
    )


class GramObjective(ProjectedObjective):
    """Contrast of tuples by the volume that their embeddings span."""

    form: Literal["volume", "triangle"] = Field(
        default="volume",
        description="volume: of the parallelotope (GRAM). triangle: area between the tips of three (TRIANGLE).",
    )
    anchor: str | None = Field(
        default=None, description="Modality that is exchanged between rows; null = each in turn, the mean of them."
    )
    smoothing: float = Field(default=0.1, ge=0, lt=1, description="Label smoothing.")
    tau: TemperatureSpec = TemperatureSpec(start=0.07, learned=True)
    eps: float = Field(default=1e-8, ge=0, description="Added under the root, whose gradient at 0 is infinite.")
    compat: GramCompat = Field(default=GramCompat(), description="Defects of the released code, off by default.")

    @model_validator(mode="after")
    def _only_where_it_counts(self) -> Self:
        if self.compat.without_root and self.form != "triangle":
            raise ValueError(f"compat.without_root: of form: triangle alone, and form is {self.form}")
        return self


OBJECTIVE = GramObjective

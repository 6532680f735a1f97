"""Hyper-parameters of Symile."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmcontrast.config.base import Strict
from mmcontrast.config.objective import ProjectedObjective, TemperatureSpec


class SymileCompat(Strict):
    """What the released code does where it departs from the formula."""

    plain_permutations: bool = Field(
        default=False,
        description="Draw a permutation of each modality by itself: one negative of a row may then be the row itself.",
    )


class SymileObjective(ProjectedObjective):
    """Contrast of whole tuples by their multilinear inner product."""

    negatives: Literal["drawn", "all"] = Field(
        default="drawn",
        description="Tuples that a row is to be told from: one per row, or every combination (at most 3 modalities).",
    )
    tau: TemperatureSpec = Field(
        default=TemperatureSpec(start=0.07, learned=True, smallest=0.001),
        description="One over the scale of the product, which of K unit rows shrinks as width^(1 - K / 2).",
    )
    compat: SymileCompat = Field(default=SymileCompat(), description="Habits of the released code, off by default.")


OBJECTIVE = SymileObjective

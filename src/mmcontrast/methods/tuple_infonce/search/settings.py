"""Settings of TupleInfoNCE's sample optimisation: what is tried, for how long, and what it is judged on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class StrengthSearch(BaseModel):
    """A second policy, over beta: one factor on the noise of all modalities' augmentations, in turn with alpha."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(gt=0, description="Updates of the mean.")
    trials: int = Field(default=4, ge=2, multiple_of=2, description="Trials a round, in antithetic pairs.")
    sigma: float = Field(default=0.25, gt=0, description="Standard deviation of what is tried around the mean.")
    rate: float = Field(default=0.1, gt=0, description="Step size of the mean.")
    low: float = Field(default=0.25, gt=0, le=1, description="Least factor that is tried.")
    high: float = Field(default=2.0, ge=1, description="Largest factor that is tried; the reward's unit of distance.")
    levels: list[Annotated[float, Field(gt=0)]] = Field(
        default=[0.25, 0.5, 1.0, 1.5, 2.0], min_length=2, description="Factors that a clone is tested at."
    )

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if sorted(set(self.levels)) != self.levels:
            raise ValueError(f"levels: {self.levels} must rise")
        return self


class Trials(BaseModel):
    """What every kind of search has in common. A trial trains a clone for some steps and scores it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0, description="Training steps of one trial.")
    held_out: int = Field(
        default=256, ge=2, description="TRAIN tuples that trials do not train on and that score them, without labels."
    )
    dropping: float = Field(
        default=0.5, ge=0, lt=1, description="Share of a trial's steps that contrast one modality with the others."
    )
    carry: Literal["nearest", "best"] = Field(
        default="nearest",
        description="Clone the next round starts from: nearest to the new setting, or the best (released).",
    )
    beta: StrengthSearch | None = Field(
        default=None, description="Search the strength of the augmentations too; null = it stays as it is."
    )
    low: float = Field(default=0.0, ge=0, description="Least amount that is tried.")
    high: float = Field(default=4.0, gt=0, description="Largest amount that is tried.")

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class ReinforceSearch(Trials):
    """A Gaussian policy over one amount a modality, whose mean climbs the reward (the paper's search)."""

    kind: Literal["reinforce"]
    rounds: int = Field(gt=0, description="Updates of the mean.")
    trials: int = Field(default=4, ge=2, multiple_of=2, description="Trials a round, in antithetic pairs.")
    sigma: float = Field(default=0.5, gt=0, description="Standard deviation of what is tried around the mean.")
    rate: float = Field(default=0.25, gt=0, description="Step size of the mean.")
    optimizer: Literal["plain", "adam"] = Field(default="plain", description="adam: as the released code.")


class GridSearch(Trials):
    """Every value of a grid, for all modalities at once or one modality after the other."""

    kind: Literal["grid"]
    values: list[float] = Field(min_length=2, description="What is tried.")
    mode: Literal["shared", "coordinate"] = Field(
        default="shared", description="shared: one number for all; coordinate: one modality at a time, a round each."
    )

    @model_validator(mode="after")
    def _within_range(self) -> Self:
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"values: {self.values} has a value twice")
        if outside := [v for v in self.values if not self.low <= v <= self.high]:
            raise ValueError(f"values: {outside} outside low ({self.low:g}) to high ({self.high:g})")
        return self


Search = Annotated[ReinforceSearch | GridSearch, Field(discriminator="kind")]

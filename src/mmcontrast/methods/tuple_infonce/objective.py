"""Hyper-parameters of TupleInfoNCE and of its sample optimisation."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mmcontrast.config.augmentations import Augmentations
from mmcontrast.config.base import Strict, known
from mmcontrast.config.merging import CellConfig
from mmcontrast.config.objective import Objective
from mmcontrast.errors import ConfigError


class StrengthSearch(Strict):
    """A second policy, over beta: one factor on the noise of all modalities' augmentations, in turn with alpha."""

    rounds: int = Field(gt=0, description="Updates of the mean.")
    trials: int = Field(default=4, ge=2, multiple_of=2, description="Trials per round, in antithetic pairs.")
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


class Trials(Strict):
    """What every kind of search has in common. A trial trains a clone for some steps and scores it."""

    steps: int = Field(gt=0, description="Training steps of one trial.")
    held_out: int = Field(
        default=256, ge=2, description="TRAIN tuples that trials do not train on and that score them, without labels."
    )
    dropping: float = Field(
        default=0.5, ge=0, lt=1, description="Share of a trial's steps that contrast one modality with the others."
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
    """A Gaussian policy over one amount per modality, whose mean climbs the reward (the paper's search)."""

    kind: Literal["reinforce"]
    rounds: int = Field(gt=0, description="Updates of the mean.")
    trials: int = Field(default=4, ge=2, multiple_of=2, description="Trials per round, in antithetic pairs.")
    sigma: float = Field(default=0.5, gt=0, description="Standard deviation of what is tried around the mean.")
    rate: float = Field(default=0.25, gt=0, description="Step size of the mean.")


class GridSearch(Trials):
    """Every value of a grid, for all modalities at once."""

    kind: Literal["grid"]
    values: list[float] = Field(min_length=2, description="What is tried.")

    @model_validator(mode="after")
    def _within_range(self) -> Self:
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"values: {self.values} has a value twice")
        if outside := [v for v in self.values if not self.low <= v <= self.high]:
            raise ValueError(f"values: {outside} outside low ({self.low:g}) to high ({self.high:g})")
        return self


Search = Annotated[ReinforceSearch | GridSearch, Field(discriminator="kind")]


class TupleInfoNCEObjective(Objective):
    """TupleInfoNCE: tuples against other tuples, and against tuples with one modality of another row."""

    alpha: float | dict[str, float] = Field(
        default=1.0, description="Amount of negatives disturbed in each modality: one number, or modality -> number."
    )
    naive: bool = Field(default=False, description="Naive tuple contrast, the baseline: needs an alpha of 0.")
    form: Literal["ratio", "weight"] = Field(
        default="ratio",
        description="What alpha counts. ratio: disturbed negatives for each naive one (alpha_k / alpha_0 of the "
        "paper); weight: of every disturbed tuple in the denominator.",
    )
    rows: Literal["all", "own", "others", "every_own"] = Field(
        default="all",
        description="Disturbed tuples an anchor meets: of all rows, of its own row, of the other rows; every_own: its "
        "own row with the modality of each other row in turn, of a linear fusion.",
    )
    copies: int = Field(default=1, ge=1, description="Disturbed tuples of each row and modality, in every step.")
    tau: float = Field(default=0.07, gt=0, description="Temperature.")
    detach_keys: bool = Field(default=True, description="No gradient through positives and disturbed tuples.")
    dropping: float = Field(
        default=0.0, ge=0, lt=1, description="Share of steps that contrast one modality alone with all the others."
    )
    search: Search | None = Field(
        default=None, description="Find alpha first, on held-out training tuples, starting from the one given."
    )
    augmentations: Augmentations
    fusion: Literal["late", "early"] = Field(
        default="late",
        description="late: an encoder per modality, and an MLP on the concatenated encodings. early: ONE encoder of "
        "all modalities side by side (vectors, or images of one size), and an MLP on its encoding; every kind of "
        "disturbed tuple is then a further pass of the whole network.",
    )
    fusion_hidden: list[Annotated[int, Field(gt=0)]] = Field(
        description="Hidden widths of the MLP on the encodings; [] = one linear layer."
    )
    fusion_width: int | None = Field(
        default=None, gt=0, description="Width of the fused embedding; null = model.fusion.width."
    )

    @field_validator("alpha")
    @classmethod
    def _at_least_zero(cls, alpha: float | dict[str, float]) -> float | dict[str, float]:
        for name, value in alpha.items() if isinstance(alpha, dict) else [("", alpha)]:
            if not 0 <= value < math.inf:
                of = f" of '{name}'" if name else ""
                raise ValueError(f"the amount{of} is {value:g}, and must be finite and at least 0")
        return alpha

    @model_validator(mode="after")
    def _naive_only_by_name(self) -> Self:
        none = not any(self.alpha.values() if isinstance(self.alpha, dict) else [self.alpha])
        if none and not self.naive:
            raise ValueError(
                "alpha is 0 for every modality, which is naive tuple contrast; say `naive: true` to mean it"
            )
        if self.naive and not none:
            raise ValueError(f"naive: true has no disturbed negatives, and alpha is {self.alpha}; set alpha to 0")
        return self

    @model_validator(mode="after")
    def _rows_that_can_be_had(self) -> Self:
        if self.rows == "every_own":
            if self.fusion == "early":
                raise ValueError("rows: every_own comes from products of a linear late fusion; set fusion to late")
            if self.fusion_hidden:
                raise ValueError("rows: every_own comes from products of a linear fusion; set fusion_hidden to []")
            if self.copies > 1:
                raise ValueError("rows: every_own draws no rows; set copies to 1")
        return self

    @model_validator(mode="after")
    def _searched_freely(self) -> Self:
        if self.search is None:
            return self
        if self.naive:
            raise ValueError("search: naive: true has no alpha to find; remove one of the two")
        if self.search.beta and not any(step["name"] == "noise" for s in self.augmentations.values() for step in s):
            raise ValueError("search.beta: scales noise, and there is none among the augmentations; remove one of them")
        for value in self.alpha.values() if isinstance(self.alpha, dict) else [self.alpha]:
            if not self.search.low <= value <= self.search.high:
                raise ValueError(
                    f"search: starts from an alpha of {value:g}, outside low ({self.search.low:g}) to high "
                    f"({self.search.high:g})"
                )
        return self


def alpha_by_modality(cell: CellConfig, objective: TupleInfoNCEObjective) -> list[float]:
    """K numbers in the dataset's order; ConfigError where alpha is by modality, and not by those of the dataset."""
    where = f"params/methods/{cell.method}.yaml ({cell.name}): objective.alpha"
    given = objective.alpha
    if not isinstance(given, dict):
        return [given] * len(cell.modalities)
    for name in given:
        known(where, "modality", name, cell.modalities)
    if missing := [name for name in cell.modalities if name not in given]:
        raise ConfigError(f"{where}: nothing for {', '.join(missing)}; give a number for each modality, 0 for none")
    return [given[name] for name in cell.modalities]


def fused_width(cell: CellConfig, objective: TupleInfoNCEObjective) -> int:
    """Width D of the fused embedding: the objective's own, or that of model.fusion; ConfigError where there is none."""
    if objective.fusion_width is not None:
        return objective.fusion_width
    if cell.model.fusion is None:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): objective.fusion_width: not given, and there is no "
            "model.fusion to take it from"
        )
    return cell.model.fusion.width


OBJECTIVE = TupleInfoNCEObjective

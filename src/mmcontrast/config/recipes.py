"""Models of `params/recipes/` and of the choices that tuning leaves."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mmcontrast.config.augmentations import Augmentations
from mmcontrast.config.base import Strict
from mmcontrast.config.metrics import measure


class RecipeOverrides(Strict):
    """What a recipe has otherwise on some dataset."""

    model: dict[str, Any] = Field(default={})
    training: dict[str, Any] = Field(default={})
    selection: dict[str, Any] = Field(default={})
    augmentations: Augmentations = Field(default={})


class TuningPlan(Strict):
    """Trials that every method gets on every dataset, before any reported run."""

    seed: int = Field(ge=0, description="Seed of the trials, which no reported run uses.")
    rates: list[Annotated[float, Field(gt=0)]] = Field(
        min_length=2, description="Learning rates to try; ties go to the first."
    )
    datasets: list[str] = Field(
        min_length=1, description="Datasets that are tuned; others take the recipe's own learning rate."
    )


class Recipe(Strict):
    """Encoders, training, augmentations and scoring that methods share, so that only the objective differs."""

    title: str
    description: str = Field(description="What is shared, and what is scored, for the reader of the report.")
    model: dict[str, Any]
    training: dict[str, Any] = Field(description="The stage: `pretrain` of a method without labels, else `finetune`.")
    selection: dict[str, Any] = Field(default={})
    augmentations: Augmentations = Field(default={}, description="Of every objective that augments.")
    tuning: TuningPlan
    datasets: dict[str, RecipeOverrides] = Field(default={}, description="Overrides by dataset.")


class Trial(Strict):
    """One run of a method at one learning rate."""

    lr: float = Field(gt=0)
    validation: float = Field(description="Score of the linear probe on validation.")
    seconds: float = Field(ge=0, description="Training time.")


class Choice(Strict):
    """The learning rate of a method on a dataset, and the trials it was chosen from."""

    lr: float = Field(gt=0)
    metric: str = Field(description="What was scored.")
    trials: list[Trial] = Field(min_length=2)

    @model_validator(mode="after")
    def _best_of_its_trials(self) -> Self:
        best = max(self.trials, key=lambda t: measure(self.metric).sign * t.validation)
        if self.lr != best.lr:
            raise ValueError(f"lr: {self.lr:g} is not the best of its trials, which is {best.lr:g}")
        return self


class Tuning(Strict):
    """What `mmcontrast tune` found: dataset -> method -> the choice."""

    choices: dict[str, dict[str, Choice]]

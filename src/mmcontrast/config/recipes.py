"""Models of `params/recipes/` and of the choices that tuning leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Any, Literal, Self

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
    label_counts: list[Annotated[int, Field(gt=0)]] | None = Field(default=None, description="null = the recipe's own.")


Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Rates = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2)]


class TunedDataset(Strict):
    """What tuning is like on one dataset, where it is not as the plan says for all."""

    seeds: Seeds | None = Field(default=None, description="Seeds of the trials; null = the plan's.")
    rates: Rates | None = Field(default=None, description="Learning rates to try, ascending; null = the plan's.")
    batch_sizes: list[Annotated[int, Field(ge=2)]] = Field(
        default=[], description="Batch sizes to try, each at every rate; default: the recipe's own alone."
    )
    tasks: list[str] = Field(
        default=[], description="Tasks whose probes count as well: the mean of theirs and the label's own decides."
    )
    choices_of: str | None = Field(
        default=None, description="The dataset whose choices are taken here too, so that nothing is tried on this one."
    )

    @model_validator(mode="after")
    def _taken_or_tried(self) -> Self:
        _ascending(self.rates or [])
        if self.choices_of is not None and self.model_fields_set != {"choices_of"}:
            raise ValueError("choices_of: nothing is tried where another's choices are taken; leave the rest out")
        return self


class TuningPlan(Strict):
    """Trials that every method gets on every dataset, before any reported run."""

    seeds: Seeds = Field(description="Seeds of the trials, which no reported run uses.")
    rates: Rates = Field(
        description="Learning rates to try, ascending; more beyond either end until the best is not at an end."
    )
    datasets: dict[str, TunedDataset] = Field(
        min_length=1, description="Datasets that are tuned; others take the recipe's own learning rate."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _ascending(self.rates)
        tried = [d for d, of_it in self.datasets.items() if of_it.choices_of is None]
        for name, of_it in self.datasets.items():
            if of_it.choices_of not in (None, *tried):
                raise ValueError(f"datasets.{name}.choices_of: '{of_it.choices_of}' is not one that is tried, {tried}")
        return self

    def on(self, dataset: str) -> TunedDataset:
        """What is tried on a dataset, with seeds and rates."""
        of_it = self.datasets[dataset]
        return of_it.model_copy(update={"seeds": of_it.seeds or self.seeds, "rates": of_it.rates or self.rates})


def _ascending(rates: Sequence[float]) -> None:
    if list(rates) != sorted(set(rates)):
        raise ValueError(f"rates: {rates} are not in ascending order; sort them, each once")


class Recipe(Strict):
    """Encoders, training, augmentations and scoring that methods share, so that only the objective differs."""

    title: str
    description: str = Field(description="What is shared, and what is scored, for the reader of the report.")
    model: dict[str, Any]
    training: dict[str, Any] = Field(description="The stage: `pretrain` of a method without labels, else `finetune`.")
    selection: dict[str, Any] = Field(default={})
    augmentations: Augmentations = Field(default={}, description="Of every objective that augments.")
    label_counts: list[Annotated[int, Field(gt=0)]] = Field(
        default=[], description="Labels per class that further probes are fitted on, where labels are classes."
    )
    tuning: TuningPlan
    datasets: dict[str, RecipeOverrides] = Field(default={}, description="Overrides by dataset.")

    def label_counts_of(self, dataset: str) -> list[int]:
        """Labels per class that further probes are fitted on, on a dataset."""
        own = self.datasets.get(dataset, RecipeOverrides()).label_counts
        return self.label_counts if own is None else own


class Trial(Strict):
    """A method at one learning rate and batch size, with every tuning seed."""

    lr: float = Field(gt=0)
    batch_size: int | None = Field(default=None, description="null = the recipe's own.")
    validation: list[float] = Field(description="Score of the linear probe on validation by seed; [] = it diverged.")
    loss: list[float] = Field(default=[], description="The probe's loss on validation by seed, which decides ties.")
    seconds: float = Field(ge=0, description="CPU time of training with all seeds.")


def best_trial(trials: Sequence[Trial], metric: str) -> Trial:
    """That of the best mean score on validation; ties go to the lower mean loss, then to the first."""

    def key(trial: Trial) -> tuple[float, float]:
        if not trial.validation:
            return -math.inf, -math.inf
        return measure(metric).sign * fmean(trial.validation), -fmean(trial.loss or [0.0])

    return max(trials, key=key)


class Choice(Strict):
    """The learning rate of a method on a dataset, and the trials it was chosen from."""

    lr: float = Field(gt=0)
    batch_size: int | None = Field(default=None, description="null = the recipe's own.")
    metric: str = Field(description="What was scored.")
    tasks: list[str] = Field(default=[], description="Tasks that were scored beside the label; the mean counts.")
    reason: str | None = Field(default=None, description="Why the rate is at an end of those tried, where it is.")
    trials: list[Trial] = Field(min_length=2)

    @property
    def missing_side(self) -> Literal["lower", "higher"] | None:
        """Where no further rate was tried at the chosen batch size; None where the chosen one is not at an end."""
        rates = [t.lr for t in self.trials if t.batch_size == self.batch_size]
        return "lower" if self.lr == min(rates) else "higher" if self.lr == max(rates) else None

    @model_validator(mode="after")
    def _best_of_its_trials(self) -> Self:
        best = best_trial(self.trials, self.metric)
        if (self.lr, self.batch_size) != (best.lr, best.batch_size):
            raise ValueError(f"lr: {self.lr:g} is not the best of its trials, which is {best.lr:g}")
        if self.missing_side and self.reason is None:
            raise ValueError(
                f"lr: {self.lr:g} is at an end of what was tried; run `mmcontrast tune` again, or say why in `reason`"
            )
        return self


class Tuning(Strict):
    """What `mmcontrast tune` found: dataset -> method -> the choice."""

    choices: dict[str, dict[str, Choice]]

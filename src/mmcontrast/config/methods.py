"""Models of `params/methods/`, of the recipes that methods share, of the choices that tuning leaves, and of papers."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from mmcontrast.config.augmentations import Augmentations
from mmcontrast.config.base import Strict, known
from mmcontrast.config.metrics import measure
from mmcontrast.errors import nearest

BASE_VARIANT = "base"
UNTRAINED = "untrained"
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


def _ascending(rates: list[float]) -> list[float]:
    if rates != sorted(set(rates)):
        raise ValueError(f"{rates} are not in ascending order; sort them, each once")
    return rates


Rates = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2), AfterValidator(_ascending)]


def untrained_twin(variant: str) -> str:
    """Name of a variant's untrained twin, see `Method.variant`."""
    return UNTRAINED if variant == BASE_VARIANT else f"{variant}_{UNTRAINED}"


class Overrides(Strict):
    """Values laid over others, section by section. `pretrain: null` takes a stage away."""

    objective: dict[str, Any] = Field(default={})
    model: dict[str, Any] = Field(default={})
    pretrain: dict[str, Any] | None = None
    finetune: dict[str, Any] | None = None
    selection: dict[str, Any] = Field(default={})

    def given(self) -> dict[str, Any]:
        """Only what the file says, explicit nulls included; not which recipe a variant has, nor for how long."""
        return self.model_dump(exclude_unset=True, exclude={"recipe", "train_for"})


class Variant(Overrides):
    """A method with some values changed; with `recipe`, on encoders and training that it shares with other methods."""

    recipe: str | None = Field(
        default=None,
        description="File in params/recipes/ whose model, training and selection replace the method's own. Only the "
        "objective may differ then; `pretrain: {epochs: 0}` leaves the weights as they are initialised, and "
        "`pretrain: {batch_size: N}` (or `finetune`) is for an ablation of the batch size.",
    )
    train_for: PositiveFloat | dict[str, PositiveFloat] = Field(
        default=1.0,
        description="Of a variant with a recipe: its epochs times this, one number or one by dataset (1 for others): "
        "equal steps at another batch size, or the seconds of a slower method.",
    )

    def _wrong(self) -> Iterator[str]:
        own = self.model_dump(exclude_unset=True, exclude={"recipe", "objective", "train_for"})
        batch = own.keys() <= {"pretrain", "finetune"} and all(set(v or {}) == {"batch_size"} for v in own.values())
        if self.recipe is not None and not batch and own != {"pretrain": {"epochs": 0}}:
            yield (
                f"a variant with a recipe takes all of it, and this one gives {', '.join(own)} of its own; give "
                "`objective` alone, `pretrain: {epochs: 0}`, or a batch size (`pretrain: {batch_size: N}`)"
            )
        if self.recipe is None and "train_for" in self.model_fields_set:
            yield "train_for: a factor on the epochs of a recipe, and there is none; give the epochs"


class Method(Overrides):
    """A method's file: defaults, then what differs by dataset, then its variants."""

    title: str
    paper: str | None = Field(default=None, description="Key of the paper in params/papers/.")
    implementation: str = Field(description="Module in mmcontrast.methods.")
    recipe_from: str | None = Field(
        default=None,
        description="Method whose model, pretrain, finetune and selection are taken over: same encoders, same recipe.",
    )
    datasets: dict[str, Overrides] = Field(default={}, description="Overrides by dataset.")
    variants: dict[str, Variant] = Field(
        default={},
        description="Overrides by variant; every method also has the variant `base`, without any, and a method without "
        "labels an untrained twin of each: `shared_untrained` of `shared`, and `untrained` of `base`.",
    )

    def variant(self, name: str) -> Variant | None:
        """A variant by name, declared or not; an untrained twin has the other's weights as they are initialised."""
        if name in (BASE_VARIANT, *self.variants):
            return self.variants.get(name, Variant())
        stem, _, last = name.rpartition("_")
        twin = self.variant(stem or BASE_VARIANT) if last == UNTRAINED else None
        if twin is None or twin.finetune is not None or self.finetune is not None:
            return None
        return Variant.model_validate(twin.model_dump(exclude_unset=True) | {"pretrain": {"epochs": 0}})


def known_variant(where: str, spec: Method, name: str | None) -> None:
    """As `known`, of a method's variants and their untrained twins."""
    if name is not None and spec.variant(name) is None:
        known(where, "variant", name, [BASE_VARIANT, *spec.variants])


class RecipeOverrides(Strict):
    """What a recipe has otherwise on some dataset."""

    model: dict[str, Any] = Field(default={})
    training: dict[str, Any] = Field(default={})
    selection: dict[str, Any] = Field(default={})
    augmentations: Augmentations = Field(default={})
    label_counts: list[Annotated[int, Field(gt=0)]] | None = Field(default=None, description="null = the recipe's own.")


class TunedDataset(Strict):
    """What tuning is like on one dataset, where it is not as the plan says for all."""

    seeds: Seeds | None = Field(default=None, description="Seeds of the trials; null = the plan's.")
    rates: Rates | None = Field(default=None, description="Learning rates to try, ascending; null = the plan's.")
    tasks: list[str] = Field(
        default=[], description="Tasks whose probes count too: their and the label's mean decides."
    )
    choices_of: str | None = Field(default=None, description="Take this dataset's choices; nothing is tried here.")

    def _wrong(self) -> Iterator[str]:
        if self.choices_of is not None and self.model_fields_set != {"choices_of"}:
            yield "choices_of: nothing is tried where another's choices are taken; leave the rest out"


class TuningPlan(Strict):
    """Trials that every method gets on every dataset, before any reported run."""

    seeds: Seeds = Field(description="Seeds of the trials, which no reported run uses.")
    rates: Rates = Field(description="Learning rates to try, ascending; more beyond an end where the best is at it.")
    datasets: dict[str, TunedDataset] = Field(min_length=1, description="Those tuned; others take the recipe's rate.")

    def _wrong(self) -> Iterator[str]:
        tried = [d for d, of_it in self.datasets.items() if of_it.choices_of is None]
        for name, of_it in self.datasets.items():
            if of_it.choices_of not in (None, *tried):
                yield f"datasets.{name}.choices_of: '{of_it.choices_of}' is not one that is tried, {tried}"

    def on(self, dataset: str) -> TunedDataset:
        """What is tried on a dataset, with seeds and rates."""
        of_it = self.datasets[dataset]
        return of_it.model_copy(update={"seeds": of_it.seeds or self.seeds, "rates": of_it.rates or self.rates})


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
    """A method at one learning rate, with every tuning seed."""

    lr: float = Field(gt=0)
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
    metric: str = Field(description="What was scored.")
    tasks: list[str] = Field(default=[], description="Tasks that were scored beside the label; the mean counts.")
    reason: str | None = Field(default=None, description="Why the rate is at an end of those tried, where it is.")
    trials: list[Trial] = Field(min_length=2)

    @property
    def missing_side(self) -> Literal["lower", "higher"] | None:
        """Where no further rate was tried; None where the chosen one is not at an end."""
        rates = [t.lr for t in self.trials]
        return "lower" if self.lr == min(rates) else "higher" if self.lr == max(rates) else None

    def _wrong(self) -> Iterator[str]:
        best = best_trial(self.trials, self.metric)
        if self.lr != best.lr:
            yield f"lr: {self.lr:g} is not the best of its trials, which is {best.lr:g}"
        if self.missing_side and self.reason is None:
            yield f"lr: {self.lr:g} is at an end; run `mmcontrast tune` again, or say why in `reason`"


class Tuning(Strict):
    """What `mmcontrast tune` found: dataset -> method -> the choice."""

    choices: dict[str, dict[str, Choice]]


class Published(Strict):
    """A row somebody printed. A number that could not be found is left out."""

    row: str = Field(description="Name of the row in the source.")
    dataset: str = Field(description="A dataset of params/datasets/; of what is not run, a key of `why`.")
    values: dict[str, float] = Field(
        description="metric: value, in percent; R, U and S where there is `information`; else a key of `titles`."
    )
    spread: dict[str, float] = Field(default={}, description="metric: the spread printed beside it.")
    seeds: int | None = Field(default=None, gt=1, description="Runs that the spread is over, where the source says so.")
    method: str | None = Field(default=None, description="Our method of the same name, where there is one.")
    variant: str = "base"
    source: str | None = Field(default=None, description="Where it was read; default: the table's `source`.")
    verified: Literal["read", "digitised", "second_hand", "run"] = Field(
        default="read",
        description="read: in the paper, or on a page or in a repository of its authors; digitised: off a curve of "
        "theirs; second_hand: as another source quotes it; run: not printed, but found by running their code.",
    )

    def _wrong(self) -> Iterator[str]:
        if unknown := sorted(set(self.spread) - set(self.values)):
            yield f"spread: {unknown} have no value; a spread stands beside a value"
        if self.seeds is not None and not self.spread:
            yield f"seeds: {self.seeds} runs of what? they are those that a `spread` is of; give both"


class PublishedTable(Strict):
    """Published rows, and where they were read."""

    source: str | None = Field(default=None, description="Where the numbers were read.")
    rows: list[Published] = Field(default=[])
    notes: list[str] = Field(default=[], description="What was found about these numbers; shown below the table.")

    def _wrong(self) -> Iterator[str]:
        if self.source is None and any(p.source is None for p in self.rows):
            yield "source: say where the published numbers were read"


class NotRun(PublishedTable):
    """A table or figures of the paper of which nothing is run here."""

    title: str
    caption: str
    titles: dict[str, str] = Field(default={}, description="Key in `values` of the rows: its title, with its unit.")
    why: dict[str, str] = Field(min_length=1, description="Dataset, table or figure: why it is not run here.")

    def _wrong(self) -> Iterator[str]:
        yield from super()._wrong()
        for p in self.rows:
            if p.dataset not in self.why:
                yield f"rows ({p.row}): dataset: '{p.dataset}' is not in `why`; {nearest(p.dataset, self.why)}"
            if unknown := [m for m in p.values if m not in self.titles]:
                near = nearest(unknown[0], self.titles)
                yield f"rows ({p.row}): values: '{unknown[0]}' is not in `titles`; {near}"


class Paper(Strict):
    """Bibliography entry, and what the paper shows."""

    title: str
    authors: str
    venue: str
    year: int
    url: str
    bibtex: str
    published: dict[str, PublishedTable] = Field(default={}, description="Tables that stand beside rows of ours.")
    not_run: dict[str, NotRun] = Field(default={}, description="Tables and figures of which nothing is run here.")

"""What a cell is trained with: the values of several files of `params/`, one laid over another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal

from pydantic import BaseModel, Field

from mmcontrast.config.base import Faults, Grown, known, validate
from mmcontrast.config.datasets import Dataset, Modality, Retrieval, ScoredBy
from mmcontrast.config.experiments import Suite
from mmcontrast.config.methods import Method, Overrides, Recipe, Tuning, Variant
from mmcontrast.config.metrics import Kind, Metric, Target, Tasks, targets_of
from mmcontrast.config.objective import Objective
from mmcontrast.config.training import Engine, Model, Selection, Stage
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.methods.registry import OBJECTIVES

STAGES = ("pretrain", "finetune")
SHARED_SECTIONS = ("model", "pretrain", "finetune", "selection")
SECTIONS: dict[str, type[BaseModel]] = {"model": Model, "pretrain": Stage, "finetune": Stage, "selection": Selection}


class CellConfig(Grown):
    """Everything that decides a cell's result: what remains of params/ after all merging."""

    LATER = ("target", "case_weights", "label_counts")

    dataset: str
    method: str
    variant: str
    implementation: str
    modalities: dict[str, Modality]
    classes: list[str]
    target: Kind = "classes"
    tasks: Tasks = Field(default={})
    class_weighted: list[str] = Field(default=[])
    case_weights: bool = False
    probe_from: str | None = None
    scenes: str | None = None
    metrics: list[Metric]
    retrieval: Retrieval | None = None
    objective: dict[str, Any]
    model: Model
    pretrain: Stage | None
    finetune: Stage | None
    selection: Selection
    recipe: str | None = Field(default=None, description="Shared recipe it is trained on; a probe then scores it.")
    label_counts: list[int] = Field(default=[], description="Labels per class that probes are fitted on, besides all.")
    seeds: list[int]
    engine: Engine
    followed_by: Literal["finetune"] | None = Field(default=None, description="Later stage that decides nothing here.")

    def _wrong(self) -> Iterator[str]:
        if self.case_weights and self.scored_by == "classifier":
            yield (
                f"case_weights: cases of dataset '{self.dataset}' have weights, which a probe alone takes, and this "
                "cell is scored by its own classifier; use a variant that a recipe trains"
            )

    @property
    def name(self) -> str:
        """dataset/method/variant, as it is typed on the command line."""
        return f"{self.dataset}/{self.method}/{self.variant}"

    @property
    def targets(self) -> dict[str, Target]:
        """Task -> what its labels are and are scored by, the main ones under the empty name first."""
        return targets_of(self.target, self.classes, self.tasks, self.metrics)

    @property
    def data(self) -> list[tuple[str, str]]:
        """(dataset, split) of every prepared file the cell reads."""
        own = [(self.dataset, split) for split in ("train", "val", "test")]
        return own if self.probe_from in (None, self.dataset) else [*own, (self.probe_from, "train")]

    @property
    def stages(self) -> list[str]:
        """The training stages this cell has, in order."""
        return [s for s in ("pretrain", "finetune") if getattr(self, s) is not None]

    @property
    def scored_by(self) -> ScoredBy:
        """What makes scores of what the last stage leaves behind."""
        if self.retrieval is not None:
            return "retrieval"
        has_classifier = self.finetune is not None and OBJECTIVES[self.implementation].classifier
        return "classifier" if has_classifier and self.recipe is None else "probe"

    @property
    def last_stage(self) -> str:
        """The stage whose outputs are scored and shown."""
        return self.followed_by or self.stages[-1]

    def of_stage(self, stage: str) -> CellConfig:
        """What of this decides the result of one of its stages, or of `evaluate`: an equal one gives equal outputs."""
        if stage == "evaluate":
            return self.model_copy(update={"engine": Engine()})
        if stage == "pretrain" and self.last_stage != stage:
            later: dict[str, Any] = {"finetune": None, "metrics": [], "followed_by": "finetune", "label_counts": []}
            return self.model_copy(update=later)
        return self.model_copy(update={"label_counts": []})


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, mapping by mapping; anything else is replaced. A mapping over null starts from
    nothing, null over a mapping removes it. Neither is changed; what is not merged is shared: do not change it.
    """
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        out[key] = merge(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
    return out


# `file: key`, and what it says of a cell
Written = tuple[str, dict[str, Any]]


def merged(written: Sequence[Written]) -> dict[str, Any]:
    """What comes of values of several places, the first at the bottom."""
    return reduce(merge, (said for _, said in written), dict[str, Any]())


def objective_model(name: str, where: str) -> type[Objective]:
    """The model of an implementation's objective. Raises ConfigError where there is none."""
    if name not in OBJECTIVES:
        raise ConfigError(f"{where}: implementation: no '{name}'; {nearest(name, OBJECTIVES)}")
    return OBJECTIVES[name]


@dataclass(frozen=True)
class Layers:
    """What a cell's values are merged from; without tunings, a recipe's learning rate is not one chosen by trials."""

    methods: Mapping[str, Method]
    recipes: Mapping[str, Recipe]
    tunings: Mapping[str, Tuning] | None

    def values(self, method: str, dataset: str, variant: Variant) -> dict[str, Any]:
        """The merged sections of a cell, before the suite's overrides."""
        return merged(self.written(method, dataset, "", variant))

    def written(self, method: str, dataset: str, name: str, variant: Variant) -> list[Written]:
        """What is said of a cell, what is laid over all else last; `name` is the variant's, for messages."""
        if variant.recipe is not None:
            out = self._of_recipe(method, dataset, variant, variant.recipe)
        else:
            lender = self.methods[method].recipe_from
            lent = self._declared(lender, dataset, SHARED_SECTIONS, True) if lender is not None else []
            own = self._declared(method, dataset, (*SHARED_SECTIONS, "objective"))
            out = [*lent[:1], *own[:1], *lent[1:], *own[1:]]
        return [*out, (f"params/methods/{method}.yaml: variants.{name}", variant.given())]

    def _declared(self, method: str, dataset: str, keys: Sequence[str], unset: bool = False) -> list[Written]:
        """What a method's file says on all datasets, and what on this one. A stage that is null is taken away."""
        spec, file = self.methods[method], f"params/methods/{method}.yaml"
        on_all = {k: getattr(spec, k) for k in keys if unset or k in spec.model_fields_set}
        on_it = spec.datasets.get(dataset, Overrides()).given()
        return [(file, on_all), (f"{file}: datasets.{dataset}", {k: v for k, v in on_it.items() if k in keys})]

    def _of_recipe(self, method: str, dataset: str, variant: Variant, name: str) -> list[Written]:
        """The objective is the method's own, all else is the recipe's."""
        where, recipe, file = f"params/methods/{method}.yaml", self.recipes[name], f"params/recipes/{name}.yaml"
        supervised = bool(self.values(method, dataset, Variant()).get("finetune"))
        stage, other = ("finetune", "pretrain") if supervised else ("pretrain", "finetune")
        if other in variant.given():
            raise ConfigError(
                f"{where}: variants: with `recipe: {name}` {method} is trained by `{stage}`, and a variant gives "
                f"`{other}`; give `{stage}` in its place"
            )
        out = self._declared(method, dataset, ("objective",))
        augmented = "augmentations" in objective_model(self.methods[method].implementation, where).model_fields
        if augmented:  # not those of the method's file
            out.append((file, {"objective": {"augmentations": None}}))
        for place, said in ((file, recipe), (f"{file}: datasets.{dataset}", recipe.datasets.get(dataset))):
            if said is not None:
                layer: dict[str, Any] = {"model": said.model, "selection": said.selection, stage: said.training}
                if augmented:
                    layer["objective"] = {"augmentations": said.augmentations}
                out.append((place, layer))
        # nothing is learned in no epochs, so nothing is tuned
        trained = (variant.pretrain or {}).get("epochs") != 0
        if trained and dataset in recipe.tuning.datasets and self.tunings is not None:
            choices = self.tunings[name].choices if name in self.tunings else {}
            tried_on = recipe.tuning.datasets[dataset].choices_of or dataset
            if method not in choices.get(tried_on, {}):
                raise ConfigError(
                    f"params/tuning/{name}.yaml: choices.{tried_on}: no learning rate of {method} has been chosen; run "
                    f"`mmcontrast tune {name} --datasets {tried_on}`"
                )
            out.append((file, {stage: {"optimizer": {"lr": choices[tried_on][method].lr}}}))
        factor = variant.train_for.get(dataset, 1) if isinstance(variant.train_for, dict) else variant.train_for
        return [*out, (file, {stage: {"epochs": max(1, round(factor * merged(out)[stage]["epochs"]))}})]


def _origin(keys: list[str], written: Sequence[Written], who: str) -> str:
    """`file (cell): key` where a value was written: the last place that says anything of it; else `who: key`."""
    for place, layer in reversed(written):
        value: Any = layer
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                break
            value = value[key]
        else:
            file, _, above = place.partition(": ")
            named = keys
            if file.startswith("params/recipes/") and keys[0] in (*STAGES, "objective"):
                named = [*(["training"] if keys[0] in STAGES else []), *keys[1:]]
            return f"{file}{who[who.index(' (') :]}: {'.'.join([above, *named] if above else named)}"
    return f"{who}: {'.'.join(keys)}"


def build_cell(
    names: tuple[str, str, str], data: Dataset, layers: Layers, suite: Suite, where: str, suite_name: str
) -> CellConfig:
    """The cell of (dataset, method, variant) under a suite; `where` is the method's file, for messages."""
    dataset, method, variant = names
    spec = layers.methods[method]
    given = spec.variant(variant) or Variant()
    written = layers.written(method, dataset, variant, given)
    values = merged(written)
    # a suite shortens stages, it never adds one
    shortened = {k: v for k, v in suite.overrides.given().items() if k not in STAGES or values.get(k)}
    if shortened.get("pretrain") and values["pretrain"].get("epochs") == 0:  # an untrained cell stays untrained
        shortened["pretrain"] = {k: v for k, v in shortened["pretrain"].items() if k != "epochs"}
    values = merge(values, shortened)
    written.append((f"params/suites/{suite_name}.yaml: overrides", shortened))
    who = f"{where} ({dataset}/{method}/{variant})"
    origin = partial(_origin, written=written, who=who)
    model = objective_model(spec.implementation, where)
    faults, sections = Faults(), dict[str, BaseModel | None]()
    with faults.kept():
        objective = validate(model, values.get("objective", {}), who, "objective", origin)
    for key, section in SECTIONS.items():
        with faults.kept():
            sections[key] = None if values.get(key) is None else validate(section, values[key], who, key, origin)
    faults.tell()
    whole = {
        "dataset": dataset,
        "method": method,
        "variant": variant,
        "implementation": spec.implementation,
        **{key: getattr(data, key) for key in CellConfig.model_fields if key in Dataset.model_fields},
        "objective": objective.model_dump(mode="json"),
        "seeds": suite.seeds_of(dataset),
        "recipe": given.recipe,
        "label_counts": layers.recipes[given.recipe].label_counts_of(dataset) if given.recipe is not None else [],
        "engine": suite.engine,
        **{key: section for key, section in sections.items() if section is not None or key in STAGES},
    }
    cell = validate(CellConfig, whole, who)
    _check_whole(cell, objective, who)
    return cell


def _check_whole(cell: CellConfig, objective: Objective, who: str) -> None:
    if not cell.stages:
        raise ConfigError(f"{who}: neither `pretrain` nor `finetune` is given, so there is nothing to train")
    if cell.finetune is not None and cell.finetune.epochs == 0:
        raise ConfigError(f"{who}: finetune.epochs: 0 leaves no classifier to score; give at least 1")
    modality: str | None = getattr(objective, "modality", None)
    known(f"{who}: objective.modality: dataset '{cell.dataset}'", "modality", modality, cell.modalities)
    if len(cell.modalities) < 2:
        raise ConfigError(f"params/datasets/{cell.dataset}.yaml: modalities: a multimodal method needs at least two")
    for name, spec in cell.modalities.items() if objective.encoders else ():
        own = getattr(cell.model, spec.kind, None) is not None or spec.kind == "vector"
        if modality in (None, name) and not own and not {name, spec.kind} & set(cell.model.pretrained):
            of = f"modality '{name}' of dataset '{cell.dataset}' is of kind {spec.kind}"
            raise ConfigError(f"{who}: model.{spec.kind}: required, as {of}; give its encoder (docs/inputs.md)")

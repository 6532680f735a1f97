"""What a cell is trained with: the values of several files of `params/`, one laid over another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mmcontrast.config.cells import CellConfig
from mmcontrast.config.checks import known
from mmcontrast.config.datasets import Dataset
from mmcontrast.config.methods import Method, Overrides, Variant
from mmcontrast.config.objective import Objective
from mmcontrast.config.recipes import Recipe, Tuning
from mmcontrast.config.suites import Suite
from mmcontrast.config.training import Model, Selection, Stage
from mmcontrast.config.validation import Faults, validate
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.methods.registry import OBJECTIVES

STAGES = ("pretrain", "finetune")
SHARED_SECTIONS = ("model", "pretrain", "finetune", "selection")
# what a cell takes from its dataset as it is
OF_DATASET = (
    "modalities",
    "classes",
    "target",
    "tasks",
    "class_weighted",
    "case_weights",
    "probe_from",
    "scenes",
    "metrics",
    "retrieval",
)
SECTIONS: dict[str, type[BaseModel]] = {"model": Model, "pretrain": Stage, "finetune": Stage, "selection": Selection}


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, mapping by mapping; anything else is replaced. Neither is changed.

    A mapping laid over null starts from nothing, and null laid over a mapping removes it. What is not merged is shared
    with the two, and is not to be changed.
    """
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        out[key] = merge(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
    return out


def _given(overrides: dict[str, Overrides], name: str) -> dict[str, Any]:
    return overrides[name].given() if name in overrides else {}


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
        if variant.recipe is not None:
            return self._of_recipe(method, dataset, variant, variant.recipe)
        spec = self.methods[method]
        values: dict[str, Any] = {}
        layers: list[dict[str, Any]] = []
        by_dataset: list[dict[str, Any]] = []
        if spec.recipe_from is not None:
            lender = self.methods[spec.recipe_from]
            layers.append({k: getattr(lender, k) for k in SHARED_SECTIONS})
            by_dataset.append({k: v for k, v in _given(lender.datasets, dataset).items() if k in SHARED_SECTIONS})
        own = {k: getattr(spec, k) for k in (*SHARED_SECTIONS, "objective")}
        # a stage that is null in the file is taken away; one that is not mentioned is the lender's
        layers.append({k: v for k, v in own.items() if v or k in spec.model_fields_set})
        by_dataset.append(_given(spec.datasets, dataset))
        layers += [*by_dataset, variant.given()]
        for layer in layers:
            values = merge(values, layer)
        return values

    def written(self, method: str, dataset: str, variant: str, given: Variant) -> list[tuple[str, dict[str, Any]]]:
        """`file: key` and what it says of a cell, what is laid over all else last."""
        spec = self.methods[method]

        def of(name: str, keys: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
            file, of_dataset = f"params/methods/{name}.yaml", _given(self.methods[name].datasets, dataset)
            both = [(file, self.methods[name].given()), (f"{file}: datasets.{dataset}", of_dataset)]
            return [(place, {k: v for k, v in said.items() if k in keys}) for place, said in both]

        out = of(spec.recipe_from, SHARED_SECTIONS) if spec.recipe_from is not None else []
        out += of(method, (*SHARED_SECTIONS, "objective"))
        if given.recipe is not None:
            recipe, file = self.recipes[given.recipe], f"params/recipes/{given.recipe}.yaml"
            both = {file: recipe, f"{file}: datasets.{dataset}": recipe.datasets.get(dataset)}
            shared = [(place, said.model_dump(exclude_unset=True)) for place, said in both.items() if said is not None]
            out += [(place, said | dict.fromkeys(STAGES, said.get("training", {}))) for place, said in shared]
        return [*out, (f"params/methods/{method}.yaml: variants.{variant}", given.given())]

    def _of_recipe(self, method: str, dataset: str, variant: Variant, name: str) -> dict[str, Any]:
        """As `values`, of a variant with a recipe: the objective is the method's own, all else is the recipe's."""
        spec, where = self.methods[method], f"params/methods/{method}.yaml"
        recipe = self.recipes[name]
        shared = {k: getattr(recipe, k) for k in ("model", "training", "selection", "augmentations")}
        if dataset in recipe.datasets:
            shared = merge(shared, recipe.datasets[dataset].model_dump(exclude_unset=True))
        training = shared["training"]
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
            choice = choices[tried_on][method]
            training = merge(training, {"optimizer": {"lr": choice.lr}})
            training["batch_size"] = choice.batch_size or training.get("batch_size")
        factor = variant.train_for.get(dataset, 1) if isinstance(variant.train_for, dict) else variant.train_for
        training = merge(training, {"epochs": max(1, round(factor * training["epochs"]))})
        objective = merge(spec.objective, _given(spec.datasets, dataset).get("objective", {}))
        if "augmentations" in objective_model(spec.implementation, where).model_fields:
            objective["augmentations"] = shared["augmentations"]
        supervised = bool(self.values(method, dataset, Variant()).get("finetune"))
        stage, other = ("finetune", "pretrain") if supervised else ("pretrain", "finetune")
        if other in variant.given():
            raise ConfigError(
                f"{where}: variants: with `recipe: {name}` {method} is trained by `{stage}`, and a variant gives "
                f"`{other}`; give `{stage}` in its place"
            )
        values = {"model": shared["model"], "selection": shared["selection"], stage: training, "objective": objective}
        return merge(values, variant.given())


def _origin(keys: list[str], written: Sequence[tuple[str, Mapping[str, Any]]], who: str) -> str:
    """`file (cell): key` where a value was written: the last place that says anything of it; else `who: key`."""
    for place, layer in reversed(written):
        value: Any = layer
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                break
            value = value[key]
        else:
            file, _, above = place.partition(": ")
            recipe = file.startswith("params/recipes/") and keys[0] in STAGES
            named = ["training", *keys[1:]] if recipe else keys
            return f"{file}{who[who.index(' (') :]}: {'.'.join([above, *named] if above else named)}"
    return f"{who}: {'.'.join(keys)}"


def build_cell(
    names: tuple[str, str, str], data: Dataset, layers: Layers, suite: Suite, where: str, suite_name: str
) -> CellConfig:
    """The cell of (dataset, method, variant) under a suite; `where` is the method's file, for messages."""
    dataset, method, variant = names
    spec = layers.methods[method]
    given = spec.variant(variant) or Variant()
    values = layers.values(method, dataset, given)
    # a suite shortens stages, it never adds one
    shortened = {k: v for k, v in suite.overrides.given().items() if k not in STAGES or values.get(k)}
    if shortened.get("pretrain") and values["pretrain"].get("epochs") == 0:  # an untrained cell stays untrained
        shortened["pretrain"] = {k: v for k, v in shortened["pretrain"].items() if k != "epochs"}
    values = merge(values, shortened)
    who = f"{where} ({dataset}/{method}/{variant})"
    written = [
        *layers.written(method, dataset, variant, given),
        (f"params/suites/{suite_name}.yaml: overrides", shortened),
    ]

    def origin(keys: list[str]) -> str:
        return _origin(keys, written, who)

    model = objective_model(spec.implementation, where)
    faults, sections = Faults(), dict[str, BaseModel | None]()
    with faults.kept():
        objective = validate(model, values.get("objective", {}), who, "objective", origin)
    for key, section in SECTIONS.items():
        with faults.kept():
            sections[key] = None if values.get(key) is None else validate(section, values[key], who, key, origin)
    faults.tell()
    _check_sections(who, dataset, data, sections, objective)
    whole = {
        "dataset": dataset,
        "method": method,
        "variant": variant,
        "implementation": spec.implementation,
        **{key: getattr(data, key) for key in OF_DATASET},
        "objective": objective.model_dump(mode="json"),
        "seeds": suite.seeds_of(dataset),
        "recipe": given.recipe,
        "label_counts": layers.recipes[given.recipe].label_counts_of(dataset) if given.recipe is not None else [],
        "engine": suite.engine,
        **sections,
    }
    return validate(CellConfig, whole, who)


def _check_sections(
    who: str, dataset: str, data: Dataset, sections: Mapping[str, BaseModel | None], objective: Objective
) -> None:
    """There is something to train and to score, of modalities that the dataset has, and that have an encoder."""
    for key in ("model", "selection"):
        if sections[key] is None:
            raise ConfigError(f"{who}: {key}: required and not given")
    if sections["pretrain"] is None and sections["finetune"] is None:
        raise ConfigError(f"{who}: neither `pretrain` nor `finetune` is given, so there is nothing to train")
    if sections["finetune"] is not None and getattr(sections["finetune"], "epochs", 1) == 0:
        raise ConfigError(f"{who}: finetune.epochs: 0 leaves no classifier to score; give at least 1")
    modality: str | None = getattr(objective, "modality", None)
    known(f"{who}: objective.modality: dataset '{dataset}'", "modality", modality, data.modalities)
    if len(data.modalities) < 2:
        raise ConfigError(f"params/datasets/{dataset}.yaml: modalities: a multimodal method needs at least two")
    model: Any = sections["model"]
    for name, spec in data.modalities.items() if objective.encoders else ():
        own = getattr(model, spec.kind, None) is not None or spec.kind == "vector"
        if modality in (None, name) and not own and not {name, spec.kind} & set(model.pretrained):
            of = f"modality '{name}' of dataset '{dataset}' is of kind {spec.kind}"
            raise ConfigError(f"{who}: model.{spec.kind}: required, as {of}; give its encoder (docs/inputs.md)")

"""Read `params/`, refuse what is wrong by file and key, and work out what each cell is trained with."""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mmcontrast.config.cells import CellConfig
from mmcontrast.config.datasets import Dataset
from mmcontrast.config.experiments import CellRef, Experiment, Paper
from mmcontrast.config.methods import Method, Overrides, Variant
from mmcontrast.config.recipes import Recipe, Tuning
from mmcontrast.config.suites import Suite
from mmcontrast.config.training import Model, Selection, Stage
from mmcontrast.config.yaml_file import read_yaml
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.methods.registry import OBJECTIVES

M = TypeVar("M", bound=BaseModel)

BASE_VARIANT = "base"
STAGES = ("pretrain", "finetune")
DATA_KEYS = ("modalities", "classes", "tasks", "class_weighted", "probe_from", "scenes", "retrieval")
SHARED_SECTIONS = ("model", "pretrain", "finetune", "selection")
SECTIONS: dict[str, type[BaseModel]] = {"model": Model, "pretrain": Stage, "finetune": Stage, "selection": Selection}


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Keys accepted in the mapping that holds the last element of loc."""
    current: Any = model
    for part in loc[:-1]:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            break
        field = current.model_fields.get(str(part))
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        current = nested[0] if nested else None
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []


def validate(model: type[M], data: Any, where: str, prefix: str = "") -> M:
    """`data` as a `model`; every fault is named as `where: key: what is wrong`.

    Raises:
        ConfigError: one line a fault.
    """
    try:
        return model.model_validate(data)
    except ValidationError as e:
        lines = []
        for fault in e.errors():
            loc = fault["loc"]
            key = ".".join([prefix, *map(str, loc)] if prefix else map(str, loc)) or "(whole file)"
            if fault["type"] == "extra_forbidden":
                lines.append(f"{where}: {key}: unknown key; {nearest(str(loc[-1]), _known_keys(model, loc))}")
            elif fault["type"] == "missing":
                lines.append(f"{where}: {key}: required and not given")
            else:
                got = "" if isinstance(fault["input"], dict) else f" (given: {fault['input']!r})"
                lines.append(f"{where}: {key}: {fault['msg'].removeprefix('Value error, ')}{got}")
        raise ConfigError("\n".join(lines)) from None
    except (LookupError, TypeError, AttributeError, ArithmeticError) as e:
        # a check across keys met what it takes for granted; pydantic turns only ValueError into a fault
        raise ConfigError(
            f"{where}: {prefix or '(whole file)'}: its keys do not fit together ({type(e).__name__}: {e}); accepted is "
            f"what {model.__name__} in mmcontrast.config describes"
        ) from e


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, mapping by mapping; anything else is replaced. Neither is changed.

    A mapping laid over null starts from nothing, and null laid over a mapping removes it.
    """
    out = copy.deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict):
            below = out.get(key)
            out[key] = merge(below if isinstance(below, dict) else {}, value)
        else:
            out[key] = copy.deepcopy(value)
    return out


def _given(overrides: dict[str, Overrides], name: str) -> dict[str, Any]:
    return overrides[name].given() if name in overrides else {}


class Grid:
    """All of `params/` under one suite.

    Args:
        root: the checkout that holds params/.
        suite: name of a file in params/suites/.
        datasets: datasets to run instead of the suite's own.
        untuned: take the learning rate of a recipe itself, not the one that was chosen by trials.

    Raises:
        ConfigError: any file is wrong. Everything is checked here, before any work starts.
    """

    def __init__(
        self,
        root: Path | str = ".",
        suite: str = "default",
        datasets: list[str] | None = None,
        untuned: bool = False,
    ) -> None:
        self.root = Path(root)
        self.untuned = untuned
        self.params = self.root / "params"
        self.suite_name = suite
        self._raw_files: dict[str, dict[str, Any]] = {}
        self.suite = self._one(Suite, "suites", suite)
        known = self._names("datasets")
        self.dataset_names: list[str] = datasets if datasets is not None else list(self.suite.datasets)
        self.lost: dict[str, str] = {}
        origin = "--config datasets" if datasets is not None else f"params/suites/{suite}.yaml: datasets"
        for name in self.dataset_names:
            if name not in known:
                raise ConfigError(f"{origin}: no dataset '{name}'; {nearest(name, known)}")
        for name in self.suite.experiments:
            if name not in self._names("experiments"):
                raise ConfigError(
                    f"params/suites/{suite}.yaml: experiments: no experiment '{name}'; "
                    f"{nearest(name, self._names('experiments'))}"
                )
        self._check()

    # ------------------------------------------------ files

    def _names(self, kind: str) -> list[str]:
        return sorted(p.stem for p in (self.params / kind).glob("*.yaml"))

    def _one(self, model: type[M], kind: str, name: str) -> M:
        where, raw = self._raw(kind, name)
        return validate(model, raw, where)

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """Every dataset file, whether this suite runs it or not."""
        return {n: self._one(Dataset, "datasets", n) for n in self._names("datasets")}

    @cached_property
    def methods(self) -> dict[str, Method]:
        """Every method file."""
        return {n: self._one(Method, "methods", n) for n in self._names("methods")}

    @cached_property
    def experiments(self) -> dict[str, Experiment]:
        """Every experiment file."""
        return {n: self._one(Experiment, "experiments", n) for n in self._names("experiments")}

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Every recipe that variants can share."""
        return {n: self._one(Recipe, "recipes", n) for n in self._names("recipes")}

    @cached_property
    def tunings(self) -> dict[str, Tuning]:
        """What trials have chosen, by recipe."""
        return {n: self._one(Tuning, "tuning", n) for n in self._names("tuning")}

    @cached_property
    def papers(self) -> dict[str, Paper]:
        """The bibliography, params/papers.yaml."""
        raw = read_yaml(self.params / "papers.yaml")
        for key in raw:
            if not isinstance(key, str):
                raise ConfigError(f"params/papers.yaml: {key!r}: a paper's key is text; put it in quotes")
        return {k: validate(Paper, v, "params/papers.yaml", prefix=k) for k, v in raw.items()}

    # ------------------------------------------------ the grid

    def experiment_cells(self, name: str) -> list[tuple[str, CellRef]]:
        """(dataset, cell) pairs of an experiment that this selection runs."""
        datasets = [d for d in self.experiments[name].datasets if d in self.dataset_names]
        return [(d, c) for d in datasets for c in self.cells_on(name, d)]

    def cells_on(self, experiment: str, dataset: str, with_lost: bool = False) -> list[CellRef]:
        """The cells that an experiment has on one of its datasets, in its order; lost ones (`without`) if asked for."""
        cells = [c for c in self.experiments[experiment].cells if c.only is None or dataset in c.only]
        return [c for c in cells if with_lost or f"{dataset}/{c.method}/{c.variant}" not in self.lost]

    def without(self, lost: dict[str, str]) -> Grid:
        """The same study where some cells have no results, for a report on what there is.

        Args:
            lost: name of a cell -> why it has none.
        """
        other = copy.copy(self)
        for name in ("cells", "active_experiments"):
            other.__dict__.pop(name, None)
        other.lost = dict(lost)
        return other

    @cached_property
    def active_experiments(self) -> list[str]:
        """The suite's experiments that have a cell on a selected dataset."""
        return [e for e in self.suite.experiments if self.experiment_cells(e)]

    @cached_property
    def cells(self) -> dict[str, CellConfig]:
        """Every cell that this selection runs, by name, in the order of the experiments."""
        out: dict[str, CellConfig] = {}
        for experiment in self.active_experiments:
            for dataset, ref in self.experiment_cells(experiment):
                name = f"{dataset}/{ref.method}/{ref.variant}"
                if name not in out:
                    out[name] = self.cell(dataset, ref.method, ref.variant)
        return out

    def cell(self, dataset: str, method: str, variant: str = BASE_VARIANT) -> CellConfig:
        """What a cell is trained with, after all merging.

        Later wins: `recipe_from` method < method < the dataset's overrides (of both) < variant < suite.

        Raises:
            ConfigError: a name is unknown, or the merged values are not accepted.
        """
        if dataset not in self.datasets:
            raise ConfigError(f"no dataset '{dataset}' in params/datasets/; {nearest(dataset, self.datasets)}")
        if method not in self.methods:
            raise ConfigError(f"no method '{method}' in params/methods/; {nearest(method, self.methods)}")
        spec, data = self.methods[method], self.datasets[dataset]
        where = f"params/methods/{method}.yaml"
        if variant != BASE_VARIANT and variant not in spec.variants:
            raise ConfigError(
                f"{where}: variants: no variant '{variant}'; {nearest(variant, [BASE_VARIANT, *spec.variants])}"
            )
        if spec.implementation not in OBJECTIVES:
            raise ConfigError(
                f"{where}: implementation: no '{spec.implementation}'; {nearest(spec.implementation, OBJECTIVES)}"
            )
        given = spec.variants.get(variant, Variant())
        values = self._values(method, dataset, given)
        # a suite shortens stages, it never adds one
        shortened = self.suite.overrides.given()
        shortened = {k: v for k, v in shortened.items() if k not in STAGES or values.get(k)}
        if shortened.get("pretrain") and values["pretrain"].get("epochs") == 0:  # an untrained cell stays untrained
            shortened["pretrain"] = {k: v for k, v in shortened["pretrain"].items() if k != "epochs"}
        values = merge(values, shortened)
        who = f"{where} ({dataset}/{method}/{variant})"
        objective = validate(OBJECTIVES[spec.implementation], values.get("objective", {}), who, prefix="objective")
        sections = {
            key: None if values.get(key) is None else validate(model, values[key], who, prefix=key)
            for key, model in SECTIONS.items()
        }
        for key in ("model", "selection"):
            if sections[key] is None:
                raise ConfigError(f"{who}: {key}: required and not given")
        if sections["pretrain"] is None and sections["finetune"] is None:
            raise ConfigError(f"{who}: neither `pretrain` nor `finetune` is given, so there is nothing to train")
        if sections["finetune"] is not None and getattr(sections["finetune"], "epochs", 1) == 0:
            raise ConfigError(f"{who}: finetune.epochs: 0 leaves no classifier to score; give at least 1")
        modality = getattr(objective, "modality", None)
        if modality is not None and modality not in data.modalities:
            raise ConfigError(
                f"{who}: objective.modality: dataset '{dataset}' has no modality '{modality}'; "
                f"{nearest(modality, data.modalities)}"
            )
        if len(data.modalities) < 2:
            raise ConfigError(f"params/datasets/{dataset}.yaml: modalities: a multimodal method needs at least two")
        whole = {
            "dataset": dataset,
            "method": method,
            "variant": variant,
            "implementation": spec.implementation,
            "modalities": data.modalities,
            "classes": data.classes,
            "tasks": data.tasks,
            "class_weighted": data.class_weighted,
            "probe_from": data.probe_from,
            "scenes": data.scenes,
            "metrics": data.metrics,
            "retrieval": data.retrieval,
            "objective": objective.model_dump(mode="json"),
            "seeds": self.seeds_of(dataset),
            "recipe": given.recipe,
            "engine": self.suite.engine,
            **sections,
        }
        return validate(CellConfig, whole, who)

    def _values(self, method: str, dataset: str, variant: Variant) -> dict[str, Any]:
        """The merged sections of a cell, before the suite's overrides."""
        if variant.recipe is not None:
            return self._shared_values(method, dataset, variant, variant.recipe)
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

    def _shared_values(self, method: str, dataset: str, variant: Variant, name: str) -> dict[str, Any]:
        """As `_values`, of a variant with a recipe: the objective is the method's own, all else is the recipe's.

        Raises:
            ConfigError: there is no such recipe, no learning rate has been chosen where one is to be, or the variant
                changes the stage that the method does not have.
        """
        spec, where = self.methods[method], f"params/methods/{method}.yaml"
        if name not in self.recipes:
            raise ConfigError(f"{where}: recipe: no '{name}' in params/recipes/; {nearest(name, self.recipes)}")
        recipe = self.recipes[name]
        shared = {k: getattr(recipe, k) for k in ("model", "training", "selection", "augmentations")}
        if dataset in recipe.datasets:
            shared = merge(shared, recipe.datasets[dataset].model_dump(exclude_unset=True))
        training = shared["training"]
        # nothing is learned in no epochs, so nothing is tuned
        trained = (variant.pretrain or {}).get("epochs") != 0
        if trained and dataset in recipe.tuning.datasets and not self.untuned:
            choices = self.tunings[name].choices if name in self.tunings else {}
            if method not in choices.get(dataset, {}):
                raise ConfigError(
                    f"params/tuning/{name}.yaml: choices.{dataset}: no learning rate of {method} has been chosen; run "
                    f"`mmcontrast tune {name} --datasets {dataset}`"
                )
            training = merge(training, {"optimizer": {"lr": choices[dataset][method].lr}})
        objective = merge(spec.objective, _given(spec.datasets, dataset).get("objective", {}))
        if "augmentations" in OBJECTIVES[spec.implementation].model_fields:
            objective["augmentations"] = shared["augmentations"]
        supervised = bool(self._values(method, dataset, Variant()).get("finetune"))
        stage, other = ("finetune", "pretrain") if supervised else ("pretrain", "finetune")
        if other in variant.given():
            raise ConfigError(
                f"{where}: variants: with `recipe: {name}` {method} is trained by `{stage}`, and a variant gives "
                f"`{other}`; give `{stage}` in its place"
            )
        values = {
            "model": shared["model"],
            "selection": shared["selection"],
            stage: training,
            "objective": objective,
        }
        return merge(values, variant.given())

    def seeds_of(self, dataset: str) -> list[int]:
        """The seeds that the suite runs a dataset's cells with."""
        return self.suite.seeds_by_dataset.get(dataset, self.suite.seeds)

    def tracked_params(self, cell: CellConfig, stage: str) -> list[str]:
        """The `file:key` pairs that decide a stage of this cell, for DVC; only keys that exist in the files.

        Pretraining hangs on neither the finetune section nor the metrics.
        """
        skip = {"finetune", "metrics"} if stage == "pretrain" else set()
        sections = tuple(k for k in SHARED_SECTIONS if k not in skip)
        spec = self.methods[cell.method]
        own_sections = sections if cell.recipe is None else ()
        files = [(cell.method, (*own_sections, "objective", "implementation"))]
        if spec.recipe_from and cell.recipe is None:
            files.append((spec.recipe_from, sections))
        out = self._tracked_recipe(cell)
        for name, keys in files:
            where, raw = self._raw("methods", name)
            out += [f"{where}:{k}" for k in keys if k in raw]
            if cell.dataset in (raw.get("datasets") or {}):
                out.append(f"{where}:datasets.{cell.dataset}")
            if name == cell.method and cell.variant in spec.variants:
                out.append(f"{where}:variants.{cell.variant}")
        where, raw = self._raw("suites", self.suite_name)
        out += [f"{where}:{k}" for k in ("seeds", "engine", "overrides") if k in raw]
        if cell.dataset in self.suite.seeds_by_dataset:
            out.append(f"{where}:seeds_by_dataset.{cell.dataset}")
        where, raw = self._raw("datasets", cell.dataset)
        out += [f"{where}:{k}" for k in (*DATA_KEYS, "metrics") if k in raw and k not in skip]
        return sorted(out)

    def tracked_scoring(self, cell: CellConfig) -> list[str]:
        """As `tracked_params`, of what is made of the last stage's outputs: metrics, and switches of the probe."""
        own = [f"params/datasets/{cell.dataset}.yaml:metrics"]
        if "probe_refit" not in cell.objective.get("compat", {}):
            return own
        trained = self.tracked_params(cell, cell.last_stage)
        return sorted(own + [p for p in trained if p.endswith(":objective") or ":variants." in p])

    def _tracked_recipe(self, cell: CellConfig) -> list[str]:
        """Of a cell with a shared recipe: its sections, and what was chosen for the cell."""
        if cell.recipe is None:
            return []
        where, raw = self._raw("recipes", cell.recipe)
        out = [f"{where}:{k}" for k in ("model", "training", "selection", "augmentations") if k in raw]
        if cell.dataset in (raw.get("datasets") or {}):
            out.append(f"{where}:datasets.{cell.dataset}")
        chosen = self.tunings[cell.recipe].choices if cell.recipe in self.tunings else {}
        if cell.method in chosen.get(cell.dataset, {}):
            out.append(f"params/tuning/{cell.recipe}.yaml:choices.{cell.dataset}.{cell.method}")
        return out

    def _raw(self, kind: str, name: str) -> tuple[str, dict[str, Any]]:
        where = f"params/{kind}/{name}.yaml"
        if where not in self._raw_files:
            self._raw_files[where] = read_yaml(self.root / where)
        return where, self._raw_files[where]

    def _check(self) -> None:
        """Hold every file against the others, so that a fault shows before any work starts."""
        for name, data in self.datasets.items():
            where = f"params/datasets/{name}.yaml: probe_from"
            if data.probe_from is None:
                continue
            if data.probe_from not in self.datasets:
                raise ConfigError(f"{where}: no dataset '{data.probe_from}'; {nearest(data.probe_from, self.datasets)}")
            other = self.datasets[data.probe_from]
            for key in ("modalities", "classes", "tasks", "scenes"):
                if getattr(other, key) != getattr(data, key):
                    raise ConfigError(f"{where}: {key} of '{data.probe_from}' are not those of '{name}'")
        for name, spec in self.methods.items():
            where = f"params/methods/{name}.yaml"
            if spec.recipe_from is not None and spec.recipe_from not in self.methods:
                raise ConfigError(
                    f"{where}: recipe_from: no method '{spec.recipe_from}'; {nearest(spec.recipe_from, self.methods)}"
                )
            for dataset in spec.datasets:
                if dataset not in self.datasets:
                    raise ConfigError(f"{where}: datasets: no dataset '{dataset}'; {nearest(dataset, self.datasets)}")
            for variant, given in spec.variants.items():
                if given.recipe is not None and given.recipe not in self.recipes:
                    known = nearest(given.recipe, self.recipes)
                    raise ConfigError(f"{where}: variants.{variant}.recipe: no recipe '{given.recipe}'; {known}")
            if spec.paper is not None and spec.paper not in self.papers:
                raise ConfigError(f"{where}: paper: no paper '{spec.paper}'; {nearest(spec.paper, self.papers)}")
        for name, recipe in self.recipes.items():
            where = f"params/recipes/{name}.yaml"
            for key, datasets in {"datasets": list(recipe.datasets), "tuning.datasets": recipe.tuning.datasets}.items():
                if unknown := [d for d in datasets if d not in self.datasets]:
                    raise ConfigError(
                        f"{where}: {key}: no dataset '{unknown[0]}'; {nearest(unknown[0], self.datasets)}"
                    )
        for name in self.tunings:
            if name not in self.recipes:
                raise ConfigError(f"params/tuning/{name}.yaml: there is no params/recipes/{name}.yaml")
        for name, experiment in self.experiments.items():
            where = f"params/experiments/{name}.yaml"
            for dataset in experiment.datasets:
                if dataset not in self.datasets:
                    raise ConfigError(f"{where}: datasets: no dataset '{dataset}'; {nearest(dataset, self.datasets)}")
            if experiment.paper is not None and experiment.paper not in self.papers:
                raise ConfigError(
                    f"{where}: paper: no paper '{experiment.paper}'; {nearest(experiment.paper, self.papers)}"
                )
            self._check_information(experiment, where)
            self._check_published(experiment, where)
            for dataset in experiment.datasets:
                for ref in self.cells_on(name, dataset):
                    try:
                        self.cell(dataset, ref.method, ref.variant)
                    except ConfigError as e:
                        raise ConfigError(f"{e}\n(needed by {where})") from None

    def _check_published(self, experiment: Experiment, where: str) -> None:
        """Every printed row is of a known dataset, method and metric, or of what is said not to be run."""
        for i, printed in enumerate(experiment.published):
            at = f"{where}: published[{i}] ({printed.row})"
            known = {*experiment.titles}
            if printed.dataset in self.datasets:
                data = self.datasets[printed.dataset]
                tasks = ("", *(f"{t}/" for t in data.tasks))
                known |= {f"{task}{metric}" for task in tasks for metric in data.metrics}
                known |= {"R", "U", "S"} if experiment.information else set()
            elif printed.dataset not in experiment.not_run:
                options = [*self.datasets, *experiment.not_run]
                raise ConfigError(
                    f"{at}: dataset: '{printed.dataset}' is neither in params/datasets/ nor in `not_run`; "
                    f"{nearest(printed.dataset, options)}"
                )
            for metric in printed.values:
                if metric not in known:
                    raise ConfigError(f"{at}: values: no metric or title '{metric}'; {nearest(metric, known)}")
            if printed.method is not None:
                if printed.method not in self.methods:
                    raise ConfigError(
                        f"{at}: method: no method '{printed.method}'; {nearest(printed.method, self.methods)}"
                    )
                variants = [BASE_VARIANT, *self.methods[printed.method].variants]
                if printed.variant not in variants:
                    raise ConfigError(
                        f"{at}: variant: no variant '{printed.variant}'; {nearest(printed.variant, variants)}"
                    )

    def _check_information(self, experiment: Experiment, where: str) -> None:
        """Its datasets are the experiment's own and have its tasks."""
        asked = experiment.information
        if asked is None:
            return
        for name in [dataset for arms in asked.arms for dataset in (arms.unbiased, arms.biased)]:
            if name not in experiment.datasets:
                known = nearest(name, experiment.datasets)
                raise ConfigError(f"{where}: information.arms: no '{name}' among this experiment's datasets; {known}")
            for task in (*asked.unique, asked.synergistic):
                if task not in self.datasets[name].tasks:
                    known = nearest(task, self.datasets[name].tasks)
                    raise ConfigError(f"{where}: information: {name} has no task '{task}'; {known}")

"""`params/` under one suite: which cells there are, what each is trained with, and whether all files fit together.

A report job is given it as plain objects (`whole`, `subset`), so that an edit during a run changes nothing in it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

from mmcontrast.config.base import Faults, M, known, validate
from mmcontrast.config.datasets import Dataset
from mmcontrast.config.experiments import CellRef, Experiment, MatrixColumn, Suite
from mmcontrast.config.files import ParamFiles
from mmcontrast.config.merging import SHARED_SECTIONS, CellConfig, Layers, build_cell
from mmcontrast.config.methods import (
    BASE_VARIANT,
    Method,
    Paper,
    PublishedTable,
    Recipe,
    Tuning,
    Variant,
    known_variant,
)
from mmcontrast.config.sweeps import Expansion
from mmcontrast.errors import ConfigError, nearest

KINDS = ("datasets", "methods", "experiments", "recipes", "tuning", "papers")


class Grid:
    """All of `params/` under one suite, checked before any work starts. Raises ConfigError: any file is wrong.

    Args:
        root: the checkout that holds params/. datasets: to run instead of the suite's own.
        untuned: take the learning rate of a recipe itself, not the one that was chosen by trials.
        files: what the files hold, in place of those of the checkout; they were checked when they were read.

    Attributes:
        datasets, recipes, tunings, papers: every file of the kind, whether this suite needs it or not.
        declared: every method as it is written; `methods` also have the variants that sweeps add.
        experiments: with the rows and series of their sweeps; `written_out` is the content of such a file.
    """

    def __init__(
        self,
        root: Path | str = ".",
        suite: str = "default",
        datasets: list[str] | None = None,
        untuned: bool = False,
        files: ParamFiles | None = None,
    ) -> None:
        self.root = Path(root)
        self.untuned = untuned
        self.files = ParamFiles(self.root) if files is None else files
        self.suite_name = suite
        self.suite = self._one(Suite, "suites", suite)
        self.dataset_names: list[str] = datasets if datasets is not None else list(self.suite.datasets)
        self.lost: dict[str, str] = {}
        if files is None:
            where = f"params/suites/{suite}.yaml"
            origin = "--config datasets" if datasets is not None else f"{where}: datasets"
            known(origin, "dataset", self.dataset_names, self.files.names("datasets"))
            known(f"{where}: experiments", "experiment", self.suite.experiments, self.files.names("experiments"))
        faults = Faults()
        self.datasets = self._all(Dataset, "datasets", faults)
        self.declared = self._all(Method, "methods", faults)
        self.recipes = self._all(Recipe, "recipes", faults)
        self.papers = self._all(Paper, "papers", faults)
        self.tunings = self._all(Tuning, "tuning", faults)
        faults.tell()
        for check in (check_datasets, check_methods, check_recipes) if files is None else ():
            with faults.kept():
                check(self)
        faults.tell()
        self._write_out_sweeps()
        if files is None:
            self._check_experiments()

    @classmethod
    def from_plain(cls, plain: dict[str, Any], root: Path | str = ".") -> Grid:
        """The grid that `mmcontrast.config.grid` made plain objects of; of `root` no file of params/ is read."""
        files = ParamFiles(Path(root), plain["files"])
        return cls(root, plain["suite"], plain["datasets"], plain["untuned"], files)

    def _one(self, model: type[M], kind: str, name: str) -> M:
        return validate(model, self.files.raw(kind, name), self.files.where(kind, name))

    def _all(self, model: type[M], kind: str, faults: Faults) -> dict[str, M]:
        found = {}
        for name in self.files.names(kind):
            with faults.kept():
                found[name] = self._one(model, kind, name)
        return found

    def _write_out_sweeps(self) -> None:
        sweeps = Expansion(Layers(self.declared, self.recipes, None), self.datasets)
        where = {name: self.files.where("experiments", name) for name in self.files.names("experiments")}
        self.written_out = {name: sweeps.experiment(self.files.raw("experiments", name), where[name]) for name in where}
        faults, self.experiments = Faults(), dict[str, Experiment]()
        for name, raw in self.written_out.items():
            with faults.kept():
                self.experiments[name] = validate(Experiment, raw, where[name])
        faults.tell()
        self.methods = dict(self.declared)
        for name, added in sweeps.variants.items():
            at = f"{self.files.where('methods', name)}: variant of a sweep"
            variants = {v: validate(Variant, raw, at, prefix=v) for v, raw in added.items()}
            declared = self.declared[name]
            self.methods[name] = declared.model_copy(update={"variants": declared.variants | variants})

    def published(self, experiment: str) -> PublishedTable:
        """What its paper published beside an experiment's rows; a table without rows where there is nothing."""
        spec = self.experiments[experiment]
        if spec.paper is None or spec.published is None:
            return PublishedTable()
        return self.papers[spec.paper].published[spec.published]

    def experiment_cells(self, name: str) -> list[tuple[str, CellRef]]:
        """(dataset, cell) pairs of an experiment that this selection runs."""
        datasets = [d for d in self.experiments[name].datasets if d in self.dataset_names]
        return [(d, c) for d in datasets for c in self.cells_on(name, d)]

    def cells_on(self, experiment: str, dataset: str, with_lost: bool = False) -> list[CellRef]:
        """The cells that an experiment has on one of its datasets, in its order; lost ones (`without`) if asked for."""
        cells = [c for c in self.experiments[experiment].cells if c.only is None or dataset in c.only]
        return [c for c in cells if with_lost or f"{dataset}/{c.method}/{c.variant}" not in self.lost]

    def without(self, lost: dict[str, str]) -> Grid:
        """The same grid where some cells have no results (name -> why), for a report on what there is."""
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
        asked = [pair for experiment in self.active_experiments for pair in self.experiment_cells(experiment)]
        names = dict.fromkeys((dataset, ref.method, ref.variant) for dataset, ref in asked)
        return {"/".join(name): self.cell(*name) for name in names}

    def cell(self, dataset: str, method: str, variant: str = BASE_VARIANT) -> CellConfig:
        """Merged, the later wins: `recipe_from` method < method < the dataset's overrides (of both) < variant < suite.
        Raises ConfigError where a name or a value is not accepted.
        """
        known("params/datasets/", "dataset", dataset, self.datasets)
        known("params/methods/", "method", method, self.methods)
        spec, where = self.methods[method], f"params/methods/{method}.yaml"
        known_variant(f"{where}: variants", spec, variant)
        layers = Layers(self.methods, self.recipes, None if self.untuned else self.tunings)
        return build_cell(
            (dataset, method, variant), self.datasets[dataset], layers, self.suite, where, self.suite_name
        )

    def seeds_of(self, dataset: str) -> list[int]:
        """The seeds that the suite runs a dataset's cells with."""
        return self.suite.seeds_of(dataset)

    def _check_experiments(self) -> None:
        faults = Faults()
        with faults.kept():
            check_published(self)
        for name, experiment in self.experiments.items():
            where = self.files.where("experiments", name)
            with faults.kept():
                check_experiment(experiment, where, self)
            for dataset in (d for d in experiment.datasets if d in self.datasets):
                for ref in self.cells_on(name, dataset):
                    with faults.kept(where):
                        self.cell(dataset, ref.method, ref.variant)
        with faults.kept():
            check_primary(self)
        faults.tell()


def whole(grid: Grid) -> dict[str, Any]:
    """Everything but other suites as plain objects that JSON can hold: `Grid.from_plain` makes the same grid of it."""
    named = [("suites", grid.suite_name)] + [(kind, name) for kind in KINDS for name in grid.files.names(kind)]
    files = {grid.files.where(kind, name): grid.files.raw(kind, name) for kind, name in named}
    return _plain(grid, grid.dataset_names, files)


def subset(grid: Grid, experiment: str) -> dict[str, Any]:
    """As `whole`, of what decides the report of one experiment, its results aside: no change elsewhere changes it. Of
    other methods it has the name alone, which decides who has which colour.
    """
    spec = grid.experiments[experiment]
    files = {grid.files.where("experiments", experiment): grid.written_out[experiment]}

    def take(kind: str, name: str, **changed: Any) -> None:
        raw = grid.files.raw(kind, name)
        files[grid.files.where(kind, name)] = raw | {k: v for k, v in changed.items() if v or k in raw}

    selected = [d for d in grid.dataset_names if d in spec.datasets]
    seeds = {d: s for d, s in grid.suite.seeds_by_dataset.items() if d in selected}
    take("suites", grid.suite_name, description="", experiments=[experiment], datasets=selected, seeds_by_dataset=seeds)
    # those that are only named: what is probed, and what the published values are of
    others = {grid.datasets[d].probe_from for d in spec.datasets}
    others |= {spec.information.published} if spec.information else set()
    for dataset in [*spec.datasets, *sorted({d for d in others if d} - set(spec.datasets))]:
        take("datasets", dataset)

    cited = {spec.paper}
    used: dict[str, set[str]] = {}
    for ref in [*spec.cells, *([spec.reference] if spec.reference else [])]:
        used.setdefault(ref.method, set()).add(ref.variant)
    lenders = {grid.methods[m].recipe_from for m in used}
    recipes: dict[str, set[str]] = {}
    for method, spec_of_it in grid.methods.items():
        if method in used:
            raw = grid.files.raw("methods", method)
            named = [v for v in (*spec_of_it.variants, *sorted(used[method])) if v in used[method] - {BASE_VARIANT}]
            found = {v: given for v in named if (given := spec_of_it.variant(v)) is not None}
            made = {v: given.model_dump(mode="json", exclude_unset=True) for v, given in found.items()}
            variants = made | _only(raw.get("variants"), made)
            take("methods", method, datasets=_only(raw.get("datasets"), spec.datasets), variants=variants)
            cited.add(spec_of_it.paper)
            for given in found.values():
                if given.recipe is not None:
                    recipes.setdefault(given.recipe, set()).add(method)
        elif method in lenders:
            raw = grid.files.raw("methods", method)
            shared = {d: _only(v, SHARED_SECTIONS) for d, v in _only(raw.get("datasets"), spec.datasets).items()}
            kept = _only(raw, ("title", "implementation", *SHARED_SECTIONS))
            files[grid.files.where("methods", method)] = kept | {"datasets": shared}
        else:
            files[grid.files.where("methods", method)] = {"title": method, "implementation": "none"}
    for recipe, methods in recipes.items():
        take("recipes", recipe, datasets=_only(grid.files.raw("recipes", recipe).get("datasets"), spec.datasets))
        if recipe in grid.files.names("tuning"):
            tuned = grid.recipes[recipe].tuning.datasets
            tried_on = [tuned[d].choices_of or d for d in spec.datasets if d in tuned]
            choices = _only(grid.files.raw("tuning", recipe)["choices"], tried_on)
            take("tuning", recipe, choices={d: _only(of_it, methods) for d, of_it in choices.items()})
    for paper in sorted(filter(None, cited)):
        table = [spec.published] if paper == spec.paper and spec.published else []
        take("papers", paper, published=_only(grid.files.raw("papers", paper).get("published"), table), not_run={})
    return _plain(grid, selected, files)


def _plain(grid: Grid, datasets: list[str], files: dict[str, Any]) -> dict[str, Any]:
    return {"suite": grid.suite_name, "datasets": datasets, "untuned": grid.untuned, "files": files}


def _only(mapping: dict[str, Any] | None, keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in (mapping or {}).items() if key in keys}


def check_datasets(grid: Grid) -> None:
    """A probe is fitted on a dataset of the same modalities, classes and tasks; features are of the same instances."""
    for name, data in grid.datasets.items():
        if data.features_of is not None:
            _check_features(name, data, grid)
        if data.probe_from is None:
            continue
        where = f"params/datasets/{name}.yaml: probe_from"
        known(where, "dataset", data.probe_from, grid.datasets)
        for key in ("modalities", "classes", "target", "tasks", "scenes"):
            if getattr(grid.datasets[data.probe_from], key) != getattr(data, key):
                raise ConfigError(f"{where}: {key} of '{data.probe_from}' are not those of '{name}'")


def _check_features(name: str, data: Dataset, grid: Grid) -> None:
    where = f"params/datasets/{name}.yaml"
    known(f"{where}: features_of", "dataset", data.features_of, grid.datasets)
    base = grid.datasets[str(data.features_of)]
    for key in ("classes", "target", "tasks", "scenes", "rows"):
        if getattr(base, key) != getattr(data, key):
            raise ConfigError(f"{where}: {key}: not that of '{data.features_of}', whose features these are")
    if data.split.kind != "published":
        raise ConfigError(f"{where}: split: give `kind: published` and the sizes of the splits of '{data.features_of}'")
    if list(base.modalities) != list(data.modalities):
        raise ConfigError(f"{where}: modalities: '{data.features_of}' has {list(base.modalities)}, in this order")
    for m, was in base.modalities.items():
        now = data.modalities[m]
        changed = {"kind": "vector", "shape": now.shape, "encoded": False} if m in data.encoders else {}
        wanted = was.model_copy(update=changed)
        if now != wanted or (m in data.encoders and was.kind == "vector"):
            raise ConfigError(
                f"{where}: modalities.{m}: '{data.features_of}' has {was.model_dump(exclude_defaults=True)}; expected "
                f"{wanted.model_dump(exclude_defaults=True)}"
            )


def check_methods(grid: Grid) -> None:
    """What a method borrows, overrides and cites exists."""
    for name, spec in grid.declared.items():
        where = f"params/methods/{name}.yaml"
        known(f"{where}: recipe_from", "method", spec.recipe_from, grid.declared)
        known(f"{where}: datasets", "dataset", spec.datasets, grid.datasets)
        for variant, given in spec.variants.items():
            known(f"{where}: variants.{variant}.recipe", "recipe", given.recipe, grid.recipes)
            if isinstance(given.train_for, dict):
                known(f"{where}: variants.{variant}.train_for", "dataset", given.train_for, grid.datasets)
        known(f"{where}: paper", "paper", spec.paper, grid.papers)


def check_recipes(grid: Grid) -> None:
    """Recipes name datasets that exist, and choices belong to a recipe."""
    for name, recipe in grid.recipes.items():
        known(f"params/recipes/{name}.yaml: datasets", "dataset", recipe.datasets, grid.datasets)
        known(f"params/recipes/{name}.yaml: tuning.datasets", "dataset", recipe.tuning.datasets, grid.datasets)
    for name in grid.tunings:
        known(f"params/tuning/{name}.yaml", "recipe", name, grid.recipes)


def check_experiment(experiment: Experiment, where: str, grid: Grid) -> None:
    """What an experiment names exists. Its cells are built, and so checked, by the grid."""
    known(f"{where}: datasets", "dataset", experiment.datasets, grid.datasets)
    known(f"{where}: paper", "paper", experiment.paper, grid.papers)
    if experiment.paper is not None:
        known(f"{where}: published", "table", experiment.published, grid.papers[experiment.paper].published)
    for column in experiment.columns:
        _check_column(f"{where}: columns: {column.title}", column, grid)
    asked = experiment.information
    if asked is None:
        return
    for name in [dataset for arms in asked.arms for dataset in (arms.unbiased, arms.biased)]:
        if name not in experiment.datasets:
            near = nearest(name, experiment.datasets)
            raise ConfigError(f"{where}: information.arms: no '{name}' among this experiment's datasets; {near}")
        tasks, targets = (*asked.unique, asked.synergistic), grid.datasets[name].targets
        known(f"{where}: information: {name}", "task", tasks, grid.datasets[name].tasks)
        if other := [task for task in ("", *tasks) if targets[task].kind != "classes"]:
            what = f"task '{other[0]}'" if other[0] else "target"
            raise ConfigError(f"{where}: information: {name}: its {what} is not classes, which the measures ask for")


def check_primary(grid: Grid) -> None:
    """A comparison is primary once in a suite: in two families it would have two corrected p values."""
    seen: dict[tuple[Any, ...], str] = {}
    for name in grid.suite.experiments:
        for c in grid.experiments[name].contrasts if name in grid.experiments else ():
            if not c.primary or c.dataset not in grid.datasets:
                continue
            metric = c.metric or grid.datasets[c.dataset].metrics[0]
            at = f"{grid.files.where('experiments', name)}: contrasts: {c.label}"
            key = (c.dataset, metric, frozenset((c.cell, c.against)))
            if key in seen:
                raise ConfigError(
                    f"{at}: {c.cell} minus {c.against} on {c.dataset}, {metric}, is primary in {seen[key]} too, and so "
                    f"would have two corrected p values in the suite '{grid.suite_name}'; declare it once"
                )
            seen[key] = at


def _check_column(at: str, column: MatrixColumn, grid: Grid) -> None:
    metrics = {}
    for part in column.parts:
        targets = grid.datasets[part.dataset].targets
        known(f"{at}: {part.dataset}", "task", part.task, targets)
        metrics[targets[part.task or ""].metrics[0]] = part
    if len(metrics) > 1:
        said = ", ".join(f"{metric} ({part.task or part.dataset})" for metric, part in metrics.items())
        raise ConfigError(f"{at}: parts of different metrics have no mean: {said}; give each a column of its own")


def check_published(grid: Grid) -> None:
    """Every published row that stands beside ours is of a dataset, method and metric that there is."""
    placed = [
        (f"params/papers/{name}.yaml: published.{key}.rows[{i}] ({row.row})", row)
        for name, paper in grid.papers.items()
        for key, table in paper.published.items()
        for i, row in enumerate(table.rows)
    ]
    for at, row in placed:
        known(f"{at}: dataset", "dataset", row.dataset, grid.datasets)
        data = grid.datasets[row.dataset]
        metrics = [f"{t}/{m}" if t else m for t, target in data.targets.items() for m in target.metrics]
        known(f"{at}: values", "metric", row.values, [*metrics, *(["R", "U", "S"] if data.tasks else [])])
        known(f"{at}: method", "method", row.method, grid.methods)
        if row.method is not None:
            known_variant(f"{at}: variant", grid.methods[row.method], row.variant)

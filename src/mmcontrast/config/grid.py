"""`params/` under one suite: which cells there are, and what each is trained with."""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path
from typing import Any

from mmcontrast.config import checks
from mmcontrast.config.cells import CellConfig
from mmcontrast.config.datasets import Dataset
from mmcontrast.config.experiments import CellRef, Experiment
from mmcontrast.config.files import ParamFiles
from mmcontrast.config.merging import Layers, build_cell
from mmcontrast.config.methods import BASE_VARIANT, Method, Variant
from mmcontrast.config.papers import Paper, PublishedTable
from mmcontrast.config.recipes import Recipe, Tuning
from mmcontrast.config.suites import Suite
from mmcontrast.config.sweeps import Expansion
from mmcontrast.config.validation import Faults, M, validate


class Grid:
    """All of `params/` under one suite.

    Args:
        root: the checkout that holds params/.
        suite: name of a file in params/suites/.
        datasets: datasets to run instead of the suite's own.
        untuned: take the learning rate of a recipe itself, not the one that was chosen by trials.
        files: what the files hold, in place of those of the checkout; they were checked when they were read.

    Attributes:
        datasets, recipes, tunings, papers: every file of the kind, whether this suite needs it or not.
        declared: every method as it is written, without the variants that sweeps add; `methods` has these too.
        experiments: every experiment, with the rows and series of its sweeps; `written_out` is the content of its file.

    Raises:
        ConfigError: any file is wrong. Everything is checked here, before any work starts.
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
            for name in self.dataset_names:
                checks.known(origin, "dataset", name, self.files.names("datasets"))
            for name in self.suite.experiments:
                checks.known(f"{where}: experiments", "experiment", name, self.files.names("experiments"))
        faults = Faults()
        self.datasets = self._all(Dataset, "datasets", faults)
        self.declared = self._all(Method, "methods", faults)
        self.recipes = self._all(Recipe, "recipes", faults)
        self.papers = self._all(Paper, "papers", faults)
        self.tunings = self._all(Tuning, "tuning", faults)
        faults.tell()
        for check in (checks.check_datasets, checks.check_methods, checks.check_recipes) if files is None else ():
            with faults.kept():
                check(self)
        faults.tell()
        self._write_out_sweeps()
        if files is None:
            self._check_experiments()

    @classmethod
    def from_plain(cls, plain: dict[str, Any], root: Path | str = ".") -> Grid:
        """The grid that `mmcontrast.config.plain` made plain objects of; of `root` no file of params/ is read."""
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
        """What a cell is trained with, after all merging. Raises ConfigError where a name or a value is not accepted.

        Later wins: `recipe_from` method < method < the dataset's overrides (of both) < variant < suite.
        """
        checks.has_file("dataset", dataset, self.datasets)
        checks.has_file("method", method, self.methods)
        spec, where = self.methods[method], f"params/methods/{method}.yaml"
        checks.known_variant(f"{where}: variants", spec, variant)
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
            checks.check_published(self)
        for name, experiment in self.experiments.items():
            where = self.files.where("experiments", name)
            with faults.kept():
                checks.check_experiment(experiment, where, self)
            for dataset in (d for d in experiment.datasets if d in self.datasets):
                for ref in self.cells_on(name, dataset):
                    with faults.kept(where):
                        self.cell(dataset, ref.method, ref.variant)
        faults.tell()

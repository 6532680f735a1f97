"""What the report is made from: the grid, the results and the cells' files, which nothing else of the report reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mmcontrast import paths
from mmcontrast.config import CellConfig, CellRef, Dataset, Grid
from mmcontrast.data.files import told_json
from mmcontrast.errors import DataError
from mmcontrast.evaluation.columns import CURVES_SCHEMA, INTERVALS_SCHEMA, METRICS_SCHEMA
from mmcontrast.evaluation.statistics import Difference, Interval, over_seeds_and_cases, paired_difference
from mmcontrast.evaluation.stored import OBSERVED
from mmcontrast.paths import Layout
from mmcontrast.report.outputs import ALL, cell_name, experiment_datasets, results_outputs
from mmcontrast.report.results import CELL, FILES, INTERVALS, RESULTS_COLUMNS, SCORES, checksum, read_table, summarise
from mmcontrast.report.text.wording import cell_label, charted_metrics, find_cell, reported_metrics

if TYPE_CHECKING:
    from mmcontrast.data.loading import Table

HISTORY_COLUMNS = dict.fromkeys(("seed", "epoch", "name", "value"))
OBSERVATION_COLUMNS = dict.fromkeys(OBSERVED)
EMBEDDING_COLUMNS = dict.fromkeys(("seed", "split", "id", "label", "embedding"))


@dataclass(frozen=True)
class Cost:
    """Cost record of one training stage, all seeds together. seconds: with imports, data and scoring."""

    seconds: float
    training_seconds: float
    seeds: int
    peak_memory_bytes: int
    parameters: int
    ranks: int
    device: str


@dataclass(frozen=True)
class Evidence:
    """Everything that a number, a figure or a sentence of the report may rest on. `results`: see
    `results.RESULTS_COLUMNS`; `intervals`: over seeds and test instances, of every cell once.
    """

    grid: Grid
    layout: Layout
    results: pl.DataFrame
    intervals: pl.DataFrame

    @classmethod
    def read(cls, grid: Grid, layout: Layout) -> Evidence:
        """With the results as they were written. Raises DataError: they have not been."""
        out, command = results_outputs(layout), f"mmcontrast report results{layout.select}"
        results = read_table(grid.root / out["results"], dict.fromkeys(RESULTS_COLUMNS), command)
        return cls(grid, layout, results, read_table(grid.root / out["intervals"], INTERVALS_SCHEMA, command))

    @classmethod
    def of_experiment(cls, grid: Grid, layout: Layout, experiment: str) -> Evidence:
        """Of one experiment, by its own evidence file. Raises DataError: it is missing, or a file shown has changed."""
        path, command = grid.root / layout.evidence(experiment), f"mmcontrast report results{layout.select}"
        found = read_table(path, {"part": None}, command)
        for file, sha256 in found.filter(part=FILES).select("file", "sha256").iter_rows():
            if checksum(grid.root / file) != sha256:
                raise DataError(f"{file}: not what {path} was written of; run `{command}` again")
        scores, intervals = (found.filter(part=part) for part in (SCORES, INTERVALS))
        return cls(grid, layout, scores.select(RESULTS_COLUMNS), intervals.select(*CELL, *INTERVALS_SCHEMA))

    def summary(self, experiment: str) -> pl.DataFrame:
        """Means with intervals over seeds of one experiment (`summary.SUMMARY_SCHEMA`)."""
        return self.whole_summary.filter(experiment=experiment)

    @cached_property
    def whole_summary(self) -> pl.DataFrame:
        """The same of all experiments."""
        return summarise(self.results)

    def scopes(self, experiment: str) -> list[Scope]:
        """An experiment on each dataset that this selection runs."""
        return [Scope(self, experiment, d) for d in experiment_datasets(self.grid, experiment)]

    def metrics(self, cell: CellConfig) -> pl.DataFrame:
        """Scores by seed, protocol and split."""
        return self._read(cell, self.layout.metrics(cell.name), METRICS_SCHEMA, "evaluate")

    def curves(self, cell: CellConfig) -> pl.DataFrame:
        """Scores by epoch."""
        return self._read(cell, self.layout.curves(cell.name), CURVES_SCHEMA, "evaluate")

    def history(self, cell: CellConfig) -> pl.DataFrame:
        """Logged training terms by epoch, of the last stage."""
        file = self.layout.stage(cell.name, cell.last_stage, "history.parquet")
        return self._read(cell, file, HISTORY_COLUMNS, cell.last_stage)

    def embeddings(self, cell: CellConfig) -> pl.DataFrame:
        """One row per seed and instance; where retrieval scores, per epoch and observation."""
        file = self.layout.stage(cell.name, cell.last_stage, "embeddings.parquet")
        columns = OBSERVATION_COLUMNS if cell.scored_by == "retrieval" else EMBEDDING_COLUMNS
        return self._read(cell, file, columns, cell.last_stage)

    def cost(self, cell: CellConfig, stage: str) -> Cost:
        """Cost record of a stage. Raises DataError: it is missing or damaged."""
        path = self.grid.root / self.layout.stage(cell.name, stage, "cost.json")
        command = f"mmcontrast {stage} {cell.name}{self.layout.select}"
        record = told_json(path, "a cost record", f"run `{command}`")
        values: dict[str, Any] = {name: record.get(name) for name in Cost.__dataclass_fields__}
        numbers = [value for name, value in values.items() if name != "device"]
        if not all(isinstance(v, int | float) and v >= 0 for v in numbers) or not values["seeds"]:
            raise DataError(f"{path}: damaged; run `{command}` again")
        return Cost(**values)

    @cached_property
    def datasheets(self) -> dict[str, dict[str, Any]]:
        """The datasheet of every dataset that a cell uses, by name."""
        used = dict.fromkeys(cell.dataset for cell in self.grid.cells.values())
        at = {d: self.grid.root / paths.datasheet(d) for d in used}
        return {d: told_json(at[d], "a datasheet", f"run `mmcontrast data prepare {d}`") for d in used}

    def test_split(self, dataset: str) -> Table:
        """The prepared test instances."""
        from mmcontrast.data.loading import load_split  # imports torch

        return load_split(self.grid.root / paths.prepared(dataset, "test"))

    def _read(self, cell: CellConfig, file: str, columns: dict[str, Any], command: str) -> pl.DataFrame:
        return read_table(self.grid.root / file, columns, f"mmcontrast {command} {cell.name}{self.layout.select}")


class Scope:
    """One experiment on one dataset, or on `outputs.ALL` of them: what a block, a figure or a comparison is about.
    `data`: the dataset, if it is one; `cells`: the experiment's on it, in its order.
    """

    data: Dataset

    def __init__(self, evidence: Evidence, experiment: str, dataset: str) -> None:
        self.evidence, self.experiment, self.dataset = evidence, experiment, dataset
        self.grid, self.spec = evidence.grid, evidence.grid.experiments[experiment]
        if dataset != ALL:
            self.data = self.grid.datasets[dataset]
        self.cells = self.grid.cells_on(experiment, dataset)

    @property
    def n_seeds(self) -> int:
        """Seeds of every cell."""
        return len(self.grid.seeds_of(self.dataset))

    @property
    def n_instances(self) -> int:
        """Size of the test split."""
        return int(self.summary.filter(dataset=self.dataset)["n_instances"][0])

    @property
    def summary(self) -> pl.DataFrame:
        """Of the experiment, on all its datasets."""
        return self.evidence.summary(self.experiment)

    @property
    def reported(self) -> list[str]:
        """Metrics that a table has a block for, the selecting one first."""
        return reported_metrics(self.data, self.spec.views)

    @property
    def charted(self) -> list[str]:
        """Metrics that a figure has a panel for, the selecting one first."""
        return charted_metrics(self.data, self.spec.views)

    @property
    def reference(self) -> CellRef | None:
        """The cell that the others are compared with, with its label."""
        named = self.spec.reference
        return named and (find_cell(self.grid, self.experiment, named.method, named.variant) or named)

    @property
    def probed(self) -> bool:
        """Whether a probe scores every cell."""
        return all(self.config(ref).scored_by == "probe" for ref in self.cells)

    @property
    def first_seed(self) -> int:
        """The seed that single instances are shown of."""
        return self.grid.seeds_of(self.dataset)[0]

    def name(self, ref: CellRef) -> str:
        """dataset/method/variant."""
        return cell_name(self.dataset, ref)

    def label(self, ref: CellRef) -> str:
        """A cell's row label."""
        return cell_label(self.grid, ref)

    def config(self, ref: CellRef) -> CellConfig:
        """All that decides a cell."""
        return self.grid.cell(self.dataset, ref.method, ref.variant)

    def history(self, ref: CellRef) -> pl.DataFrame:
        """Logged training terms of a cell."""
        return self.evidence.history(self.config(ref))

    def test_embeddings(self, ref: CellRef, **of: Any) -> pl.DataFrame:
        """A cell's test embeddings of the first seed whose columns have the values `of`; DataError where none have."""
        part = self.evidence.embeddings(self.config(ref)).filter(seed=self.first_seed, split="test", **of)
        if part.is_empty():
            which = ", ".join(f"{key} {value}" for key, value in {"seed": self.first_seed, **of}.items())
            raise DataError(f"{self.name(ref)}: no test embeddings of {which}; train it again")
        return part

    def cell_summary(self, ref: CellRef) -> pl.DataFrame:
        """A cell's rows of the summary."""
        return self._of_cell(self.summary, ref)

    def scores(self, ref: CellRef, metric: str, protocol: str = "selected", split: str = "test") -> dict[int, float]:
        """seed -> score; empty where the protocol does not exist for the cell."""
        of_it = self._of_cell(self.evidence.results, ref)
        part = of_it.filter(experiment=self.experiment, split=split, metric=metric, protocol=protocol)
        return dict(zip(part["seed"], part["value"], strict=True))

    def mean(self, ref: CellRef, metric: str, protocol: str = "selected") -> Interval | None:
        """Mean test score with its interval over seeds, or None where the protocol does not exist for the cell."""
        return self._interval(self.summary, ref, metric, protocol)

    def wide(self, ref: CellRef, metric: str, protocol: str = "selected") -> Interval | None:
        """The same with its interval over seeds and test instances."""
        return self._interval(self.evidence.intervals, ref, metric, protocol)

    def differences(self, metric: str, reference: CellRef) -> dict[tuple[str, str], Difference]:
        """(method, variant) -> selected test scores minus the reference's, by seed; of others that have such scores."""
        against = self.scores(reference, metric)
        others = {(ref.method, ref.variant): self.scores(ref, metric) for ref in self.cells if against}
        found = {of: paired_difference(scores, against) for of, scores in others.items() if scores}
        found.pop((reference.method, reference.variant), None)
        return found

    def wide_difference(self, one: CellRef, other: CellRef, metric: str) -> Interval | None:
        """Mean of one minus the other by seed, with its interval over seeds and test instances; None where the
        influence of the instances is not known of the same seeds and instances of both.
        """
        of_one, of_other = self.scores(one, metric), self.scores(other, metric)
        influences = [self._influence(ref, metric) for ref in (one, other)]
        if of_one.keys() != of_other.keys() or any(i is None for i in influences):
            return None
        first_SN, second_SN = (np.asarray(i, dtype=float) for i in influences)
        if first_SN.shape != second_SN.shape:
            return None
        return over_seeds_and_cases(np.array([of_one[s] - of_other[s] for s in of_one]), first_SN - second_SN)

    def _influence(self, ref: CellRef, metric: str) -> list[list[float]] | None:
        """By seed, in the order of `scores`; see `statistics.case_influence`."""
        rows = self._of_cell(self.evidence.intervals, ref).filter(metric=metric, protocol="selected")
        return rows["influence"].to_list()[0] or None if len(rows) else None

    def _interval(self, frame: pl.DataFrame, ref: CellRef, metric: str, protocol: str) -> Interval | None:
        row = self._of_cell(frame, ref).filter(metric=metric, protocol=protocol).select("mean", "low", "high")
        return Interval(*row.row(0)) if len(row) else None

    def _of_cell(self, frame: pl.DataFrame, ref: CellRef) -> pl.DataFrame:
        return frame.filter(dataset=self.dataset, method=ref.method, variant=ref.variant)

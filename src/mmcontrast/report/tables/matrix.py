"""The matrix of methods and datasets: a row per label, a column per score, what holds across columns, and the cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.experiments import MatrixColumn, MatrixPart
from mmcontrast.config.metrics import Measure, measure
from mmcontrast.config.targets import Target
from mmcontrast.evaluation.across import interquartile_means, mean_ranks
from mmcontrast.evaluation.readouts import metric_name
from mmcontrast.evaluation.statistics import Difference, Interval, over_seeds, paired_difference
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import ALL
from mmcontrast.report.summary import percent
from mmcontrast.report.tables.contrasts import contrast_blocks, contrast_findings, contrast_notes
from mmcontrast.report.tables.formats import Block, Column, Row, Table, Value
from mmcontrast.report.text.notes import lost_notes, not_run_notes, overrides_note
from mmcontrast.report.text.wording import LEVEL_NAME, cell_label, count, estimate, find_cell, probe_definition

Scores = dict[int, float]  # seed -> score


@dataclass(frozen=True)
class Matrix:
    """What the matrix of an experiment is drawn and written from.

    Attributes:
        labels: rows, in the experiment's order. columns: those whose datasets this selection runs.
        labelled: rows that were trained with labels, which are not ranked with the others.
        refs: (label, dataset) -> its cell. scores: (label, column) -> seed -> score, as stored.
        measures: (column,) how its scores are read. overlap: (column,) see `statistics.over_seeds`.
        chance: (column,) the score of guessing among equally likely classes; None where there are no classes.
        reference: label that the others are compared with.
    """

    labels: list[str]
    labelled: set[str]
    columns: list[MatrixColumn]
    refs: dict[tuple[str, str], CellRef]
    scores: dict[tuple[str, int], Scores]
    measures: list[Measure]
    overlap: list[float]
    chance: list[float | None]
    reference: str | None

    @property
    def ranked(self) -> list[str]:
        """The labels that are compared across columns: they have every column, and were trained without labels."""
        every = range(len(self.columns))
        return [x for x in self.labels if x not in self.labelled and all((x, c) in self.scores for c in every)]

    def method_of(self, label: str) -> str:
        """The method of a row."""
        return next(ref.method for (name, _), ref in self.refs.items() if name == label)

    def mean(self, label: str, column: int) -> Interval | None:
        """A cell of the matrix over its seeds, or None where there is none."""
        found = self.scores.get((label, column))
        share = self.measures[column].share
        return over_seeds(np.array(list(found.values())), self.overlap[column], share) if found else None

    def differences(self) -> dict[tuple[str, int], Difference]:
        """(label, column) -> the difference to the reference by seed."""
        reference = self.reference or ""
        return {
            (label, c): paired_difference(scores, self.scores[reference, c], self.overlap[c])
            for (label, c), scores in self.scores.items()
            if label != reference and (reference, c) in self.scores
        }

    def skills(self) -> list[np.ndarray]:
        """(seeds, ranked labels) of each column: from chance (0) to perfect (1), or larger where better."""
        out = []
        for c, chance in enumerate(self.chance):
            seeds = sorted(set.intersection(*(set(self.scores[label, c]) for label in self.ranked)))
            raw = np.array([[self.scores[label, c][s] for label in self.ranked] for s in seeds])
            out.append(self.measures[c].sign * raw if chance is None else (raw - chance) / (1 - chance))
        return out

    def across(self) -> dict[str, tuple[Interval, Interval]]:
        """label -> (interquartile mean of the skills, mean rank), of the ranked labels; empty for one column.

        The first is over the columns that have a chance level, NaN where none has; the second is over all.
        """
        if len(self.columns) < 2 or not self.ranked:
            return {}
        skills = self.skills()
        levelled = [skill for skill, chance in zip(skills, self.chance, strict=True) if chance is not None]
        nothing = [Interval(float("nan"), float("nan"), float("nan"))] * len(self.ranked)
        pairs = zip(interquartile_means(levelled) if levelled else nothing, mean_ranks(skills), strict=True)
        return dict(zip(self.ranked, pairs, strict=True))


def shown_columns(grid: Grid, experiment: str) -> list[MatrixColumn]:
    """The columns whose datasets this selection runs."""
    return [c for c in grid.experiments[experiment].columns if all(p.dataset in grid.dataset_names for p in c.parts)]


def fewest_seeds(grid: Grid, column: MatrixColumn) -> int:
    """As many as every dataset of the column has."""
    return min(len(grid.seeds_of(p.dataset)) for p in column.parts)


def build_matrix(evidence: Evidence, experiment: str) -> Matrix:
    """The matrix of an experiment, of the columns that this selection runs."""
    grid = evidence.grid
    spec = grid.experiments[experiment]
    columns = shown_columns(grid, experiment)
    refs: dict[tuple[str, str], CellRef] = {}
    for dataset, ref in grid.experiment_cells(experiment):
        refs.setdefault((cell_label(grid, ref), dataset), ref)
    there = {label for label, _ in refs}
    labels = [name for name in dict.fromkeys(cell_label(grid, ref) for ref in spec.cells) if name in there]
    scores = {
        (label, c): found
        for label in labels
        for c, column in enumerate(columns)
        if (found := _by_seed(evidence, experiment, refs, label, column))
    }
    of = spec.reference and find_cell(grid, experiment, spec.reference.method, spec.reference.variant)
    reference = cell_label(grid, of) if of else None
    targets = [[_target(grid, p) for p in column.parts] for column in columns]
    measures = [measure(of_column[0].metrics[0]) for of_column in targets]
    overlap = [max(grid.datasets[p.dataset].overlap for p in column.parts) for column in columns]
    labelled = {label for (label, d), r in refs.items() if grid.cell(d, r.method, r.variant).finetune is not None}
    chance = [
        float(np.mean([1 / t.width for t in of_column])) if all(t.kind == "classes" for t in of_column) else None
        for of_column in targets
    ]
    return Matrix(labels, labelled, columns, refs, scores, measures, overlap, chance, reference)


def _by_seed(
    evidence: Evidence,
    experiment: str,
    refs: dict[tuple[str, str], CellRef],
    label: str,
    column: MatrixColumn,
    split: str = "test",
) -> Scores:
    """Mean over the parts of a column by seed; empty where one has no score."""
    parts = [_part(evidence, experiment, refs.get((label, p.dataset)), p, split) for p in column.parts]
    seeds = sorted(set.intersection(*(set(p) for p in parts)))
    return {s: float(np.mean([p[s] for p in parts])) for s in seeds}


def validation_scores(evidence: Evidence, experiment: str, matrix: Matrix, column: MatrixColumn) -> dict[str, Scores]:
    """label -> seed -> the column's score on validation; empty where there is none."""
    return {x: _by_seed(evidence, experiment, matrix.refs, x, column, "val") for x in matrix.labels}


def _part(evidence: Evidence, experiment: str, ref: CellRef | None, part: MatrixPart, split: str = "test") -> Scores:
    of = Scope(evidence, experiment, part.dataset)
    metric = _target(evidence.grid, part).metrics[0]
    return of.scores(ref, metric_name(metric, part.task or ""), split=split) if ref is not None else {}


def _target(grid: Grid, part: MatrixPart) -> Target:
    return grid.datasets[part.dataset].targets[part.task or ""]


def matrix_blocks(matrix: Matrix) -> list[Block]:
    """Scores; differences to the reference; what holds across columns."""
    scored = [[Column(f"score_{c}", column.title, "score")] for c, column in enumerate(matrix.columns)]
    of = matrix.measures
    shares = all(m.percent for m in of)
    scores = {(label, c): {f"score_{c}": Value.of(matrix.mean(label, c), of[c])} for label, c in matrix.scores}
    title = f"Scores of the linear probe{' (%)' if shares else ''}"
    blocks = [matrix_block(matrix, title, "score", scored, scores)]
    if matrix.reference is not None:
        columns = [[Column(f"difference_{c}", column.title, "difference")] for c, column in enumerate(matrix.columns)]
        values = {(at, c): {f"difference_{c}": Value.of(d, of[c])} for (at, c), d in matrix.differences().items()}
        for c in range(len(columns)):
            values[matrix.reference, c] = {f"difference_{c}": Value(word="reference")}
        title = f"Difference to {matrix.reference}{' (points)' if shares else ''}"
        blocks.append(matrix_block(matrix, title, "difference", columns, values))
    if across := matrix.across():
        iqm = Column("iqm", "Interquartile mean of the skill (%)", "score")
        rank = Column("rank", f"Mean rank among {count(len(across), 'row')}", "score")
        rows = [Row(label, {"iqm": Value.of(skill), "rank": Value(*at)}) for label, (skill, at) in across.items()]
        title = "Across all columns, rows trained without labels"
        blocks.append(Block(title, [iqm, rank], rows, {"dataset": ALL, "metric": "across"}))
    return blocks


def matrix_block(
    matrix: Matrix,
    title: str,
    metric: str,
    columns: list[list[Column]],
    values: Mapping[tuple[str, int], dict[str, Value]],
) -> Block:
    """A row per label. columns: of the block, for each column of the matrix. values: of a label and column."""
    rows = [
        Row(label, {key: value for c in range(len(columns)) for key, value in values.get((label, c), {}).items()})
        for label in matrix.labels
    ]
    return Block(title, list(chain.from_iterable(columns)), rows, {"dataset": ALL, "metric": metric})


def matrix_findings(matrix: Matrix) -> list[str]:
    """Which methods lead across columns, of those trained without labels."""
    across = matrix.across()
    out = []
    for i, (what, best, unit) in enumerate(
        (("Highest interquartile mean skill", max, " %"), ("Best mean rank", min, ""))
    ):
        values = {label: percent(found[i]) if i == 0 else found[i] for label, found in across.items()}
        if any(value.mean == value.mean for value in values.values()):  # else no column has a chance level
            label = best(values, key=lambda name: values[name].mean)
            n = count(len(across), "row")
            out.append(f"{what} among {n} trained without labels: {label}, {estimate(*values[label])}{unit}.")
    return out


def matrix_notes(grid: Grid, matrix: Matrix) -> list[str]:
    """What the columns are, and how they are put together."""
    notes = []
    for column in matrix.columns:
        said = [f"{grid.datasets[p.dataset].title}{f', task {p.task}' if p.task else ''}" for p in column.parts]
        metric = _target(grid, column.parts[0]).metrics[0]
        mean = "mean by seed of " if len(said) > 1 else ""
        notes.append(
            f"{column.title}: {mean}{'; '.join(said)} ({metric}); {count(fewest_seeds(grid, column), 'seed')}."
        )
    lacking = [label for label in matrix.labels if label not in matrix.ranked and label not in matrix.labelled]
    level = "" if None not in matrix.chance else " Columns without classes have no chance level and count for the rank."
    left_out = f" Left out for want of a score in every column: {', '.join(lacking)}." if lacking else ""
    apart = f" Trained with labels, and not ranked with the others: {', '.join(sorted(matrix.labelled))}."
    notes.append(
        f"Scores and differences: brackets are {LEVEL_NAME} t intervals over seeds; differences are paired by seed and "
        "exploratory."
    )
    notes.append(
        "Across all columns: skill is the score rescaled so that chance, one over the number of classes, is 0 % and a "
        "perfect score 100 %. Its interquartile mean is over all seeds and columns, with equal weight per column; "
        f"brackets: {LEVEL_NAME} bootstrap interval, seeds resampled within columns, the same for all methods. Ranks "
        f"are by the mean score in a column, 1 = best; brackets: where {LEVEL_NAME} of these replicates lie, "
        f"which is no confidence interval.{level}{left_out}{apart if matrix.labelled else ''}"
    )
    return notes


@dataclass(frozen=True)
class SeedCost:
    """Seconds of one seed's training, without imports, data and scoring; peak memory of the process, in MiB."""

    seconds: float
    mebibytes: float


def read_costs(evidence: Evidence, matrix: Matrix) -> dict[tuple[str, int], SeedCost]:
    """(label, column) -> the mean seconds over the column's datasets, and the most memory.

    Raises:
        DataError: a cost record is missing or damaged.
    """
    found = {}
    for label, c in matrix.scores:
        datasets = dict.fromkeys(p.dataset for p in matrix.columns[c].parts)
        of_each = [_read(evidence, matrix, label, d) for d in datasets]
        seconds = float(np.mean([cost.seconds for cost in of_each]))
        found[label, c] = SeedCost(seconds, max(cost.mebibytes for cost in of_each))
    return found


def _read(evidence: Evidence, matrix: Matrix, label: str, dataset: str) -> SeedCost:
    ref = matrix.refs[label, dataset]
    cell = evidence.grid.cell(dataset, ref.method, ref.variant)
    records = [evidence.cost(cell, stage) for stage in cell.stages]
    memory = max(record.peak_memory_bytes for record in records) / 2**20
    return SeedCost(sum(record.training_seconds / record.seeds for record in records), memory)


def cost_block(matrix: Matrix, costs: dict[tuple[str, int], SeedCost]) -> Block:
    """Seconds and memory of every row and column."""
    columns = [
        [Column(f"seconds_{c}", f"{of.title}: s per seed", "score"), Column(f"memory_{c}", "peak MiB", "count")]
        for c, of in enumerate(matrix.columns)
    ]
    values = {
        (label, c): {f"seconds_{c}": Value(cost.seconds), f"memory_{c}": Value(cost.mebibytes)}
        for (label, c), cost in costs.items()
    }
    return matrix_block(matrix, "Cost of training", "cost", columns, values)


COST_NOTE = (
    "Cost of training: seconds in the training loop per seed on one thread; runs may have shared the machine; for a "
    "column of several datasets the mean. Peak MiB: of the whole process, libraries and data included. The untrained "
    "row trains nothing, or settles batch statistics in one epoch."
)


def matrix_table(evidence: Evidence, experiment: str) -> Table:
    """The table of an experiment of kind `matrix`."""
    grid, matrix = evidence.grid, build_matrix(evidence, experiment)
    spec, notes = grid.experiments[experiment], contrast_notes(grid, experiment) + matrix_notes(grid, matrix)
    blocks = contrast_blocks(evidence, experiment) + matrix_blocks(matrix)
    if "cost" in (spec.figures or []):
        blocks.append(cost_block(matrix, read_costs(evidence, matrix)))
        notes.append(COST_NOTE)
    recipes = dict.fromkeys(grid.cell(d, c.method, c.variant).recipe for d, c in grid.experiment_cells(experiment))
    shared = [" ".join(grid.recipes[b].description.split()) for b in recipes if b is not None]
    probe = f"Scores: {probe_definition(grid.datasets[p.dataset] for c in matrix.columns for p in c.parts)}."
    return Table(
        name=experiment,
        title=spec.title,
        caption=spec.caption.strip(),
        blocks=blocks,
        findings=overrides_note(grid) or [*contrast_findings(evidence, experiment), *matrix_findings(matrix)],
        notes=[*lost_notes(grid, experiment), *shared, probe, *notes, *not_run_notes(grid, experiment)],
    )

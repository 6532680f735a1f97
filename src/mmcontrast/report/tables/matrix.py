"""The matrix of methods and datasets: a row per label, a column per score, what holds across columns, and the cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.experiments import MatrixColumn, MatrixPart
from mmcontrast.config.methods import untrained_twin
from mmcontrast.config.metrics import Measure, Target, measure, metric_name
from mmcontrast.evaluation.across import interquartile_means, mean_ranks
from mmcontrast.evaluation.columns import ENCODERS, OWN
from mmcontrast.evaluation.statistics import Difference, Interval, over_seeds, paired_difference
from mmcontrast.report.evidence import Evidence
from mmcontrast.report.outputs import ALL
from mmcontrast.report.results import Scores, by_shared_seed, shared_seeds, shown
from mmcontrast.report.tables.formats import Block, Column, Kind, Row, Value
from mmcontrast.report.text.wording import cell_label, count, estimate, find_cell, listed, probe_definition

Cells = dict[str, tuple[str, str]]  # dataset -> method, variant
RAW = "raw"
READOUTS = {ENCODERS: "encoders, side by side", OWN: "fused embedding"}
MARKS = {ENCODERS: "e", OWN: "f"}


@dataclass(frozen=True)
class Matrix:
    """What the matrix of an experiment is drawn and written from.

    A method that fuses its encodings has two readouts, of the encoders and of the fusion; its headline is the better on
    validation. Any other embedding counts as that of its encoders.

    Attributes:
        labels: rows, in the experiment's order. columns: those whose datasets this selection runs.
        labelled: rows trained with labels. floors: rows that learn nothing (raw inputs, untrained networks). Neither
            are ranked with the others.
        refs: (label, dataset) -> its cell. scores: (label, column) -> seed -> score of the headline, as stored.
        measures: (column,) how its scores are read.
        chance: (column,) the score of guessing among equally likely classes; None where there are no classes.
        reference: label that the others are compared with.
        by_readout: (label, column, readout) -> its scores. headline: (label, column) -> the readout of `scores`.
        on_val: as `scores`, on validation. gains: (label, column, readout) -> score minus that of the same readout of
            the untrained twin, larger = better.
    """

    labels: list[str]
    labelled: set[str]
    columns: list[MatrixColumn]
    refs: dict[tuple[str, str], CellRef]
    scores: dict[tuple[str, int], Scores]
    measures: list[Measure]
    chance: list[float | None]
    reference: str | None
    floors: set[str] = field(default_factory=set)
    by_readout: dict[tuple[str, int, str], Scores] = field(default_factory=dict)
    headline: dict[tuple[str, int], str] = field(default_factory=dict)
    on_val: dict[tuple[str, int], Scores] = field(default_factory=dict)
    gains: dict[tuple[str, int, str], Scores] = field(default_factory=dict)

    @property
    def complete(self) -> list[str]:
        """The labels that were not trained with labels and have a score in every column."""
        every = range(len(self.columns))
        return [x for x in self.labels if x not in self.labelled and all((x, c) in self.scores for c in every)]

    @property
    def ranked(self) -> list[str]:
        """Those of them that were trained, which are compared across columns."""
        return [label for label in self.complete if label not in self.floors]

    @property
    def twins(self) -> set[str]:
        """Rows that are another row, untrained."""
        trained = {(d, r.method, untrained_twin(r.variant)) for (x, d), r in self.refs.items() if x not in self.floors}
        others = {x for (x, d), r in self.refs.items() if (d, r.method, r.variant) not in trained}
        return self.floors - others

    @property
    def hidden(self) -> set[str]:
        """Twins that only a gain is measured from: all but the reference's own, where that is a row."""
        own = {(d, r.method, untrained_twin(r.variant)) for (x, d), r in self.refs.items() if x == self.reference}
        shown = {x for (x, d), r in self.refs.items() if x in self.twins and (d, r.method, r.variant) in own}
        return self.twins - shown if shown else set()

    def method_of(self, label: str) -> str:
        """The method of a row."""
        return next(ref.method for (name, _), ref in self.refs.items() if name == label)

    def mean(self, label: str, column: int) -> Interval | None:
        """A cell of the matrix over its seeds, or None where there is none."""
        found = self.scores.get((label, column))
        return self.over_seeds(found, column) if found else None

    def over_seeds(self, found: Scores, column: int) -> Interval:
        """Mean of a column's scores with its interval."""
        return over_seeds(np.array(list(found.values())), self.measures[column].share)

    def gain(self, label: str, column: int, readout: str) -> Interval | None:
        """What training adds to a readout, or None where the untrained twin has no score."""
        found = self.gains.get((label, column, readout))
        return over_seeds(np.array(list(found.values()))) if found else None

    def differences(self) -> dict[tuple[str, int], Difference]:
        """(label, column) -> the difference to the reference by seed."""
        reference = self.reference or ""
        return {
            (label, c): paired_difference(scores, self.scores[reference, c])
            for (label, c), scores in self.scores.items()
            if label != reference and (reference, c) in self.scores
        }

    def skills(self) -> list[np.ndarray]:
        """(seeds, complete labels) of each column: from chance (0) to perfect (1), or larger where better."""
        out = []
        for c, chance in enumerate(self.chance):
            raw = by_shared_seed([self.scores[label, c] for label in self.complete])
            out.append(self.measures[c].sign * raw if chance is None else (raw - chance) / (1 - chance))
        return out

    def across(self) -> dict[str, tuple[Interval, Interval]]:
        """Complete label -> (interquartile mean of the skills, over columns with a chance level; mean rank, over all).
        NaN where no column has chance, or a row is not ranked; empty for one column.
        """
        if len(self.columns) < 2 or not self.ranked:
            return {}
        skills, nothing = self.skills(), Interval(float("nan"), float("nan"), float("nan"))
        levelled = [skill for skill, chance in zip(skills, self.chance, strict=True) if chance is not None]
        means = interquartile_means(levelled) if levelled else [nothing] * len(self.complete)
        places = [self.complete.index(label) for label in self.ranked]
        ranks = dict(zip(self.ranked, mean_ranks([skill[:, places] for skill in skills]), strict=True))
        return {x: (mean, ranks.get(x, nothing)) for x, mean in zip(self.complete, means, strict=True)}


def headline_readout(on_val: Mapping[str, Mapping[int, float]], sign: int = 1) -> str:
    """The readout with the best mean over seeds on validation; OWN where both are equal or unknown. `on_val`: readout
    -> seed -> score; one alone is the answer. `sign`: 1 where larger is better, else -1.
    """
    means = {r: sign * fmean(on_val[r].values()) if on_val[r] else -math.inf for r in (OWN, ENCODERS) if r in on_val}
    return max(means, key=means.__getitem__)


def shown_columns(grid: Grid, experiment: str) -> list[MatrixColumn]:
    """The columns whose datasets this selection runs."""
    return [c for c in grid.experiments[experiment].columns if all(p.dataset in grid.dataset_names for p in c.parts)]


def fewest_seeds(grid: Grid, column: MatrixColumn) -> int:
    """As many as every dataset of the column has."""
    return min(len(grid.seeds_of(p.dataset)) for p in column.parts)


def build_matrix(evidence: Evidence, experiment: str) -> Matrix:
    """The matrix of an experiment, of the columns that this selection runs."""
    grid, columns = evidence.grid, shown_columns(evidence.grid, experiment)
    spec = grid.experiments[experiment]
    refs: dict[tuple[str, str], CellRef] = {}
    for dataset, ref in grid.experiment_cells(experiment):
        refs.setdefault((cell_label(grid, ref), dataset), ref)
    there = {label for label, _ in refs}
    labels = [name for name in dict.fromkeys(cell_label(grid, ref) for ref in spec.cells) if name in there]
    of = spec.reference and find_cell(grid, experiment, spec.reference.method, spec.reference.variant)
    reference = cell_label(grid, of) if of else None
    targets = [[_target(grid, p) for p in column.parts] for column in columns]
    measures = [measure(of_column[0].metrics[0]) for of_column in targets]
    chance = [
        float(np.mean([1 / t.width for t in of_column])) if all(t.kind == "classes" for t in of_column) else None
        for of_column in targets
    ]
    found = {label: [grid.cell(d, r.method, r.variant) for (x, d), r in refs.items() if x == label] for label in labels}
    labelled = {label for label, cells in found.items() if any(cell.finetune is not None for cell in cells)}
    floors = {
        label
        for label, cells in found.items()
        if label not in labelled
        and all(c.implementation == RAW or not (c.pretrain and c.pretrain.epochs) for c in cells)
    }
    matrix = Matrix(labels, labelled, columns, refs, {}, measures, chance, reference, floors)
    _fill(matrix, evidence, experiment)
    return matrix


def _fill(matrix: Matrix, evidence: Evidence, experiment: str) -> None:
    stored: dict[tuple[str, ...], Scores] = {}
    keys = ("dataset", "method", "variant", "metric", "split", "seed", "value")
    selected = evidence.results.filter(experiment=experiment, protocol="selected")
    for *key, seed, value in selected.select(keys).iter_rows():
        stored.setdefault(tuple(key), {})[seed] = value

    def by_seed(cells: Cells, column: MatrixColumn, readout: str, split: str = "test") -> Scores:
        """Mean over the parts of a column by seed; empty where one has no score."""
        parts = []
        for p in column.parts:
            metric = metric_name(_target(evidence.grid, p).metrics[0], p.task or "", readout)
            parts.append(stored.get((p.dataset, *cells.get(p.dataset, ("", "")), metric, split), {}))
        return {s: fmean(p[s] for p in parts) for s in shared_seeds(parts)}

    for label in matrix.labels:
        cells = {d: (ref.method, ref.variant) for (x, d), ref in matrix.refs.items() if x == label}
        untrained = {d: (method, untrained_twin(variant)) for d, (method, variant) in cells.items()}
        for c, column in enumerate(matrix.columns):
            sign, on_val = matrix.measures[c].sign, {}
            fuses = bool(by_seed(cells, column, ENCODERS))
            for readout, named in ((ENCODERS, ENCODERS), (OWN, OWN)) if fuses else ((ENCODERS, OWN),):
                found, before = by_seed(cells, column, named), by_seed(untrained, column, named)
                if found:
                    matrix.by_readout[label, c, readout] = found
                    on_val[readout] = by_seed(cells, column, named, "val")
                    gains = {s: sign * (value - before[s]) for s, value in found.items() if s in before}
                    matrix.gains[label, c, readout] = gains
            if on_val:
                readout = matrix.headline[label, c] = headline_readout(on_val, sign)
                matrix.scores[label, c], matrix.on_val[label, c] = matrix.by_readout[label, c, readout], on_val[readout]


def _target(grid: Grid, part: MatrixPart) -> Target:
    return grid.datasets[part.dataset].targets[part.task or ""]


def matrix_blocks(matrix: Matrix) -> list[Block]:
    """Scores of the headline and of each readout; gains; differences to the reference; what holds across columns."""
    of = matrix.measures
    shares = all(m.percent for m in of)
    heading, in_points = (" (%)", " (points)") if shares else ("", "")
    both = {(label, c) for label, c in matrix.scores if all((label, c, r) in matrix.by_readout for r in READOUTS)}
    hidden = matrix.hidden
    headline = {
        at: Value.of(matrix.mean(*at), of[at[1]], MARKS[matrix.headline[at]] if at in both else "")
        for at in matrix.scores
        if at[0] not in hidden
    }
    blocks = [matrix_block(matrix, f"Scores of the linear probe{heading}", "score", headline)]
    for readout, name in READOUTS.items() if both else ():
        values = {
            (label, c): Value.of(matrix.over_seeds(found, c), of[c])
            for (label, c, r), found in matrix.by_readout.items()
            if r == readout
        }
        title = f"Readout: {name}{heading}"
        blocks.append(matrix_block(matrix, title, "fused" if readout == OWN else readout, values))
    gains = {at: Value.of(gain, of[at[1]]) for at, r in matrix.headline.items() if (gain := matrix.gain(*at, r))}
    if gains:
        title = f"Gain over the same readout of the same network, untrained{in_points}"
        blocks.append(matrix_block(matrix, title, "gain", gains, "difference"))
    if matrix.reference is not None:
        values = {at: Value.of(difference, of[at[1]]) for at, difference in matrix.differences().items()}
        values |= {(matrix.reference, c): Value(word="reference") for c in range(len(of))}
        title = f"Difference to {matrix.reference}{in_points}"
        blocks.append(matrix_block(matrix, title, "difference", values, "difference"))
    if across := matrix.across():
        iqm = Column("iqm", "Interquartile mean of the skill (%)", "score")
        rank = Column("rank", f"Mean rank among {count(len(matrix.ranked), 'row')}", "score")
        rows = [Row(label, {"iqm": Value.of(skill), "rank": Value(*at)}) for label, (skill, at) in across.items()]
        title = "Across all columns, rows trained without labels"
        blocks.append(Block(title, [iqm, rank], rows, {"dataset": ALL, "metric": "across"}))
    return blocks


def matrix_block(
    matrix: Matrix, title: str, metric: str, values: Mapping[tuple[str, int], Value], kind: Kind = "score"
) -> Block:
    """A row per label that has a value, a column per column of the matrix. values: (label, column) -> what is shown."""
    columns = [Column(f"{metric}_{c}", column.title, kind) for c, column in enumerate(matrix.columns)]
    rows = []
    for label in matrix.labels:
        found = {of.key: values[label, c] for c, of in enumerate(columns) if (label, c) in values}
        rows += [Row(label, found)] if found else []
    return Block(title, columns, rows, {"dataset": ALL, "metric": metric})


def matrix_findings(matrix: Matrix) -> list[str]:
    """Which methods lead across columns, of those trained without labels."""
    across = matrix.across()
    out = []
    for i, (what, best, unit) in enumerate(
        (("Highest interquartile mean skill", max, " %"), ("Best mean rank", min, ""))
    ):
        values = {x: shown(across[x][i]) if i == 0 else across[x][i] for x in matrix.ranked if across}
        if any(value.mean == value.mean for value in values.values()):  # else no column has a chance level
            label = best(values, key=lambda name: values[name].mean)
            n = count(len(values), "row")
            out.append(f"{what} among {n} trained without labels: {label}, {estimate(*values[label])}{unit}.")
    return out


def matrix_notes(grid: Grid, experiment: str, matrix: Matrix, contrasts: list[str]) -> list[str]:
    """What its recipes and probes are, its contrasts and columns, and how these are put together."""
    recipes = dict.fromkeys(grid.cell(d, c.method, c.variant).recipe for d, c in grid.experiment_cells(experiment))
    probe = probe_definition(grid.datasets[p.dataset] for c in matrix.columns for p in c.parts)
    seeds = [fewest_seeds(grid, column) for column in matrix.columns]
    lacking = [label for label in matrix.labels if label not in {*matrix.complete, *matrix.labelled}]
    return listed("notes", "matrix", grid, recipes, probe, contrasts, matrix, seeds, lacking)


def read_costs(evidence: Evidence, matrix: Matrix) -> dict[tuple[str, int], tuple[float, float]]:
    """(label, column) -> seconds of a seed's training without imports, data and scoring, mean over the column's
    datasets, and largest peak memory of a process (MiB). Raises DataError: a cost record is missing or damaged.
    """
    found = {}
    for label, c in matrix.scores:
        seconds, memory = [], []
        for dataset in dict.fromkeys(p.dataset for p in matrix.columns[c].parts):
            ref = matrix.refs[label, dataset]
            cell = evidence.grid.cell(dataset, ref.method, ref.variant)
            records = [evidence.cost(cell, stage) for stage in cell.stages]
            seconds.append(sum(record.training_seconds / record.seeds for record in records))
            memory.append(max(record.peak_memory_bytes for record in records) / 2**20)
        found[label, c] = float(np.mean(seconds)), max(memory)
    return found


def cost_block(evidence: Evidence, matrix: Matrix) -> Block:
    """Seconds and memory of every row and column; raises as `read_costs`."""
    columns: list[Column] = []
    rows = {label: Row(label, {}) for label in matrix.labels}
    for c, of in enumerate(matrix.columns):
        columns.append(Column(f"seconds_{c}", f"{of.title}: s per seed", "score"))
        columns.append(Column(f"memory_{c}", "peak MiB", "count"))
    for (label, c), (seconds, memory) in read_costs(evidence, matrix).items():
        rows[label].values.update({f"seconds_{c}": Value(seconds), f"memory_{c}": Value(memory)})
    trained = [row for row in rows.values() if row.values]
    return Block("Cost of training", columns, trained, {"dataset": ALL, "metric": "cost"})

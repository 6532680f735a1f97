"""What a method costs to train: seconds a seed and peak memory, from the cost records of its cells."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from mmcontrast.config import Grid
from mmcontrast.errors import DataError
from mmcontrast.paths import Layout
from mmcontrast.report.outputs import ALL
from mmcontrast.report.results import cell_name
from mmcontrast.report.tables.formats import Block, Column, Row, Value
from mmcontrast.report.tables.matrix import Matrix


@dataclass(frozen=True)
class Cost:
    """Seconds of one seed's training, without imports, data and scoring; most memory of the process, in MiB."""

    seconds: float
    mebibytes: float


def read_costs(grid: Grid, layout: Layout, matrix: Matrix) -> dict[tuple[str, int], Cost]:
    """(label, column) -> the mean cost over the column's datasets.

    Raises:
        DataError: a cost record is missing or damaged.
    """
    found = {}
    for label, c in matrix.scores:
        datasets = list(dict.fromkeys(p.dataset for p in matrix.columns[c].parts))
        of_each = [_read(grid, layout, matrix, label, d) for d in datasets]
        found[label, c] = Cost(
            float(np.mean([cost.seconds for cost in of_each])), float(np.max([cost.mebibytes for cost in of_each]))
        )
    return found


def _read(grid: Grid, layout: Layout, matrix: Matrix, label: str, dataset: str) -> Cost:
    ref = matrix.refs[label, dataset]
    cell = grid.cell(dataset, ref.method, ref.variant)
    seconds, memory = 0.0, 0.0
    for stage in cell.stages:
        path = grid.root / layout.stage(cell_name(dataset, ref), stage, "cost.json")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            seconds += record["training_seconds"] / record["seeds"]
            memory = max(memory, record["peak_memory_bytes"] / 2**20)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; run `mmcontrast {stage} {cell.name}` first") from None
        except (ValueError, KeyError, TypeError, ZeroDivisionError):
            raise DataError(f"{path}: damaged; run `mmcontrast {stage} {cell.name}` again") from None
    return Cost(seconds, memory)


def cost_block(matrix: Matrix, costs: dict[tuple[str, int], Cost]) -> Block:
    """Seconds and memory of every row and column."""
    columns = [
        column
        for c, of in enumerate(matrix.columns)
        for column in (
            Column(f"seconds_{c}", f"{of.title}: s a seed", "score"),
            Column(f"memory_{c}", "peak MiB", "count"),
        )
    ]
    rows = []
    for label in matrix.labels:
        values: dict[str, Value] = {}
        for c in range(len(matrix.columns)):
            if (label, c) in costs:
                cost = costs[label, c]
                values |= {f"seconds_{c}": Value(cost.seconds), f"memory_{c}": Value(cost.mebibytes)}
        rows.append(Row(label, values))
    return Block("Cost of training", columns, rows, {"dataset": ALL, "metric": "cost"})


COST_NOTE = (
    "Cost of training: seconds of one seed's training loop on one thread, of runs that may have shared the machine "
    "with another; over a column of several datasets their mean. Peak MiB: of the whole process, libraries and data "
    "included. The untrained row trains nothing, or settles batch statistics in one epoch."
)

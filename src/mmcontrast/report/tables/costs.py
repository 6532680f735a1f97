"""What a method costs to train: seconds per seed and peak memory, from the cost records of its cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmcontrast.report.evidence import Evidence
from mmcontrast.report.tables.formats import Block, Column, Value
from mmcontrast.report.tables.matrix import Matrix, matrix_block


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

"""Label efficiency: the probe fitted on a few labels per class, which is what pretraining without labels is for.

The labelled cases are drawn by the dataset's name, the seed and the number of the draw, whatever the method, and those
of a smaller number are among those of a larger one. Features are scaled by all training cases, which asks for no label.
Validation is the whole split, as always: it chooses the strength alone.

Shapes: N training cases.
"""

from __future__ import annotations

import zlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import CellConfig
from mmcontrast.evaluation.probe_predictions import SCORED, Stored, fit_on
from mmcontrast.evaluation.protocols import METRICS_SCHEMA
from mmcontrast.evaluation.readouts import metric_name
from mmcontrast.evaluation.scores import score

DRAWS = 5


def drawn_rows(labels_N: NDArray[np.integer], per_class: int, generator: np.random.Generator) -> NDArray[np.integer]:
    """Rows of `per_class` cases of each class, or all of a class that has fewer; ascending."""
    order_N = generator.permutation(len(labels_N))
    drawn = [order_N[labels_N[order_N] == c][:per_class] for c in np.unique(labels_N)]
    return np.sort(np.concatenate(drawn))


def few_label_scores(embeddings: Stored, cell: CellConfig, readout: str) -> pl.DataFrame:
    """Mean over DRAWS draws of the scores of every seed, by cell.label_counts (METRICS_SCHEMA).

    Of the dataset's own label alone, and only where it is one class per instance: nothing else is per class.
    """
    target, rows = cell.targets[""], []
    epoch = getattr(cell, cell.last_stage).epochs - 1
    for seed in cell.seeds:
        labels_N = embeddings[seed, "train"].cases("").labels
        for count in cell.label_counts if target.kind == "classes" else []:
            found: dict[tuple[str, str], list[float]] = {}
            for draw in range(DRAWS):
                generator = np.random.default_rng([zlib.crc32(cell.dataset.encode()), seed, draw])
                probe = fit_on(embeddings, cell, seed, readout=readout, rows=drawn_rows(labels_N, count, generator))
                for split in SCORED:
                    part = embeddings[seed, split].cases("")
                    outputs = part.labels, probe.predict(part.of(readout)), part.weights.get("")
                    for metric in target.metrics:
                        found.setdefault((split, metric), []).append(score(metric, *outputs))
            for (split, metric), values in found.items():
                name, n = metric_name(metric, readout=readout, labels=count), len(embeddings[seed, split].cases("").ids)
                rows.append((seed, "selected", split, name, float(np.mean(values)), n, epoch))
    return pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row")

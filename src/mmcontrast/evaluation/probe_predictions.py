"""Score embeddings with a linear probe, as predictions of one epoch: the last, which the weights are of.

Label efficiency is the probe fitted on a few labels per class, which is what pretraining without labels is for. The
labelled cases are drawn by the dataset's name, the seed and the number of the draw, whatever the method, and those of a
smaller number are among those of a larger one. Features are scaled by all training cases, which asks for no label.
Validation is the whole split, as always: it chooses the strength alone.

Shapes: N cases, C classes, labels or quantities.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import CellConfig
from mmcontrast.config.metrics import metric_name
from mmcontrast.errors import DataError
from mmcontrast.evaluation.columns import CURVES_SCHEMA, METRICS_SCHEMA, OWN, fitted_on
from mmcontrast.evaluation.scores import score
from mmcontrast.evaluation.stored import Embeddings, Predictions

if TYPE_CHECKING:
    from mmcontrast.evaluation.probe import Probe, Weights


log = logging.getLogger(__name__)

SCORED = ("val", "test")
# the loss on validation of every strength that was tried, of which the least was chosen; further column `strength`
PROBE_LOSS = "probe_loss"
Stored = Mapping[tuple[int, str], Embeddings]
Predicted = dict[tuple[int, str], Predictions]


def probe_predictions(
    embeddings: Stored, cell: CellConfig, task: str = "", readout: str = OWN
) -> tuple[dict[str, Predicted], pl.DataFrame]:
    """readout -> (seed, val | test) -> predictions of probes fitted on one readout of the seed's train split.

    Of that readout, and of every other that is for the same probe; then PROBE_LOSS by strength. The strength is chosen
    on val; the test split is predicted once, by the chosen probe, which with compat.probe_refit is one of train and val
    together.
    task: one of cell.tasks, whose labels the probe is for; default: the dataset's own label. Cases have the task's
    weights, and for one of cell.class_weighted every class weighs alike in the fit. readout: see `evaluation.columns`.
    Raises DataError: the probe cannot be fitted; names the cell and seed.
    """
    epoch = getattr(cell, cell.last_stage).epochs - 1
    scored = [v for v in readouts(embeddings) if fitted_on(v) == readout]
    out: dict[str, Predicted] = {v: {} for v in scored}
    losses = []
    fitted: dict[str, Probe] = {}
    for seed in cell.seeds:
        parts = [embeddings[seed, split].cases(task) for split in ("train", "val")]
        arrays = [a for part in parts for a in (part.of(readout), part.labels, *part.weights.values())]
        # what no seed changes, as raw inputs, is fitted once
        key = hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()
        fitted[key] = probe = fitted.get(key) or fit_on(embeddings, cell, seed, task, readout)
        losses += [(seed, epoch, "val", PROBE_LOSS, value, c) for c, value in probe.validation.items()]
        for split in SCORED:
            part = embeddings[seed, split].cases(task)
            for v in scored:
                probs_1NC = probe.predict(part.of(v))[None].astype(np.float32)
                out[v][seed, split] = Predictions(part.ids, part.labels, probs_1NC, [epoch], part.weights.get(""))
    return out, pl.DataFrame(losses, schema=CURVES_SCHEMA | {"strength": pl.Float64}, orient="row")


def fit_on(
    embeddings: Stored,
    cell: CellConfig,
    seed: int,
    task: str = "",
    readout: str = OWN,
    rows: NDArray[np.integer] | None = None,
) -> Probe:
    """The probe of one seed. rows: the training cases whose labels it is given; default: all of them."""
    from mmcontrast.evaluation.probe import STRENGTHS, balanced, fit_probe  # scikit-learn: only cells with a probe

    target, (train, val) = cell.targets[task], (embeddings[seed, split].cases(task) for split in ("train", "val"))
    who = ", ".join(part for part in (cell.name, task and f"task {task}", readout and f"readout {readout}") if part)
    compat = cell.objective.get("compat", {})
    given = slice(None) if rows is None else rows
    z_ND, labels = train.of(readout), train.labels[given]
    weights: Weights | None = None
    if cell.case_weights:
        weights = train.weights[""][given], val.weights[""]
    elif task in cell.class_weighted:
        weights = balanced(labels), balanced(val.labels)
    try:
        probe = fit_probe(
            z_ND[given],
            labels,
            val.of(readout),
            val.labels,
            target.width,
            target.kind,
            weights=None if compat.get("probe_unweighted") else weights,
            refit_on_val=bool(compat.get("probe_refit")),
            scaled_by=z_ND,
        )
    except DataError as e:
        raise DataError(f"{who}, seed {seed}: {e}") from None
    level = logging.INFO if rows is None else logging.DEBUG
    log.log(level, "%s, seed %d: C = %g of %g to %g", who, seed, probe.strength, STRENGTHS[0], STRENGTHS[-1])
    if not probe.converged:
        log.warning("%s, seed %d: the probe did not converge at C = %g", who, seed, probe.strength)
    return probe


def readouts(embeddings: Stored) -> list[str]:
    """What there is to score, the own embedding first."""
    return [OWN, *next(iter(embeddings.values())).readouts]


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
            for (split, scored), values in found.items():
                name, n = metric_name(scored, readout=readout, labels=count), len(embeddings[seed, split].cases("").ids)
                rows.append((seed, "selected", split, name, float(np.mean(values)), n, epoch))
    return pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row")

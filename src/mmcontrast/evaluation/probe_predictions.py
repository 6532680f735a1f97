"""Score embeddings with a linear probe, as predictions of one epoch: the last, which the weights are of.

Shapes: N cases, C classes, labels or quantities.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import CellConfig
from mmcontrast.errors import DataError
from mmcontrast.evaluation.embeddings import Embeddings
from mmcontrast.evaluation.predictions import Predictions
from mmcontrast.evaluation.protocols import CURVES_SCHEMA
from mmcontrast.evaluation.readouts import OWN, fitted_on

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

    Their strength is chosen on val; the test split is predicted once, by the chosen probe. With compat.probe_refit that
    is one of train and val together.

    Args:
        task: one of cell.tasks, whose labels the probe is for; default: the dataset's own label. Cases have the task's
            weights, and for one of cell.class_weighted every class weighs alike in the fit.
        readout: what the probe is fitted on; see `evaluation.readouts`.

    Returns:
        The predictions of that readout, and of every other that is for the same probe; and PROBE_LOSS by strength.

    Raises:
        DataError: the probe cannot be fitted; names the cell and seed.
    """
    epoch = getattr(cell, cell.last_stage).epochs - 1
    scored = [v for v in readouts(embeddings) if fitted_on(v) == readout]
    out: dict[str, Predicted] = {v: {} for v in scored}
    losses = []
    fitted: dict[bytes, Probe] = {}
    for seed in cell.seeds:
        # raw inputs, for one, are the same for every seed
        fitting = [embeddings[seed, split].cases(task) for split in ("train", "val")]
        same = sha256(b"".join(part.of(readout).tobytes() + part.labels.tobytes() for part in fitting)).digest()
        probe = fitted.get(same) or fit_on(embeddings, cell, seed, task, readout)
        fitted[same] = probe
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

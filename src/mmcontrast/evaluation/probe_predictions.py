"""Score embeddings with a linear probe, as predictions of one epoch: the last, which the weights are of.

Shapes: N cases, C classes, labels or quantities.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import numpy as np

from mmcontrast.config import CellConfig
from mmcontrast.errors import DataError
from mmcontrast.evaluation.embeddings import Embeddings
from mmcontrast.evaluation.predictions import Predictions
from mmcontrast.evaluation.readouts import OWN, fitted_on

log = logging.getLogger(__name__)

SCORED = ("val", "test")


def probe_predictions(
    embeddings: Mapping[tuple[int, str], Embeddings], cell: CellConfig, task: str = "", readout: str = OWN
) -> dict[str, dict[tuple[int, str], Predictions]]:
    """readout -> (seed, val | test) -> predictions of probes fitted on one readout of the seed's train split.

    Its strength is chosen on val by the task's first metric; the test split is predicted once, by the chosen probe.
    With compat.probe_refit that is one of train and val together.

    Args:
        task: one of cell.tasks, whose labels the probe is for; default: the dataset's own label. For one of
            cell.class_weighted every class weighs alike in the fit.
        readout: what the probe is fitted on; see `evaluation.readouts`.

    Returns:
        The predictions of that readout, and of every other that is for the same probe.

    Raises:
        DataError: the probe cannot be fitted; names the cell and seed.
    """
    from mmcontrast.evaluation.probe import STRENGTHS, fit_probe  # scikit-learn, which finetuned cells do without

    target = cell.targets[task]
    who = ", ".join(part for part in (cell.name, task and f"task {task}", readout and f"readout {readout}") if part)
    class_weight: Literal["balanced"] | None = "balanced" if task in cell.class_weighted else None
    refit = bool(cell.objective.get("compat", {}).get("probe_refit"))
    epoch = getattr(cell, cell.last_stage).epochs - 1
    scored = [v for v in readouts(embeddings) if fitted_on(v) == readout]
    out: dict[str, dict[tuple[int, str], Predictions]] = {v: {} for v in scored}
    for seed in cell.seeds:
        parts = {split: embeddings[seed, split].cases(task) for split in ("train", *SCORED)}
        train, val = parts["train"], parts["val"]
        try:
            fitted = train.of(readout), train.labels, val.of(readout), val.labels
            probe = fit_probe(
                *fitted,
                target.width,
                target.metrics[0],
                class_weight=class_weight,
                refit_on_val=refit,
                train_weights=train.weights.get(""),
                val_weights=val.weights.get(""),
            )
        except DataError as e:
            raise DataError(f"{who}, seed {seed}: {e}") from None
        log.info("%s, seed %d: C = %g of %g to %g", who, seed, probe.strength, STRENGTHS[0], STRENGTHS[-1])
        if not probe.converged:
            log.warning("%s, seed %d: the probe did not converge at C = %g", who, seed, probe.strength)
        for split in SCORED:
            part = parts[split]
            for v in scored:
                probs_1NC = probe.predict(part.of(v))[None].astype(np.float32)
                out[v][seed, split] = Predictions(part.ids, part.labels, probs_1NC, [epoch], part.weights.get(""))
    return out


def readouts(embeddings: Mapping[tuple[int, str], Embeddings]) -> list[str]:
    """What there is to score, the own embedding first."""
    return [OWN, *next(iter(embeddings.values())).readouts]

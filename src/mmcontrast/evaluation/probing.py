"""Score embeddings with a linear probe, as predictions of one epoch: the last, which the weights are of.

Shapes: N cases, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from mmcontrast.config import CellConfig
from mmcontrast.errors import DataError
from mmcontrast.evaluation.embeddings import Embeddings
from mmcontrast.evaluation.predictions import Predictions

log = logging.getLogger(__name__)

SCORED = ("val", "test")


def probe_predictions(
    embeddings: Mapping[tuple[int, str], Embeddings], cell: CellConfig, task: str = ""
) -> dict[tuple[int, str], Predictions]:
    """(seed, val | test) -> probabilities of a probe fitted on the seed's train split, its strength chosen on val.

    The test split is predicted once, by the chosen probe. The cell's first metric chooses.

    Args:
        task: one of cell.tasks, whose labels the probe is for; default: the dataset's own label. For one of
            cell.class_weighted every class weighs alike in the fit.

    Raises:
        DataError: the probe cannot be fitted; names the cell and seed.
    """
    from mmcontrast.evaluation.probe import STRENGTHS, fit_probe  # scikit-learn, which finetuned cells do without

    if task:
        embeddings = {key: replace(part, labels=part.tasks[task]) for key, part in embeddings.items()}
    n_classes = len(cell.tasks[task] if task else cell.classes)
    who = f"{cell.name}, task {task}" if task else cell.name
    class_weight: Literal["balanced"] | None = "balanced" if task in cell.class_weighted else None
    epoch = getattr(cell, cell.last_stage).epochs - 1
    out: dict[tuple[int, str], Predictions] = {}
    for seed in cell.seeds:
        train, val = embeddings[seed, "train"], embeddings[seed, "val"]
        try:
            probe = fit_probe(
                train.z, train.labels, val.z, val.labels, n_classes, cell.metrics[0], class_weight=class_weight
            )
        except DataError as e:
            raise DataError(f"{who}, seed {seed}: {e}") from None
        log.info("%s, seed %d: C = %g of %g to %g", who, seed, probe.strength, STRENGTHS[0], STRENGTHS[-1])
        if not probe.converged:
            log.warning("%s, seed %d: the probe did not converge at C = %g", who, seed, probe.strength)
        for split in SCORED:
            part = embeddings[seed, split]
            probs_1NC = probe.predict(part.z)[None].astype(np.float32)
            out[seed, split] = Predictions(part.ids, part.labels, probs_1NC, [epoch])
    return out

"""Columns of a cell's outputs: labels and predictions of every kind of target, readouts of an embedding, and scores.

Readouts are the embeddings that are scored beside a cell's own. encoders: the encoders' outputs one after another: one
definition for all methods, whatever stands behind the encoders. without_<modality>: the own embedding with a modality
taken out, for the probe that was fitted on the whole embedding: what is lost is what it had from that modality.

Shapes: N cases, C classes, labels or quantities.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config.metrics import Kind, Target

OWN = ""
ENCODERS = "encoders"
WITHOUT = "without_"
COLUMN = "embedding"


def without(modality: str) -> str:
    """The readout that lacks a modality."""
    return WITHOUT + modality


def column(readout: str) -> str:
    """Its column in embeddings.parquet."""
    return f"{COLUMN}@{readout}" if readout else COLUMN


def readouts_of(columns: Iterable[str]) -> list[str]:
    """The readouts that a file's columns hold, the own one first."""
    return [OWN, *(c.removeprefix(f"{COLUMN}@") for c in columns if c.startswith(f"{COLUMN}@"))]


def fitted_on(readout: str) -> str:
    """The readout whose train split the probe of this one is fitted on."""
    return OWN if readout.startswith(WITHOUT) else readout


CURVES_SCHEMA = {"seed": pl.Int64, "epoch": pl.Int64, "split": pl.String, "metric": pl.String, "value": pl.Float64}
SCORED: dict[str, Any] = dict.fromkeys(("protocol", "split", "metric"), pl.String)
METRICS_SCHEMA: dict[str, Any] = {"seed": pl.Int64, **SCORED, "value": pl.Float64, "n": pl.Int64, "epoch": pl.Int64}
INTERVALS_SCHEMA: dict[str, Any] = {
    **SCORED,
    **dict.fromkeys(("mean", "low", "high"), pl.Float64),
    **dict.fromkeys(("n_seeds", "n_cases"), pl.Int64),
    # by seed, what each test instance, or group of them, moves a selected score by; of other protocols empty
    "influence": pl.List(pl.List(pl.Float32)),
}
SUM_TOLERANCE = 1e-2


def label_type(target: Target) -> Any:
    """Type of a column of labels: a class index, or a 0 or 1 for each label, or a number for each quantity."""
    if target.kind == "classes":
        return pl.Int64
    return pl.Array(pl.UInt8 if target.kind == "multilabel" else pl.Float32, target.width)


def output_column(kind: Kind) -> str:
    """The column of predictions.parquet that holds what is predicted."""
    return "values" if kind == "regression" else "probs"


def not_predictions(kind: Kind, outputs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows (..., C) are not what this kind of target is predicted by."""
    bad = np.asarray(~np.isfinite(outputs).all(-1))
    if kind == "regression" or bad.any():
        return bad
    bad = np.asarray((outputs < 0).any(-1))
    return bad | ((outputs > 1).any(-1) if kind == "multilabel" else np.abs(outputs.sum(-1) - 1) > SUM_TOLERANCE)

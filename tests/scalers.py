"""Scalers fitted on rows that are all at hand."""

from __future__ import annotations

import numpy as np

from mmcontrast.data.scaling import Running, Scaler


def fit(train_Nd: np.ndarray, scaling: str) -> Scaler:
    """A scaler from training rows: float64, at least one row. `scaling`: as `Running.scaler`."""
    seen = Running(train_Nd.shape[1])
    seen.add(train_Nd)
    return seen.scaler(scaling)

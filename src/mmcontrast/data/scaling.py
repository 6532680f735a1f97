"""Scaling of vector features, fitted on the training split alone. N rows, d features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONSTANT_BELOW = 1e-10


@dataclass(frozen=True)
class Scaler:
    """x -> (x - offset) / spread, feature by feature, without clipping.

    Attributes:
        offset_d, spread_d: float64.
        constant_d: True where the training range is below CONSTANT_BELOW. The spread counts as 1 there: dividing by
            the tiny range instead, as the released M3CoL code does, sends a test value to 1e10.
    """

    offset_d: np.ndarray
    spread_d: np.ndarray
    constant_d: np.ndarray

    def __call__(self, values_Nd: np.ndarray) -> np.ndarray:
        return (values_Nd - self.offset_d) / self.spread_d


def fit(train_Nd: np.ndarray, scaling: str) -> Scaler:
    """A scaler from training rows.

    Args:
        train_Nd: float64, at least one row.
        scaling: minmax = training range to [0, 1]; standard = mean 0, standard deviation 1 (of the population);
            none = as it is.
    """
    low_d, high_d = train_Nd.min(axis=0), train_Nd.max(axis=0)
    constant_d = high_d - low_d < CONSTANT_BELOW
    if scaling == "minmax":
        offset_d, spread_d = low_d, high_d - low_d
    elif scaling == "standard":
        # the mean of equal numbers may differ from them in the last bit, so a constant is taken as it is
        offset_d = np.where(constant_d, low_d, train_Nd.mean(axis=0))
        spread_d = train_Nd.std(axis=0)
    else:
        offset_d, spread_d = np.zeros_like(low_d), np.ones_like(low_d)
    return Scaler(offset_d, np.where(constant_d, 1.0, spread_d), constant_d)

"""Scaling and filling of features, fitted on the training split alone. N rows or steps, d features.

A value that is missing, NaN, is filled with the feature's mean over train, before scaling. What was fitted is kept in
`fitted.json` beside the prepared splits, and travels with every model: modality -> a list of d values for each
attribute of `Scaler`, as they were computed, to the last bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmcontrast.data.files import again, read_json, write_json
from mmcontrast.errors import DataError

CONSTANT_BELOW = 1e-10
FAR = 1e6
FITTED = "fitted.json"


@dataclass(frozen=True)
class Scaler:
    """x -> (x - offset) / spread, in float64, feature by feature, without clipping; a missing x counts as `fill`.

    Attributes:
        constant_d: True where the training range is below CONSTANT_BELOW. The spread counts as 1 there: dividing by
            the tiny range instead, as the released M3CoL code does, sends a test value to 1e10.
        features_d: names, where the data have them; else empty.
        missing, decimal: cells of the dataset's tables that stand for no number, and what is before a fraction there.
    """

    offset_d: np.ndarray
    spread_d: np.ndarray
    constant_d: np.ndarray
    fill_d: np.ndarray
    features_d: Sequence[str] = ()
    missing: Sequence[str] = ()
    decimal: str = "."

    def __call__(self, values_Nd: np.ndarray) -> np.ndarray:
        missing_Nd = np.isnan(values_Nd)
        if missing_Nd.any():
            values_Nd = np.where(missing_Nd, self.fill_d, values_Nd)
        return (values_Nd - self.offset_d) / self.spread_d


class Running:
    """Statistics of features, a batch of rows at a time; of one batch alone they are numpy's own, to the bit."""

    def __init__(self, width: int) -> None:
        self._n_d = np.zeros(width)
        self._low_d, self._high_d = np.full(width, np.inf), np.full(width, -np.inf)
        self._mean_d, self._variance_d = np.zeros(width), np.zeros(width)

    def add(self, values_Nd: np.ndarray) -> None:
        """Count rows in. `values_Nd`: float64, NaN where a value is missing."""
        n_d, mean_d, variance_d = _moments(values_Nd)
        self._low_d = np.fmin(self._low_d, np.fmin.reduce(values_Nd, axis=0, initial=np.inf))
        self._high_d = np.fmax(self._high_d, np.fmax.reduce(values_Nd, axis=0, initial=-np.inf))
        total_d = self._n_d + n_d
        share_d = n_d / np.maximum(total_d, 1)
        first_d = share_d == 1
        step_d = np.where(first_d, 0.0, mean_d - self._mean_d)
        self._variance_d = (1 - share_d) * (self._variance_d + step_d * step_d * share_d) + share_d * variance_d
        self._mean_d = np.where(first_d, mean_d, self._mean_d + step_d * share_d)
        self._n_d = total_d

    @property
    def empty_d(self) -> np.ndarray:
        """True where no row has a value."""
        return self._n_d == 0

    def scaler(self, scaling: str) -> Scaler:
        """Scaler of the rows so far: minmax = to [0, 1]; standard = mean 0, deviation (of the population) 1; none."""
        low_d, high_d = self._low_d, self._high_d
        constant_d = ~(high_d - low_d >= CONSTANT_BELOW)
        if scaling == "minmax":
            offset_d, spread_d = low_d, high_d - low_d
        elif scaling == "standard":
            # the mean of equal numbers may differ from them in the last bit, so a constant is taken as it is
            offset_d, spread_d = np.where(constant_d, low_d, self._mean_d), np.sqrt(self._variance_d)
        else:
            offset_d, spread_d = np.zeros_like(low_d), np.ones_like(low_d)
        return Scaler(offset_d, np.where(constant_d, 1.0, spread_d), constant_d, self._mean_d)


class Farthest:
    """The two lowest and the two highest values of each feature, a batch of rows at a time."""

    def __init__(self, width: int) -> None:
        self._lowest_s2d = np.full((2, 2, width), np.inf)  # of the values, and of their opposites

    def add(self, values_Nd: np.ndarray) -> None:
        """Count rows in. `values_Nd`: float64, NaN where a value is missing, which counts as the largest."""
        all_sNd = np.concatenate([self._lowest_s2d, np.stack([values_Nd, -values_Nd])], axis=1)
        self._lowest_s2d = np.partition(all_sNd, 1, axis=1)[:, :2]

    @property
    def alone_d(self) -> np.ndarray:
        """True where one value is more than FAR times as far from the others as these are from one another."""
        (lowest_d, low_d), (highest_d, high_d) = self._lowest_s2d[0], -self._lowest_s2d[1]
        with np.errstate(over="ignore", invalid="ignore"):  # a feature without values is refused elsewhere
            spread_d, gap_d = high_d - low_d, np.maximum(low_d - lowest_d, highest_d - high_d)
            return np.asarray((spread_d > 0) & (gap_d > FAR * spread_d))


def _moments(values_Nd: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(d,) number, mean and variance of the values that are there; 0 where there are none."""
    missing_Nd = np.isnan(values_Nd)
    if len(values_Nd) and not missing_Nd.any():
        return np.full(values_Nd.shape[1], float(len(values_Nd))), values_Nd.mean(axis=0), values_Nd.var(axis=0)
    n_d = (~missing_Nd).sum(axis=0).astype(np.float64)
    mean_d = np.where(missing_Nd, 0.0, values_Nd).sum(axis=0) / np.maximum(n_d, 1)
    squares_Nd = np.where(missing_Nd, 0.0, values_Nd - mean_d) ** 2
    return n_d, mean_d, squares_Nd.sum(axis=0) / np.maximum(n_d, 1)


def write_fitted(
    folder: Path,
    scalers: Mapping[str, Scaler],
    names: Mapping[str, Sequence[str]],
    cells: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Keep what was fitted on train; `names`: of d features; `cells`: `missing` and `decimal` of a modality's table."""
    told = {m: replace(s, features_d=names.get(m, ()), **(cells or {}).get(m, {})) for m, s in scalers.items()}
    values = {m: {f.name: np.asarray(getattr(s, f.name)).tolist() for f in fields(s)} for m, s in told.items()}
    plain = {"missing": [], "decimal": "."}  # which are not written
    kept = {m: {k: v for k, v in of.items() if k not in plain or v != plain[k]} for m, of in values.items()}
    write_json(folder / FITTED, kept, seal=True)


def read_fitted(path: Path) -> dict[str, Scaler]:
    """modality -> what turns its raw values into what a model takes: call it with (N, d) numbers, NaN where missing.

    `path`: `fitted.json` of a prepared dataset, or a copy beside a model. DataError: missing, or not such a file.
    """
    try:
        return {m: Scaler(**{name: _read(name, x) for name, x in of.items()}) for m, of in read_json(path).items()}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {again(path)}") from None
    except (ValueError, TypeError, AttributeError) as e:
        raise DataError(f"{path}: not what `mmcontrast data prepare` writes ({e})") from None


def _read(name: str, values: list[Any]) -> Any:
    if name in ("features_d", "missing", "decimal"):
        return values
    return np.array(values, bool if name == "constant_d" else float)

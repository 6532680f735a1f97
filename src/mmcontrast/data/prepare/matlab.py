"""MATLAB 5 files (up to v7.2; v7.3 is HDF5), read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from mmcontrast.errors import DataError


def read_mat(path: Path) -> dict[str, Any]:
    """Variables by name.

    Raises:
        DataError: the file is missing, or is no MATLAB 5 file.
    """
    try:
        with path.open("rb") as file:
            variables: dict[str, Any] = loadmat(file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `mmcontrast data fetch` again") from None
    except (MatReadError, ValueError, NotImplementedError, TypeError, OSError) as e:
        raise DataError(f"{path}: not readable as a MATLAB 5 file ({e})") from None
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def numeric(variables: dict[str, Any], name: str, path: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """A variable as finite float64 numbers.

    Args:
        shape: what it must have; None = any.

    Raises:
        DataError: missing, of another shape, or not finite.
    """
    if name not in variables:
        raise DataError(f"{path}: no variable '{name}'; it holds {', '.join(sorted(variables)) or 'none'}")
    values = np.asarray(variables[name])
    if shape is not None and values.shape != shape:
        raise DataError(f"{path}: {name} has shape {values.shape}, expected {shape}")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise DataError(f"{path}: {name}: row {row + 1} holds a value that is not finite")
    return values

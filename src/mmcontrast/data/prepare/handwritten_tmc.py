"""Multiple features of handwritten digits (UCI 72) as packaged with TMC (Han et al., ICLR 2021).

One MATLAB 5 file with x<k>_train, x<k>_test, gt_train, gt_test, views in the order pix, fou, fac, zer, kar, mor,
classes 1 to 10. The same digits in csv (`handwritten`) are read by the reader of tables.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmcontrast.config import Dataset, PublishedSplit
from mmcontrast.data.instances import Instances
from mmcontrast.data.prepare.matlab import numeric, read_mat
from mmcontrast.errors import ConfigError, DataError, nearest

FILE = "handwritten_6views.mat"
ORDER = ("pix", "fou", "fac", "zer", "kar", "mor")


def read(name: str, dataset: Dataset, raw_dir: Path) -> Instances:
    """All digits in the file's order, train first.

    Raises:
        DataError: the file is missing, or is not what params/ says.
        ConfigError: the split is not one of this packaging.
    """
    where, path = f"params/datasets/{name}.yaml", raw_dir / FILE
    variables = read_mat(path)
    if not isinstance(dataset.split, PublishedSplit) or dataset.split.val:
        raise ConfigError(f"{where}: split: the file comes with a train and a test part, no other")
    parts = {"train": dataset.split.train, "test": dataset.split.test}
    labels, inputs = [], {}
    for split, rows in parts.items():
        values_N = numeric(variables, f"gt_{split}", path, (rows, 1))[:, 0]
        for row, value in enumerate(values_N.tolist()):
            if value - 1 not in range(len(dataset.classes)):
                accepted = f"1 to {len(dataset.classes)}"
                raise DataError(f"{path}: row {row + 1}: digit {value:g}; accepted: {accepted}")
        labels.append((values_N - 1).astype(np.int64))
    for view, spec in dataset.modalities.items():
        if view not in ORDER:
            raise ConfigError(f"{where}: modalities: no view '{view}' in {FILE}; {nearest(view, ORDER)}")
        number = ORDER.index(view) + 1
        blocks = [numeric(variables, f"x{number}_{s}", path, (rows, *spec.shape)) for s, rows in parts.items()]
        inputs[view] = np.concatenate(blocks)
    ids = [f"{split}-{i:04d}" for split, rows in parts.items() for i in range(rows)]
    splits = [split for split, rows in parts.items() for _ in range(rows)]
    # the file names no feature
    names = {view: [f"{view}_{j}" for j in range(spec.shape[0])] for view, spec in dataset.modalities.items()}
    return Instances(ids, np.concatenate(labels), inputs, names, splits)

"""The files of MOGONET (Wang et al., 2021): ROSMAP and BRCA, in one layout.

`{1,2,3}_{tr,te}.csv` hold one row a person, without header; `labels_{tr,te}.csv` the class as a float, in the same
order; `{1,2,3}_featname.csv` a feature name a line. The number is the position of the modality. The split is fixed, and
the files name no person: ids are `train-0000`, `test-0000` by position.
"""

from pathlib import Path

import numpy as np

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Stream, from_arrays, train_and_test
from mmcontrast.data.prepare.readers import class_indices, column, expect, numbers, read_sheet
from mmcontrast.errors import DataError

SUFFIXES = {"train": "tr", "test": "te"}


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All people of both splits, train first."""
    where = f"params/datasets/{name}.yaml"
    rows, labels = train_and_test(dataset, f"{where}: split: these files come"), []
    for part, suffix in SUFFIXES.items():
        sheet = read_sheet(raw_dir / f"labels_{suffix}.csv", header=False)
        expect(sheet, rows[part], f"{where}: split.{part}", 1, "the layout of label files")
        labels.append(class_indices(sheet, numbers(sheet, ["label"])[:, 0], dataset.classes))
    inputs, feature_names = {}, {}
    for position, (modality, spec) in enumerate(dataset.modalities.items(), start=1):
        names = _feature_names(raw_dir / f"{position}_featname.csv", spec.shape[0], f"{where}: modalities.{modality}")
        parts = []
        for part, suffix in SUFFIXES.items():
            sheet = read_sheet(raw_dir / f"{position}_{suffix}.csv", header=False)
            expect(sheet, rows[part], f"{where}: split.{part}", spec.shape[0], f"{where}: modalities.{modality}")
            parts.append(numbers(sheet, names))
        inputs[modality] = np.concatenate(parts)
        feature_names[modality] = names
    return from_arrays(np.concatenate(labels), inputs, feature_names, rows)


def _feature_names(path: Path, width: int, key: str) -> list[str]:
    names = column(read_sheet(path, header=False), "column 1")
    if len(names) != width:
        raise DataError(f"{path}: {len(names)} feature names, and {key} says {width}")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise DataError(f"{path}: lines {names.index(name) + 1} and {i + 1} both name '{name}'")
    return names

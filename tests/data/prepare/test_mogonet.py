"""MOGONET's layout is read as it is, and anything else is refused by file, line and column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcontrast.data.prepare import mogonet, prepare
from mmcontrast.errors import ConfigError, DataError
from tests.data.arrays import arrays

Files = dict[str, str]


def test_rows_features_and_split(raw_rosmap: Any, small: Any) -> None:
    files = small.mogonet_files()
    dataset, raw = raw_rosmap(files)
    got = arrays(mogonet.stream("rosmap", dataset, raw))
    assert got.ids == [f"train-{i:04d}" for i in range(8)] + [f"test-{i:04d}" for i in range(4)]
    assert got.splits == ["train"] * 8 + ["test"] * 4
    assert got.labels.tolist() == [0, 1] * 6
    assert got.feature_names["methylation"] == ["methylation|0", "methylation|1", "methylation|2"]
    for k, modality in enumerate(dataset.modalities, start=1):
        lines = (files[f"{k}_tr.csv"] + files[f"{k}_te.csv"]).splitlines()
        expected = [[float(cell) for cell in line.split(",")] for line in lines]
        np.testing.assert_array_equal(got.inputs[modality], expected)


def drop_column(text: str) -> str:
    return "".join(line.rsplit(",", 1)[0] + "\n" for line in text.splitlines())


def drop_row(text: str) -> str:
    return "".join(line + "\n" for line in text.splitlines()[:-1])


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("2_tr.csv", drop_column, "2 feature columns, and {params}: modalities.methylation says 3"),
        ("2_te.csv", drop_row, "3 rows, and {params}: split.test says 4"),
        ("labels_tr.csv", drop_row, "7 rows, and {params}: split.train says 8"),
        ("labels_tr.csv", lambda t: t.replace("\n", ",0\n"), "2 feature columns, and the layout of label files says 1"),
        ("1_featname.csv", drop_row, "3 feature names, and {params}: modalities.mrna says 4"),
        ("1_featname.csv", lambda t: t.replace("mrna|3", "mrna|1"), "lines 2 and 4 both name 'mrna|1'"),
        ("3_te.csv", ("nan", 2, 1), "line 2, column 1 (mirna|0) holds 'nan', which is not a finite number"),
        ("3_te.csv", ("high", 4, 2), "line 4, column 2 (mirna|1) holds 'high', which is not a finite number"),
        ("3_te.csv", ("", 4, 2), "line 4, column 2 (mirna|1) is empty"),
        ("labels_te.csv", ("2.0", 3, 1), "line 3: label 2; accepted: 0 = no, 1 = yes"),
        ("labels_te.csv", ("yes", 3, 1), "line 3, column 1 (label) holds 'yes', which is not a finite number"),
    ],
)
def test_bad_files_are_refused(
    file: str, edit: Callable[[str], str] | tuple[str, int, int], message: str, raw_rosmap: Any, small: Any
) -> None:
    files = small.mogonet_files()
    if callable(edit):
        files[file] = edit(files[file])
    else:
        value, line, column = edit
        files[file] = small.replace_cell(files[file], line, column, value)
    dataset, raw = raw_rosmap(files)
    with pytest.raises(DataError) as e:
        prepare("rosmap", dataset, raw, raw.parent / "out")
    expected = message.format(params="params/datasets/rosmap.yaml")
    assert str(e.value).startswith(f"{raw / file}: {expected}")
    assert not (raw.parent / "out").exists()


def test_a_split_that_the_files_do_not_have(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    split = {"kind": "published", "train": 6, "val": 2, "test": 4}
    dataset, raw = raw_rosmap(small.mogonet_files(), split=split)
    with pytest.raises(ConfigError, match="come with a train and a test part, no other"):
        prepare("rosmap", dataset, raw, tmp_path / "out")

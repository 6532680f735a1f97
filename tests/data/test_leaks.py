"""What crosses splits is found, and what does not is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcontrast.config import Modality
from mmcontrast.data import leaks, table
from mmcontrast.data.leaks import stored_rows
from mmcontrast.data.splitting import check_apart
from mmcontrast.errors import DataError


def test_duplicates_count_rows_of_a_later_split() -> None:
    train, test = [b"0", b"1"], [b"0", b"2"]
    assert leaks.duplicates_across({"train": train, "val": [], "test": test}) == {"train and test": 1}
    assert leaks.duplicates_across({"train": train, "test": [b"0", b"0"]}) == {"train and test": 2}
    assert leaks.duplicates_across({"train": [b"0", b"0"], "test": [b"3"]}) == {}


def test_rows_that_repeat_within_train_or_under_another_label_are_counted() -> None:
    keys = {"train": [b"0", b"0", b"1", b"0"], "val": [], "test": [b"1", b"2"]}
    labels = {"train": np.array([0, 0, 1, 0]), "val": np.array([], int), "test": np.array([0, 1])}
    assert leaks.repeats(keys, labels) == {"within train": 2, "with another label": 2}
    # of several labels, and of quantities
    both = {split: np.stack([y, y], 1) for split, y in labels.items()}
    assert leaks.repeats(keys, both) == {"within train": 2, "with another label": 2}
    assert leaks.repeats({"train": [b"0"], "test": [b"0"]}, {"train": np.ones(1), "test": np.ones(1)}) == {}


def test_a_group_in_two_splits_is_named() -> None:
    check_apart("toy", "patient", {"train": ["a", "a"], "val": [], "test": ["b"]})
    with pytest.raises(DataError, match=r"toy: patient 'b' is in val and in test \(1 such\)"):
        check_apart("toy", "patient", {"train": ["a"], "val": ["b", "b"], "test": ["b", "c"]})


def test_rows_of_files_are_told_apart_whatever_their_modalities_are(tmp_path: Path) -> None:
    modalities = {
        "image": Modality(kind="image", shape=[1, 1, 2], multifold=True),
        "text": Modality(kind="text", shape=[], multifold=True),
    }
    layout = table.schema("toy", "train", modalities, ["x", "y"], "none", {})
    rows = [
        ([[1, 2]], ["ab", "c"]),
        ([[1, 2]], ["a", "bc"]),  # joined, the texts are those of the first
        ([[1, 2], [3, 4]], ["ab", "c"]),
        ([[1, 2]], ["ab", "c"]),
    ]
    columns = [pa.array(list("pqrs")), pa.array([0, 1, 0, 1])]
    columns += [pa.array([row[k] for row in rows], layout.field(m).type) for k, m in enumerate(modalities)]
    pq.write_table(pa.Table.from_arrays(columns, schema=layout), tmp_path / "train.parquet")
    ids, found = stored_rows(tmp_path / "train.parquet", list(modalities))
    assert ids == ["p", "q", "r", "s"]
    assert [found.index(key) for key in found] == [0, 1, 2, 0]

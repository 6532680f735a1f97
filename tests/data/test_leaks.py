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


def test_near_duplicates_are_those_far_closer_than_neighbours() -> None:
    rng = np.random.default_rng(0)
    inputs = {"a": rng.normal(size=(700, 20)) * 1e3, "b": rng.normal(size=(700, 5))}
    for x in inputs.values():
        x[650] = x[3] + 1e-3 * x.std(axis=0)
        x[651] = x[4]  # equal, hence not near
    parts = {"train": np.arange(600), "val": np.arange(600, 640), "test": np.arange(640, 700)}
    ids = [f"r{i}" for i in range(700)]
    found = leaks.near_rows(inputs, parts, ids)["pairs"]
    assert {pair: of["count"] for pair, of in found.items()} == {
        "train and val": 0,
        "train and test": 1,
        "val and test": 0,
    }
    assert found["train and test"]["closest"] == ["r3", "r650"]
    # two modalities, each of whose features moves by a thousandth of its spread
    assert found["train and test"]["distance"] == pytest.approx(np.sqrt(2) * 1e-3, rel=0.05)


def test_near_duplicates_need_neighbours_to_compare_with() -> None:
    inputs = {"a": np.zeros((4, 2))}
    parts = {"train": np.arange(2), "val": np.zeros(0, dtype=int), "test": np.arange(2, 4)}
    assert leaks.near_rows(inputs, parts, list("abcd")) == {}


def test_many_rows_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "MAX_NEAR_ROWS", 5)
    rng = np.random.default_rng(0)
    parts = {"train": np.arange(20), "val": np.zeros(0, dtype=int), "test": np.arange(20, 40)}
    found = leaks.near_rows({"a": rng.normal(size=(40, 3))}, parts, [str(i) for i in range(40)])
    assert found["pairs"]["train and test"]["of"] == 5


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

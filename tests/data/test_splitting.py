"""Splits are stratified, complete, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.data.splitting import by_group, refuse_unseen, stratified
from mmcontrast.errors import DataError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
labelled = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(lambda x: np.array(x, dtype=np.int64))


@given(labels=labelled, seed=st.integers(0, 2**32))
def test_every_row_is_in_one_part_and_every_class_near_its_share(labels: np.ndarray, seed: int) -> None:
    parts = stratified(labels, SHARES, seed)
    assert np.sort(np.concatenate(list(parts.values()))).tolist() == list(range(len(labels)))
    for c in np.unique(labels):
        n = int((labels == c).sum())
        counts = {name: int((labels[rows] == c).sum()) for name, rows in parts.items()}
        assert counts["train"] >= 1
        for name, share in SHARES.items():
            assert abs(counts[name] - n * share) < 1 + 1e-9
    for rows in parts.values():
        assert (np.diff(rows) > 0).all()


@given(labels=labelled, seed=st.integers(0, 2**32))
def test_equal_seeds_give_equal_parts(labels: np.ndarray, seed: int) -> None:
    one, two = stratified(labels, SHARES, seed), stratified(labels, SHARES, seed)
    for name in SHARES:
        np.testing.assert_array_equal(one[name], two[name])


def test_seeds_differ() -> None:
    labels = np.arange(100) % 4
    assert stratified(labels, SHARES, 0)["test"].tolist() != stratified(labels, SHARES, 1)["test"].tolist()


def test_one_classs_rows_do_not_move_anothers() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    more = np.array([0] * 10 + [1] * 10 + [2] * 7)
    one, two = stratified(labels, SHARES, 3), stratified(more, SHARES, 3)
    for name in SHARES:
        assert one[name].tolist() == [i for i in two[name].tolist() if i < 20]


def test_the_split_of_a_seed_never_changes() -> None:
    """Pinned: a different split would make every earlier result incomparable."""
    parts = stratified(np.arange(20) % 2, SHARES, 0)
    assert {name: rows.tolist() for name, rows in parts.items()} == {
        "train": [3, 4, 6, 7, 8, 10, 12, 13, 14, 15, 17, 19],
        "val": [0, 1, 9, 18],
        "test": [2, 5, 11, 16],
    }


@pytest.mark.parametrize(("n", "counts"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (2, 1, 0)), (34, (20, 7, 7))])
def test_small_classes(n: int, counts: tuple[int, int, int]) -> None:
    parts = stratified(np.zeros(n, dtype=np.int64), SHARES, 0)
    assert tuple(len(parts[name]) for name in SHARES) == counts


def test_the_first_part_takes_a_row_from_the_largest_if_it_would_have_none() -> None:
    parts = stratified(np.zeros(2, dtype=np.int64), {"train": 0.1, "test": 0.9}, 0)
    assert len(parts["train"]) == len(parts["test"]) == 1


def test_unseen_labels_are_named() -> None:
    train = np.array([0, 1])
    refuse_unseen("d", ["a", "b", "c"], train, {"val": np.array([], dtype=np.int64), "test": np.array([1])})
    with pytest.raises(DataError, match=r"d: label 2 \(c\) is in the val split \(2 rows\) but in no row of train"):
        refuse_unseen("d", ["a", "b", "c"], train, {"val": np.array([2, 2, 1])})


def test_no_group_crosses_parts_and_shares_hold_in_every_class() -> None:
    sizes = np.random.default_rng(0).integers(1, 7, size=300)
    groups = [f"f{i}" for i, n in enumerate(sizes) for _ in range(n)]
    labels = [i % 3 for i, n in enumerate(sizes) for _ in range(n)]
    shares = {"train": 0.7, "val": 0.1, "test": 0.2}
    parts = np.array(by_group(labels, groups, shares, seed=1))
    for name in set(groups):
        assert len(set(parts[np.array(groups) == name])) == 1
    for label in range(3):
        own = parts[np.array(labels) == label]
        for part, share in shares.items():
            assert abs((own == part).sum() - share * len(own)) <= 6
    assert parts.tolist() == by_group(labels, groups, shares, seed=1)
    assert parts.tolist() != by_group(labels, groups, shares, seed=2)

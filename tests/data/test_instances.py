"""Instances are held against params/ before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Instances, check
from mmcontrast.errors import DataError


@pytest.fixture
def dataset(small: Any) -> Dataset:
    return small.mogonet(small.mogonet_files())


@pytest.fixture
def good() -> Instances:
    rng = np.random.default_rng(0)
    widths = {"mrna": 4, "methylation": 3, "mirna": 2}
    return Instances(
        ids=[f"i{k}" for k in range(12)],
        labels=np.arange(12) % 2,
        inputs={m: rng.random((12, d)) for m, d in widths.items()},
        feature_names={m: [f"{m}{j}" for j in range(d)] for m, d in widths.items()},
        splits=["train"] * 8 + ["test"] * 4,
    )


def test_what_params_say_is_accepted(good: Instances, dataset: Dataset) -> None:
    check(good, "d", dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: {"ids": g.ids[:-1]}, "d: 11 instances read, and params/datasets/d.yaml: rows says 12"),
        (lambda g: {"ids": [*g.ids[:-1], "i9"]}, "d: id 'i9' occurs twice"),
        (lambda g: {"ids": [*g.ids[:-1], "i0"]}, "d: id 'i0' is in two splits, train and test"),
        (lambda g: {"ids": [*g.ids[:-1], ""]}, "d: an instance has an empty id"),
        (lambda g: {"labels": g.labels * 2}, "d: labels [2]; accepted are 0 to 1 (no, yes)"),
        (lambda g: {"labels": g.labels * 0}, "d: no instance of class yes; classes lists what the data holds"),
        (
            lambda g: {"splits": ["train"] * 9 + ["test"] * 3},
            "d: 9 rows in train, and params/datasets/d.yaml: split says 8",
        ),
        (lambda g: {"splits": None}, "d: 0 rows in train, and params/datasets/d.yaml: split says 8"),
        (
            lambda g: {"inputs": {**g.inputs, "mirna": g.inputs["mirna"][:, :1]}},
            "d: modality 'mirna': shape (12, 1) read, (12, 2) expected (params/datasets/d.yaml)",
        ),
        (
            lambda g: {"inputs": dict(reversed(g.inputs.items()))},
            "d: modalities ['mirna', 'methylation', 'mrna'] read, and params/datasets/d.yaml: modalities says "
            "['mrna', 'methylation', 'mirna']",
        ),
    ],
)
def test_anything_else_is_named(good: Instances, dataset: Dataset, change: Any, message: str) -> None:
    with pytest.raises(DataError) as e:
        check(replace(good, **change(good)), "d", dataset)
    assert str(e.value) == message


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "d: tasks [] read, and params/datasets/d.yaml: tasks says ['colour']"),
        ({"colour": np.arange(11) % 2}, "d: task 'colour': labels of shape (11,), expected (12,)"),
        ({"colour": np.arange(12) % 3}, "d: task 'colour': labels [2]; accepted are 0 to 1 (red, blue)"),
        (
            {"colour": np.zeros(12, int)},
            "d: task 'colour': no instance of class blue; classes lists what the data holds",
        ),
    ],
)
def test_further_tasks_are_held_against_params_too(
    good: Instances, small: Any, tasks: dict[str, np.ndarray], message: str
) -> None:
    dataset = small.mogonet(small.mogonet_files(), tasks={"colour": ["red", "blue"]})
    check(replace(good, tasks={"colour": np.arange(12) % 2}), "d", dataset)
    with pytest.raises(DataError) as e:
        check(replace(good, tasks=tasks), "d", dataset)
    assert str(e.value) == message

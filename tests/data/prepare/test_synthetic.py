"""The generated dataset is what its parameters say, each time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmcontrast.config import Dataset, Grid
from mmcontrast.data.prepare import prepare, synthetic
from mmcontrast.errors import ConfigError
from tests.data.arrays import arrays

SPLIT = {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0}


def dataset(small: Any, **generate: Any) -> Dataset:
    given = {"latent": 8, "overlap": 1.0, "noise": 1.0, "seed": 0, **generate}
    return Dataset.model_validate(
        small.common(classes=["a", "b", "c"], rows=300, split=SPLIT, generate=given, scaling="standard")
    )


def read(small: Any, **generate: Any) -> SimpleNamespace:
    return arrays(synthetic.stream("synthetic", dataset(small, **generate), Path("not looked at")))


def centroid_accuracy(values_Nd: np.ndarray, labels: np.ndarray) -> float:
    """Nearest class mean of the first half, scored on the second."""
    half = len(labels) // 2
    means = np.stack([values_Nd[:half][labels[:half] == c].mean(0) for c in range(3)])
    distance = ((values_Nd[half:, None] - means[None]) ** 2).sum(-1)
    return float((distance.argmin(1) == labels[half:]).mean())


def test_equal_seeds_give_equal_data_and_others_do_not(small: Any) -> None:
    one, two, other = read(small), read(small), read(small, seed=1)
    for modality in one.inputs:
        np.testing.assert_array_equal(one.inputs[modality], two.inputs[modality])
        assert not np.allclose(one.inputs[modality], other.inputs[modality])


def test_without_overlap_and_noise_a_class_is_a_point(small: Any) -> None:
    got = read(small, overlap=0, noise=0)
    for values in got.inputs.values():
        for c in range(3):
            assert np.ptp(values[got.labels == c], axis=0).max() == 0


def test_classes_overlap_but_can_be_told_apart(small: Any) -> None:
    got = read(small)
    accuracy = centroid_accuracy(np.concatenate(list(got.inputs.values()), axis=1), got.labels)
    assert 0.45 < accuracy < 0.98


def test_modalities_share_more_than_the_class(small: Any) -> None:
    """Within one class, one modality still predicts another: the latent code is shared."""
    got = read(small, noise=0.1)
    rows = got.labels == 0
    x, y = (got.inputs[m][rows] - got.inputs[m][rows].mean(0) for m in ("mrna", "methylation"))
    fitted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    assert 1 - ((y - fitted) ** 2).sum() / (y**2).sum() > 0.4
    shuffled = np.roll(y, 1, axis=0)
    fitted = x @ np.linalg.lstsq(x, shuffled, rcond=None)[0]
    assert 1 - ((shuffled - fitted) ** 2).sum() / (y**2).sum() < 0.2


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        ({"latent": 0}, r"generate\.latent: Input should be greater than 0 \(given: 0\)"),
        ({"overlap": -1.0}, r"generate\.overlap: Input should be greater than or equal to 0"),
        ({"nois": 1.0}, r"generate\.nois: unknown key; did you mean 'noise'\?"),
    ],
)
def test_bad_parameters_are_named(small: Any, generate: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"params/datasets/synthetic\.yaml: " + message):
        read(small, **generate)


def test_a_published_split_is_refused(small: Any, tmp_path: Path) -> None:
    data = dataset(small).model_dump(mode="json")
    data["split"] = {"kind": "published", "train": 200, "test": 100}
    with pytest.raises(ConfigError, match="a generated dataset has no published split"):
        prepare("synthetic", Dataset.model_validate(data), tmp_path, tmp_path / "out")


def test_the_one_in_params_can_be_made(root: Path, tmp_path: Path) -> None:
    spec = Grid(root).datasets["synthetic"]
    sheet = prepare("synthetic", spec, tmp_path / "nothing here", tmp_path / "out")
    assert sheet["rows"] == spec.rows
    assert sheet["warnings"] == []
    assert all(min(s["classes"].values()) > 0 for s in sheet["splits"].values())

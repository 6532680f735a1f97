import copy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from mmcontrast.config import Dataset
from mmcontrast.data.prepare.weak_modality import build
from mmcontrast.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
RAW = yaml.safe_load((ROOT / "params/datasets/weak_modality.yaml").read_text())
TASKS = ["label_shared", "label_strong", "label_middle", "label"]


def dataset(**generate):
    raw = copy.deepcopy(RAW)
    raw["generate"].update(generate)
    return Dataset.model_validate(raw)


@pytest.fixture(scope="module")
def frame():
    return build(dataset(), Path())


def linear_accuracy(x, y):
    a = np.c_[x - x.mean(0), np.ones(len(x))]
    return (((a @ np.linalg.lstsq(a, 2.0 * y - 1, rcond=None)[0]) > 0) == y).mean()


def test_columns(frame):
    assert frame.columns == ["id", "label", "label_shared", "label_strong", "label_middle", "strong", "middle", "weak"]
    assert frame.height == 6000
    assert frame.schema["weak"] == pl.Array(pl.Float32, 24)
    assert frame["id"].n_unique() == 6000
    assert all(abs(frame[task].mean() - 0.5) < 0.03 for task in TASKS)


def test_a_factor_is_seen_where_it_should_be_and_nowhere_else(frame):
    """Accuracy of a linear reading of each factor from each modality."""
    seen = {
        m: [linear_accuracy(frame[m].to_numpy(), frame[task].to_numpy()) for task in TASKS]
        for m in ("strong", "middle", "weak")
    }
    for i, modality in enumerate(seen):
        assert seen[modality][0] > 0.85
        own = seen[modality][1 + i]
        others = [a for j, a in enumerate(seen[modality][1:]) if j != i]
        assert own > 0.9
        assert max(others) < 0.6


def test_the_gain_is_the_size_of_the_signal(frame):
    size = {m: frame[m].to_numpy().std() for m in ("strong", "middle", "weak")}
    assert size["strong"] / size["middle"] == pytest.approx(3, rel=0.25)
    assert size["weak"] / size["middle"] == pytest.approx(0.25, rel=0.25)


def test_the_seed_decides():
    assert_frame_equal(build(dataset(), Path()), build(dataset(), Path()))
    assert not build(dataset(seed=1), Path())["weak"].equals(build(dataset(), Path())["weak"])


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        ({"gain": {"strong": 1.0, "middle": 1.0}}, "nothing for modality 'weak'"),
        ({"gain": {"strong": 1.0, "middle": 1.0, "weak": 1.0, "weka": 1.0}}, "no modality 'weka'; did you mean 'weak'"),
        ({"nosie": 1.0}, "did you mean 'noise'"),
        ({"private": 0}, "generate.private"),
    ],
)
def test_bad_generate(generate, message):
    with pytest.raises(ConfigError, match=message):
        build(dataset(**generate), Path())


def test_three_classes_are_refused():
    raw = {**RAW, "classes": ["a", "b", "c"], "metrics": ["acc"]}
    with pytest.raises(ConfigError, match="two classes, not 3"):
        build(Dataset.model_validate(raw), Path())

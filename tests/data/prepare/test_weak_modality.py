import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mmcontrast.config import Dataset
from mmcontrast.data.loading import load_split
from mmcontrast.data.prepare import prepare
from mmcontrast.data.prepare.weak_modality import stream
from mmcontrast.errors import ConfigError
from tests.data.arrays import arrays

ROOT = Path(__file__).resolve().parents[3]
RAW = yaml.safe_load((ROOT / "params/datasets/weak_modality.yaml").read_text())
NAME = "weak_modality"


def dataset(change=None, **generate):
    raw = copy.deepcopy(RAW) | (change or {})
    raw["generate"].update(generate)
    return Dataset.model_validate(raw)


def read(*given):
    return arrays(stream(*given))


@pytest.fixture(scope="module")
def got():
    return read(NAME, dataset(), Path())


def linear_accuracy(x, y):
    a = np.c_[x - x.mean(0), np.ones(len(x))]
    return (((a @ np.linalg.lstsq(a, 2.0 * y - 1, rcond=None)[0]) > 0) == y).mean()


def test_it_is_what_params_says_with_even_classes(got):
    for labels in (got.labels, *got.tasks.values()):
        assert labels.mean() == pytest.approx(0.5, abs=0.03)


def test_a_factor_is_seen_where_it_should_be_and_nowhere_else(got):
    """Accuracy of a linear reading of each factor from each modality."""
    factors = [*got.tasks.values(), got.labels]
    for i, x in enumerate(got.inputs.values()):
        shared, *private = [linear_accuracy(x, labels) for labels in factors]
        assert shared > 0.85
        assert private.pop(i) > 0.9
        assert max(private) < 0.6


def test_the_gain_is_the_size_of_the_signal(got):
    size = {m: x.std() for m, x in got.inputs.items()}
    assert size["strong"] / size["middle"] == pytest.approx(3, rel=0.25)
    assert size["weak"] / size["middle"] == pytest.approx(0.25, rel=0.25)


def test_the_seed_decides(got):
    again, other = read(NAME, dataset(), Path()), read(NAME, dataset(seed=1), Path())
    for modality, x in got.inputs.items():
        np.testing.assert_array_equal(again.inputs[modality], x)
        assert not np.allclose(other.inputs[modality], x)


def test_tasks_are_those_that_are_asked_for(got):
    some = read(NAME, dataset({"tasks": {"strong": ["no", "yes"]}}), Path())
    assert list(some.tasks) == ["strong"]
    np.testing.assert_array_equal(some.tasks["strong"], got.tasks["strong"])


def test_tasks_come_through_to_the_loader(got, tmp_path):
    spec = dataset()
    sheet = prepare(NAME, spec, tmp_path / "nothing here", tmp_path)
    parts = {split: load_split(tmp_path / f"{split}.parquet") for split in ("train", "val", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 3600, "val": 600, "test": 1800}
    row = {identity: i for i, identity in enumerate(got.ids)}
    for split, part in parts.items():
        assert part.task_classes == spec.tasks
        rows = [row[identity] for identity in part.ids]
        for task, labels in part.tasks.items():
            np.testing.assert_array_equal(labels.numpy(), got.tasks[task][rows])
            counts = np.bincount(labels.numpy()).tolist()
            assert sheet["tasks"][task][split] == {
                "rows": len(rows),
                "classes": dict(zip(RAW["classes"], counts, strict=True)),
            }
            assert torch.equal(part.take(torch.tensor([5, 0])).tasks[task], labels[[5, 0]])
        np.testing.assert_array_equal(part.labels.numpy(), got.labels[rows])


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        ({"gain": {"strong": 1.0, "middle": 1.0}}, "no value for modality 'weak'"),
        ({"gain": {"strong": 1.0, "middle": 1.0, "weak": 1.0, "weka": 1.0}}, "no modality 'weka'; did you mean 'weak'"),
        ({"nosie": 1.0}, "did you mean 'noise'"),
        ({"private": 0}, "generate.private"),
    ],
)
def test_bad_generate(generate, message):
    with pytest.raises(ConfigError, match=message):
        read(NAME, dataset(**generate), Path())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["a", "b", "c"], "metrics": ["acc"]}, "classes: a factor's sign has two classes, not 3"),
        ({"tasks": {"shared": ["a", "b", "c"]}, "metrics": ["acc"]}, "tasks.shared: a factor's sign has two classes"),
        ({"tasks": {"strnog": ["a", "b"]}}, "tasks: .* no factor 'strnog'; did you mean 'strong'"),
        ({"tasks": {"weak": ["a", "b"]}}, "tasks: beside that of the label: no factor 'weak'"),
        ({"split": {"kind": "published", "train": 4000, "test": 2000}}, "split: a generated dataset has no published"),
    ],
)
def test_a_dataset_file_it_cannot_be_made_for(change, message):
    with pytest.raises(ConfigError, match=r"weak_modality\.yaml: " + message):
        read(NAME, dataset(change), Path())

"""The XOR of three modalities: what is equally often, what any two of them tell, and what is refused."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcontrast.config import Dataset, Grid
from mmcontrast.data.loading import load_split
from mmcontrast.data.prepare import prepare
from mmcontrast.data.prepare.xor3 import stream
from mmcontrast.errors import ConfigError
from mmcontrast.evaluation.probe import fit_probe
from mmcontrast.evaluation.scores import score

DATASETS = Grid(Path(__file__).parents[3]).datasets


def changed(name: str, **values: Any) -> Dataset:
    return DATASETS[name].model_copy(update=values)


def rows(name: str, **generate: Any) -> dict[str, list[Any]]:
    data = changed(name, generate=DATASETS[name].generate | generate)
    out: dict[str, list[Any]] = {}
    for one in stream(name, data, Path()).instances:
        out.setdefault(one.split, []).append(one)
    return out


def test_every_combination_stands_equally_often_and_parity_is_the_xor() -> None:
    for name in ("xor3", "xor3_biased"):
        for split, of in rows(name).items():
            words = np.array([[one.tasks[f"bits{m}"] for m in (1, 2, 3)] for one in of])
            parity = np.array([one.tasks["parity"] for one in of])
            assert (words[:, 0] ^ words[:, 1] ^ words[:, 2]).tolist() == (3 * parity).tolist()
            biased = name == "xor3_biased" and split == "train"
            assert set(parity.tolist()) == ({0} if biased else {0, 1})
            # any two of the modalities are independent, and any two and the parity
            for pair in combinations(range(3), 2):
                counts = np.bincount(words[:, pair[0]] * 8 + words[:, pair[1]] * 2 + parity, minlength=32)
                assert set(counts.tolist()) == ({0, len(of) // 16} if biased else {len(of) // 32})


def test_arms_share_what_is_scored_and_no_instance_of_train() -> None:
    one, other = rows("xor3"), rows("xor3_biased")
    for split in ("val", "test"):
        for a, b in zip(one[split], other[split], strict=True):
            assert (a.id, a.label, a.tasks) == (b.id, b.label, b.tasks)
            np.testing.assert_array_equal(a.values["third"], b.values["third"])
    assert not {a.id for a in one["train"]} & {b.id for b in other["train"]}
    assert not np.array_equal(one["train"][0].values["first"], rows("xor3", seed=1)["train"][0].values["first"])


def test_a_modality_holds_its_bits_and_its_factor_and_nothing_of_the_others() -> None:
    found = rows("xor3", noise=0.0)
    parts = [found[s] for s in ("train", "val", "test")]
    for modality, own in (("first", 1), ("third", 3)):
        x = [np.stack([one.values[modality] for one in part]) for part in parts]
        for m in (1, 2, 3):
            y = [np.array([one.tasks[f"bits{m}"] for one in part]) for part in parts]
            accuracy = score("acc", y[2], fit_probe(x[0], y[0], x[1], y[1], 4).predict(x[2]))
            assert accuracy == 1 if m == own else accuracy == pytest.approx(0.25, abs=0.04)


def test_files_and_their_datasheet(tmp_path: Path) -> None:
    sheet = prepare("xor3_biased", DATASETS["xor3_biased"], tmp_path / "raw", tmp_path / "out")
    assert sheet["split"]["rule"] == "each split is drawn by itself, with every combination of bits equally often"
    train = load_split(tmp_path / "out/train.parquet")
    assert {m: tuple(x.shape) for m, x in train.inputs.items()} == dict.fromkeys(
        ("first", "second", "third"), (6400, 16)
    )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("xor3", {"split": DATASETS["xor3"].split.model_copy(update={"val": 1290})}, "multiples of 32; val is 1290"),
        ("xor3", {"classes": ["no", "yes"]}, r"xor3\.yaml: classes: `generate` makes \['negative', 'positive'\]"),
        ("xor3", {"tasks": {}}, "tasks: `generate` makes"),
        ("xor3", {"modalities": {}}, "modalities: `generate` makes three vectors"),
        ("xor3_biased", {"probe_from": None}, "probe_from: name the unbiased dataset where `generate.biased` is true"),
        ("xor3", {"generate": {"bits": 5, "private": 1, "gain": 1, "noise": 0, "seed": 0}}, r"generate\.bits: .*4"),
    ],
)
def test_refusals(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stream(name, changed(name, **change), Path())

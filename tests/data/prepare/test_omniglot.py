"""Omniglot from small archives of the released layout."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmcontrast.config import Dataset
from mmcontrast.data import prepare as package
from mmcontrast.data.prepare.omniglot import pen, stream
from mmcontrast.errors import ConfigError
from tests.grids import grid_of

PEOPLE, CHARACTERS = 6, ("Greek/character01", "Greek/character02", "Latin/character01")
URL = "https://example.org/{}_small{}.zip"


def png(rng: np.random.Generator) -> bytes:
    image = np.full((105, 105), True)
    x, y = rng.integers(5, 90, 2)
    image[y : y + 8, x : x + 8] = False
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def text(rng: np.random.Generator, strokes: int) -> bytes:
    lines, t = ["START"], 0
    for _ in range(strokes):
        for _ in range(4):
            x, y = rng.uniform(0, 105, 2)
            lines.append(f"{x:f},{-y:f},{t}")
            t += int(rng.integers(1, 50))
        lines.append("BREAK")
    return ("\n".join(lines) + "\n").encode()


def files() -> dict[str, dict[str, bytes]]:
    """Archive -> member -> bytes; the second pair of archives repeats the first one's first character."""
    rng = np.random.default_rng(0)
    out: dict[str, dict[str, bytes]] = {f"{kind}_small{k}.zip": {} for k in (1, 2) for kind in ("images", "strokes")}
    for c, character in enumerate(CHARACTERS):
        for person in range(1, PEOPLE + 1):
            made = {"images": png(rng), "strokes": text(rng, 1 + (c + person) % 3)}
            for kind, raw in made.items():
                for k in (1, 2) if c == 0 else (1 + c // 2,):
                    member = f"{kind}_small{k}/{character}/{c:04d}_{person:02d}.{'png' if kind == 'images' else 'txt'}"
                    out[f"{kind}_small{k}.zip"][member] = raw
    out["strokes_small1.zip"]["__MACOSX/strokes_small1/._.DS_Store"] = b"x"
    return out


def write(folder: Path, archives: dict[str, dict[str, bytes]]) -> Path:
    folder.mkdir(parents=True)
    for name, members in archives.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member, raw in members.items():
                archive.writestr(member, raw)
    return folder


@pytest.fixture
def dataset(small: Any) -> Callable[..., Dataset]:
    def make(**change: Any) -> Dataset:
        fields = {
            "sources": [
                {"kind": "url", "url": URL.format(kind, k), "sha256": "0" * 64}
                for kind in ("images", "strokes")
                for k in (1, 2)
            ],
            "modalities": {
                "image": {"kind": "image", "shape": [1, 28, 28]},
                "pen": {"kind": "sequence", "shape": [30, 6]},
            },
            "classes": ["Greek 01", "Greek 02", "Latin 01"],
            "tasks": {
                "alphabet": ["Greek", "Latin"],
                "strokes": ["1", "2 or more"],
                "duration": ["shortest", "short", "long", "longest"],
            },
            "rows": 18,
            "split": {"kind": "published", "train": 12, "val": 3, "test": 3},
            "prepare": {"val": [5], "test": [6]},
            "scaling": "none",
        }
        return Dataset.model_validate(small.common(**(fields | change)))

    return make


def test_from_archives_to_splits(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    given = dataset()
    sheet = package.from_stream(
        "omniglot", given, {}, stream("omniglot", given, write(tmp_path / "raw", files())), tmp_path
    )
    train = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert [row["id"] for row in train[:5]] == [*(f"Greek/01/{p:02d}" for p in (1, 2, 3, 4)), "Greek/02/01"]
    assert [row["label"] for row in train] == [0] * 4 + [1] * 4 + [2] * 4
    assert [row["label_alphabet"] for row in train] == [0] * 8 + [1] * 4
    assert [row["label_strokes"] for row in train[:4]] == [1, 1, 0, 1]
    assert {row["label_duration"] for row in train} == {0, 1, 2, 3}
    assert sheet["split"]["rule"].startswith("by person: drawings of [5] validate")
    picture = np.array(train[0]["image"], np.uint8).reshape(28, 28)
    assert picture.max() == 255  # ink is bright
    assert (picture > 0).mean() < 0.05
    assert len(train[2]["pen"]) == 4


def characters(dataset: Callable[..., Dataset], **change: Any) -> Dataset:
    of_one = {"image": {"kind": "image", "shape": [1, 28, 28]}, "pen": {"kind": "sequence", "shape": [30, 6]}}
    fields: dict[str, Any] = {
        "modalities": {m: spec | {"multifold": True} for m, spec in of_one.items()},
        "classes": ["character"],
        "metrics": ["rsum"],
        "retrieval": {"gallery": "image", "queries": "pen"},
        "tasks": {},
        "rows": 3,
        "split": {"kind": "published", "train": 2, "val": 0, "test": 1},
        "prepare": {"val": [], "test": ["Latin"]},
    }
    return dataset(**(fields | change))


def test_a_character_is_an_instance_whose_pictures_and_movements_are_of_different_people(
    dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    raw = write(tmp_path / "raw", files())
    alone = {one.id: one.values for one in stream("omniglot", dataset(), raw).instances}
    given = characters(dataset)
    found = list(stream("omniglot", given, raw).instances)
    assert [(one.id, one.label, one.split) for one in found] == [
        ("Greek 01", 0, "train"),
        ("Greek 02", 0, "train"),
        ("Latin 01", 0, "test"),
    ]
    for one in found:
        ids = [f"{one.id.replace(' ', '/')}/{person:02d}" for person in range(1, PEOPLE + 1)]
        assert len(one.values["image"]) == len(one.values["pen"]) == 3
        for k in range(3):
            np.testing.assert_array_equal(one.values["image"][k], alone[ids[k]]["image"])
            np.testing.assert_array_equal(one.values["pen"][k], alone[ids[3 + k]]["pen"])
    sheet = package.from_stream("omniglot", given, {}, stream("omniglot", given, raw), tmp_path)
    assert sheet["split"]["rule"].startswith("by alphabet: drawings of [] validate, those of ['Latin'] are tested on")
    assert [len(row["pen"]) for row in pq.read_table(tmp_path / "train.parquet").to_pylist()] == [3, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prepare": {"val": [3], "test": ["Latin"]}}, r"nothing is drawn by or in \[3\]; give alphabets, by name"),
        (
            {"tasks": {"alphabet": ["Greek", "Latin"]}},
            "no 'alphabet' of kind classes; known, of characters none",
        ),
        (
            {"classes": ["Greek", "character"]},
            "classes: 'Greek': the data do not have it; list all 1",
        ),
        (
            {
                "modalities": {
                    "image": {"kind": "image", "shape": [1, 28, 28], "multifold": True},
                    "pen": {"kind": "sequence", "shape": [30, 6]},
                }
            },
            "a sequence of 6 numbers per step; both or none with `multifold: true`",
        ),
    ],
)
def test_a_file_of_characters_that_says_otherwise(
    dataset: Callable[..., Dataset], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        stream("omniglot", characters(dataset, **change), write(tmp_path / "raw", files()))


def test_the_steps_of_a_pen() -> None:
    first, second = np.array([[10.5, -21, 0], [21, -21, 50], [42, -42, 70]]), np.array([[105.0, 0, 170]])
    steps = pen([first, second], every=1)
    np.testing.assert_allclose(steps[:, :2], [[0.1, 0.2], [0.2, 0.2], [0.4, 0.4], [1, 0]])
    np.testing.assert_allclose(steps[:, 2:4], [[-0.4, -0.3], [0.1, 0], [0.2, 0.2], [0.6, -0.4]], atol=1e-12)
    np.testing.assert_allclose(steps[:, 4], np.log([1, 51, 21, 101]))
    assert steps[:, 5].tolist() == [0, 1, 1, 0]
    thinned = pen([first, second], every=2)
    np.testing.assert_allclose(thinned[:, :2], [[0.1, 0.2], [0.4, 0.4], [1, 0]])
    np.testing.assert_allclose(thinned[:, 2:4].cumsum(axis=0) + 0.5, thinned[:, :2])
    np.testing.assert_allclose(thinned[:, 4], np.log([1, 71, 101]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["Greek 01", "Greek 02", "Latin 02"]}, "'Latin 01': the data have it, and the file does not"),
        ({"tasks": {"alphabet": ["Greek", "Korean"]}}, "alphabet: 'Korean': the data do not have it; list all 2"),
        ({"tasks": {"person": ["a", "b"]}}, "tasks: no 'person' of kind classes"),
        ({"prepare": {"val": [5], "test": [6, 7]}}, r"nothing is drawn by or in \[7\]; give people, by number"),
        ({"prepare": {"val": [5], "test": [6], "evry": 2}}, "prepare.evry: unknown key; did you mean 'every'"),
        ({"modalities": {"image": {"kind": "image", "shape": [1, 28, 28]}}}, "give `image` of one channel, and `pen`"),
    ],
)  # fmt: skip
def test_a_file_that_says_otherwise(
    dataset: Callable[..., Dataset], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    raw = write(tmp_path / "raw", files())
    with pytest.raises(ConfigError, match=message):
        stream("omniglot", dataset(**change), raw)


def test_the_dataset_of_the_study_names_its_people_and_characters() -> None:
    datasets = grid_of().datasets
    known, characters = (datasets[name] for name in ("omniglot_small", "omniglot_characters"))
    assert (characters.sources, characters.rows) == (known.sources, len(known.classes))
    alphabets = [name.rpartition(" ")[0] for name in known.classes]
    found = {split: sum(a in characters.prepare[split] for a in alphabets) for split in ("val", "test")}
    assert found == {"val": characters.split.val, "test": characters.split.test}
    assert (len(known.classes), known.rows) == (242, 242 * 20)
    held = {split: len(known.prepare[split]) * 242 for split in ("val", "test")}
    assert held == {"val": known.split.val, "test": known.split.test}

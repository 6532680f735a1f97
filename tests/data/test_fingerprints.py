"""Near duplicates of images and texts: what is put in is found, what is not put in is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mmcontrast import paths
from mmcontrast.config import Modality
from mmcontrast.data import leaks as fingerprints
from mmcontrast.data import table
from mmcontrast.data.parquet import write_parquet
from mmcontrast.data.pictures import jpeg

SIDE = 16
IMAGE = Modality(kind="image", shape=[3, SIDE, SIDE])
TEXT = Modality(kind="text", shape=[])
VECTOR = Modality(kind="vector", shape=[4])
COUNTS = {"train": 40, "val": 6, "test": 10}


def _write(out_dir: Path, modalities: dict[str, Modality], cells: dict[str, dict[str, list[Any]]]) -> None:
    for split in paths.SPLITS:
        own = cells[split]
        n = len(next(iter(own.values())))
        layout = table.schema("toy", split, modalities, ["one"], "none", {})
        columns = [pa.array([f"{split}{i}" for i in range(n)]), pa.array([0] * n, type=pa.int64())]
        columns += [pa.array(own[name], type=table.column_type(spec)) for name, spec in modalities.items()]
        write_parquet(pa.Table.from_arrays(columns, schema=layout), out_dir / f"{split}.parquet")


def _images(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    return list(rng.integers(0, 256, size=(count, 3 * SIDE * SIDE), dtype=np.uint8))


def _words(rng: np.random.Generator, count: int) -> list[str]:
    return [" ".join("".join(rng.choice(list("abcdefghij"), size=6)) for _ in range(5)) for _ in range(count)]


def test_a_row_whose_image_is_touched_up_is_a_near_duplicate(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = {
        split: {"image": _images(rng, n), "vector": list(rng.normal(size=(n, 4)).astype(np.float32))}
        for split, n in COUNTS.items()
    }
    copied = cells["train"]["image"][5].copy()
    copied[::50] ^= 1
    cells["test"]["image"][2] = copied
    cells["test"]["vector"][2] = cells["train"]["vector"][5]
    cells["test"]["image"][4] = cells["train"]["image"][6]  # one modality alone makes no duplicate row
    _write(tmp_path, {"image": IMAGE, "vector": VECTOR}, cells)
    pairs = fingerprints.near_duplicates(tmp_path, {"image": IMAGE, "vector": VECTOR})["pairs"]
    assert {pair: found["count"] for pair, found in pairs.items()} == {
        "train and val": 0,
        "train and test": 1,
        "val and test": 0,
    }
    assert pairs["train and test"]["closest"] == ["train5", "test2"]
    assert pairs["train and test"]["of"] == COUNTS["test"]


def test_observations_are_compared_one_by_one_and_equal_ones_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    modalities = {
        name: spec.model_copy(update={"multifold": True}) for name, spec in (("image", IMAGE), ("text", TEXT))
    }
    cells = {
        split: {"image": [_images(rng, 3) for _ in range(n)], "text": [_words(rng, 2) for _ in range(n)]}
        for split, n in COUNTS.items()
    }
    copied = cells["train"]["image"][5][1].copy()
    copied[::50] ^= 1
    cells["test"]["image"][2][0] = copied
    cells["val"]["text"][3][1] = cells["train"]["text"][0][1].upper() + "!"
    _write(tmp_path, modalities, cells)
    pairs = fingerprints.near_duplicates(tmp_path, modalities)["pairs"]
    assert pairs["train and test (observations of image)"] | {"distance": 0, "threshold": 0} == {
        "count": 1,
        "of": 3 * COUNTS["test"],
        "equal": 0,
        "closest": ["train5[1]", "test2[0]"],
        "distance": 0,
        "threshold": 0,
    }
    assert (
        0
        < pairs["train and test (observations of image)"]["distance"]
        < pairs["train and test (observations of image)"]["threshold"]
    )
    assert {pair: found["equal"] for pair, found in pairs.items() if found["equal"]} == {
        "train and val (observations of text)": 1
    }
    assert sum(found["count"] for found in pairs.values()) == 1


def test_a_split_without_rows_has_nothing_to_compare(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = {split: {"image": _images(rng, n)} for split, n in (COUNTS | {"val": 0}).items()}
    _write(tmp_path, {"image": IMAGE}, cells)
    assert list(fingerprints.near_duplicates(tmp_path, {"image": IMAGE})["pairs"]) == ["train and test"]


@pytest.mark.parametrize("side", [3, 8, 13, 32])
def test_a_thumbnail_is_the_mean_of_its_cells(side: int) -> None:
    x_PCHW = np.random.default_rng(0).integers(0, 256, size=(2, 3, side, side), dtype=np.uint8)
    cells = min(side, fingerprints.THUMBNAIL)
    edges = np.linspace(0, side, cells + 1).astype(int)
    slow = [
        x_PCHW[p, c, edges[i] : edges[i + 1], edges[j] : edges[j + 1]].mean()
        for p in range(2)
        for c in range(3)
        for i in range(cells)
        for j in range(cells)
    ]
    assert fingerprints.thumbnails(x_PCHW) == pytest.approx(np.reshape(slow, (2, -1)), rel=1e-6)


@pytest.mark.parametrize("thinned", [False, True])
def test_a_copied_drawing_and_its_photograph_are_found_among_rows_that_lack_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thinned: bool
) -> None:
    """Thinned, every second row of train is compared, so that its rows 0, 2, 4, ... are still found."""
    pen = Modality(kind="sequence", shape=[30, 2], optional=True)
    photo = Modality(kind="image", shape=[3, SIDE, SIDE], encoded=True, optional=True)
    if thinned:
        monkeypatch.setattr(fingerprints, "_most", lambda width: 30)
    rng = np.random.default_rng(0)
    cells: dict[str, dict[str, list[Any]]] = {
        split: {
            "pen": [None if i % 5 == 4 else rng.normal(size=(int(rng.integers(1, 30)), 2)).tolist() for i in range(n)],
            "photo": [
                None if i % 7 == 6 else jpeg(Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)))
                for i in range(n)
            ],
        }
        for split, n in COUNTS.items()
    }
    cells["test"]["pen"][3] = (np.array(cells["train"]["pen"][2]) + 1e-4).tolist()
    cells["test"]["photo"][3] = cells["train"]["photo"][2]
    modalities = {"pen": pen, "photo": photo}
    _write(tmp_path, modalities, cells)
    pairs = fingerprints.near_duplicates(tmp_path, modalities)["pairs"]
    assert (pairs["train and test"]["count"], pairs["train and test"]["closest"]) == (1, ["train2", "test3"])
    assert pairs["train and val"]["count"] == 0


@pytest.mark.parametrize("steps", [1, 3, 8, 21])
def test_a_sequence_is_the_means_of_equal_spans(steps: int) -> None:
    """Of a line drawn at constant height between steps, integrated finely."""
    x_Td = np.random.default_rng(0).normal(size=(steps, 2))
    at = (np.arange(8000 * steps) + 0.5) / 8000
    slow = x_Td[at.astype(int)].reshape(fingerprints.SPANS, -1, 2).mean(axis=1)
    assert fingerprints._means(x_Td) == pytest.approx(slow.reshape(-1))

"""Vision & Touch and MM-IMDb's vectors, from tiny HDF5 files in the same layouts."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from mmcontrast.config import Dataset, Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.prepare import prepare
from mmcontrast.data.table import read_split
from mmcontrast.errors import ConfigError, DataError
from tests.data.layouts import hdf5 as layout

TOUCH = "vision_touch_contact_three"


@pytest.fixture(scope="module")
def grid(root: Path) -> Grid:
    return Grid(root)


def touch(grid: Grid, name: str = TOUCH, steps: int = 48, **options: Any) -> Dataset:
    """The dataset as params/ has it, of five files of pictures of 8 x 8."""
    raw = grid.datasets[name].model_dump(mode="json")
    raw["modalities"]["image"]["shape"] = [3, 8, 8]
    split = {"kind": "published", "train": 4 * steps, "val": 0, "test": steps}
    prepare = raw["prepare"] | options
    return Dataset.model_validate(raw | {"rows": 5 * steps, "split": split, "prepare": prepare})


def films(grid: Grid) -> Dataset:
    raw = grid.datasets["mmimdb_vectors"].model_dump(mode="json")
    raw["modalities"]["image"]["shape"], raw["modalities"]["text"]["shape"] = [5], [4]
    split = {"kind": "published", "train": 3, "val": 1, "test": 2}
    return Dataset.model_validate(raw | {"rows": 6, "split": split, "scaling": "none"})


def prepared(name: str, dataset: Dataset, raw: Path) -> None:
    fetch(name, dataset, raw)
    prepare(name, dataset, raw, raw.parent / "out")


def rows(raw: Path, split: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_split(raw.parent / "out" / f"{split}.parquet")[0].to_pylist()
    return found


def recordings(raw: Path) -> list[Path]:
    return sorted((raw / "triangle_real_data").glob("*.h5"))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    layout.vision_touch(tmp_path / "raw" / "triangle_real_data")
    return tmp_path / "raw"


def test_steps_of_recordings(grid: Grid, raw: Path) -> None:
    prepared(TOUCH, touch(grid), raw)
    order = list(range(5))
    np.random.default_rng(42).shuffle(order)
    train, test = rows(raw, "train"), rows(raw, "test")
    names = [path.stem for path in recordings(raw)]
    assert list(dict.fromkeys(r["scene"] for r in (*train, *test))) == [names[k] for k in order]
    assert {r["scene"] for r in test} == {names[order[-1]]}
    for r in (train[1], test[47]):
        k, t = names.index(r["scene"]), int(r["id"][-2:])
        with h5py.File(recordings(raw)[k]) as file:
            forces = np.array(r["force"], np.float32).reshape(32, 6)
            np.testing.assert_allclose(forces, np.tanh(file["ee_forces_continuous"][t, 18:]), rtol=1e-6)
            np.testing.assert_allclose(r["proprio"], file["proprio"][t], rtol=1e-6)
            assert r["label"] == (t + 1) % 2
        with Image.open(io.BytesIO(r["image"])) as image:
            assert image.getpixel((3, 3)) == (t + k,) * 3


def test_channels_first_are_turned_as_released(grid: Grid, raw: Path) -> None:
    prepared(TOUCH, touch(grid), raw)
    last = recordings(raw)[-1].stem
    r = next(r for split in ("train", "test") for r in rows(raw, split) if r["scene"] == last)
    with Image.open(io.BytesIO(r["image"])) as image:
        assert image.getpixel((7, 0))[0] == 255  # type: ignore[index]


def test_where_the_hand_is_one_step_later(grid: Grid, raw: Path) -> None:
    prepared("vision_touch_end_effector", touch(grid, "vision_touch_end_effector"), raw)
    r = rows(raw, "train")[5]
    assert r["label"] == [int(r["id"][-2:]) + 1.0] * 4


def test_the_released_loader_counts_one_step_more(grid: Grid, raw: Path) -> None:
    prepared(TOUCH, touch(grid, steps=49, repeat_one=True), raw)
    train = rows(raw, "train")
    of_first = [r["proprio"] for r in train[:49]]
    assert train[48]["id"].endswith("-48")
    assert of_first[48] in of_first[:48]


def edit(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "a") as file:
        change(file)


def replace(key: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[key]
        file[key] = value

    return change


TOUCH_FAULTS: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "another key": (lambda f: f.move("proprio", "proprios"), r"_1000\.h5: no array 'proprio'; did you mean 'proprios'"),
    "another axis": (
        replace("image", np.zeros((50, 8, 8), np.uint8)),
        r"image has shape \(50, 8, 8\), expected \(50, ",
    ),
    "short": (replace("proprio", np.zeros((50, 4))), r"proprio \(50, 4\) do not fit"),
    "other steps": (replace("contact", np.zeros((49, 50))), r"contact \(49, 50\) and proprio \(50, 8\) do not fit"),
}


@pytest.mark.parametrize("what", TOUCH_FAULTS)
def test_near_misses_of_vision_touch_are_refused(grid: Grid, raw: Path, what: str) -> None:
    change, message = TOUCH_FAULTS[what]
    edit(recordings(raw)[2], change)
    with pytest.raises(DataError, match=message):
        prepared(TOUCH, touch(grid), raw)


def test_a_recording_cut_short_and_a_folder_without_any(grid: Grid, raw: Path) -> None:
    path = recordings(raw)[3]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"recording_003_1000\.h5: not readable as HDF5 .*cut short"):
        prepared(TOUCH, touch(grid), raw)
    for path in recordings(raw):
        path.unlink()
    with pytest.raises(DataError, match=r"triangle_real_data: no \.h5 file"):
        prepared(TOUCH, touch(grid), raw)


def test_a_modality_that_is_none_of_the_files_is_refused(grid: Grid, raw: Path) -> None:
    dataset = touch(grid).model_dump(mode="json")
    dataset["modalities"]["depth"] = {"kind": "vector", "shape": [1]}
    with pytest.raises(ConfigError, match=r"modalities: no 'depth' in these files; known: force, image, proprio"):
        prepared(TOUCH, Dataset.model_validate(dataset), raw)


def by_frequency(grid: Grid) -> list[str]:
    """The names in another order than `classes`."""
    return grid.datasets["mmimdb_vectors"].classes[::-1]


def test_films_as_vectors(grid: Grid, tmp_path: Path) -> None:
    path = tmp_path / "raw" / "multimodal_imdb.hdf5"
    names = by_frequency(grid)
    layout.mmimdb(path, names)
    dataset = films(grid)
    prepared("mmimdb_vectors", dataset, path.parent)
    test = rows(path.parent, "test")
    assert [r["id"] for r in test] == ["0000004", "0000005"]
    assert {dataset.classes[j] for j, one in enumerate(test[1]["label"]) if one} == {names[2], names[3]}
    with h5py.File(path) as file:
        np.testing.assert_array_equal(np.array(test[0]["image"], np.float32), file["vgg_features"][4])


FILM_FAULTS: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "another name": (
        lambda f: f["genres"].attrs.__setitem__("target_names", str(["Drama"] * 23).replace("'", '"')),
        r"genres: other names than `classes` in params/datasets/mmimdb_vectors\.yaml: action, ",
    ),
    "no names": (lambda f: f["genres"].attrs.__delitem__("target_names"), r"genres: no list of names in its attribute"),
    "no vectors": (lambda f: f.__delitem__("vgg_features"), r"imdb\.hdf5: no array 'vgg_features'; "),
    "another width": (replace("features", np.zeros((6, 3))), r"features has shape \(6, 3\), expected \(6, 4\)"),
    "fewer films": (replace("genres", np.zeros((5, 23))), r"genres has shape \(5, 23\), expected \(6, 23\)"),
}


@pytest.mark.parametrize("what", FILM_FAULTS)
def test_near_misses_of_mmimdb_are_refused(grid: Grid, tmp_path: Path, what: str) -> None:
    path = tmp_path / "raw" / "multimodal_imdb.hdf5"
    layout.mmimdb(path, by_frequency(grid))
    change, message = FILM_FAULTS[what]
    edit(path, change)
    with pytest.raises(DataError, match=message):
        prepared("mmimdb_vectors", films(grid), path.parent)

"""AV-MNIST and SUN RGB-D, from tiny files in the same layouts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mmcontrast.config import Dataset, Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.instances import Instance
from mmcontrast.data.loading import load_split
from mmcontrast.data.manifest import status
from mmcontrast.data.prepare import avmnist, prepare, sun_rgbd
from mmcontrast.errors import ConfigError, DataError
from tests.data.layouts import levels as layout

ROWS = {"train": 12, "test": 3}


@pytest.fixture(scope="module")
def grid(root: Path) -> Grid:
    return Grid(root)


def sized(grid: Grid, name: str, split: tuple[int, int, int], **shapes: list[int]) -> Dataset:
    raw = grid.datasets[name].model_dump(mode="json")
    for m, shape in shapes.items():
        raw["modalities"][m]["shape"] = shape
    train, val, test = split
    part = {"kind": "published", "train": train, "val": val, "test": test}
    return Dataset.model_validate(raw | {"rows": sum(split), "split": part})


def digits(grid: Grid) -> Dataset:
    return sized(grid, "avmnist", (10, 2, 3), **{m: [1, side, side] for m, side in layout.SIDES.items()})


def frames(grid: Grid) -> Dataset:
    return sized(grid, "sun_rgbd", (3, 0, 1), rgb=[3, 8, 8], depth=[1, 8, 8])


def read(reader: Any, name: str, dataset: Dataset, raw: Path) -> dict[str, Instance]:
    return {one.id: one for one in reader.stream(name, dataset, raw).instances}


def test_digits_with_spectrograms(grid: Grid, tmp_path: Path) -> None:
    layout.avmnist(tmp_path, ROWS)
    given = avmnist.stream("avmnist", digits(grid), tmp_path)
    found = {one.id: one for one in given.instances}
    assert [one.split for one in found.values()] == ["train"] * 10 + ["val"] * 2 + ["test"] * 3
    assert [one.label for one in found.values()] == [*range(10), 0, 1, 0, 1, 2]
    one = found["train-00003"]
    np.testing.assert_array_equal(one.values["image"], (3 + np.arange(16)).reshape(1, 4, 4))
    np.testing.assert_array_equal(one.values["audio"], (3 + np.arange(36)).reshape(1, 6, 6))
    assert all(x.dtype == np.uint8 for x in one.values.values())
    assert given.report == {"rounded_image": 0, "rounded_audio": 0}


def test_levels_between_whole_ones_are_rounded_and_counted(grid: Grid, tmp_path: Path) -> None:
    layout.avmnist(tmp_path, ROWS)
    path = tmp_path / "avmnist/image/test_data.npy"
    levels = np.load(path)
    levels[1, 0] = 7.4
    np.save(path, levels)
    given = avmnist.stream("avmnist", digits(grid), tmp_path)
    found = {one.id: one for one in given.instances}
    assert found["test-00001"].values["image"][0, 0, 0] == 7
    assert given.report["rounded_image"] == 1


def test_digits_are_prepared(grid: Grid, tmp_path: Path) -> None:
    raw, dataset = tmp_path / "raw", digits(grid)
    layout.avmnist(raw, ROWS)
    fetch("avmnist", dataset, raw)
    prepare("avmnist", dataset, raw, tmp_path / "out")
    assert load_split(tmp_path / "out/val.parquet").labels.tolist() == [0, 1]


def saved(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def write(raw: Path) -> None:
        path = raw / "avmnist" / name
        np.save(path, change(np.load(path)))

    return write


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DIGIT_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "already divided": (
        saved("image/train_data.npy", lambda x: x / 255),
        r"image/train_data\.npy: no level above 1 in its first rows; give levels from 0 to 255",
    ),
    "other rows": (
        saved("audio/test_data.npy", lambda x: x[:2]),
        r"audio/test_data\.npy: shape \(2, 6, 6\), expected 3 rows of \[1, 6, 6\]",
    ),
    "another size": (
        saved("image/train_data.npy", lambda x: x[:, :9]),
        r"image/train_data\.npy: shape \(12, 9\), expected 12 rows of \[1, 4, 4\]",
    ),
    "decibels": (
        saved("audio/train_data.npy", lambda x: x.astype(np.float32) - 30),
        r"audio/train_data\.npy: row 0: levels beyond 0 to 255",
    ),
    "objects": (
        lambda raw: np.save(raw / "avmnist/train_labels.npy", np.array([{}], object), allow_pickle=True),
        r"train_labels\.npy: not readable as an array of numbers",
    ),
    "names": (saved("test_labels.npy", lambda x: x.astype(str)), r"test_labels\.npy: expected an array of numbers"),
    "eleven digits": (
        saved("test_labels.npy", lambda x: x + 9),
        r"instance 'test-00001': label 10; accepted are 0 to 9",
    ),
    "short": (lambda raw: cut_short(raw / "avmnist/audio/train_data.npy"), r"audio/train_data\.npy: not readable as"),
    "no file": (lambda raw: (raw / "avmnist/test_labels.npy").unlink(), r"test_labels\.npy: no such file; see"),
}


@pytest.mark.parametrize("what", DIGIT_FAULTS)
def test_near_misses_of_avmnist_are_refused(grid: Grid, tmp_path: Path, what: str) -> None:
    change, message = DIGIT_FAULTS[what]
    raw, dataset = tmp_path / "raw", digits(grid)
    layout.avmnist(raw, ROWS)
    change(raw)
    fetch("avmnist", dataset, raw)
    with pytest.raises(DataError, match=message):
        prepare("avmnist", dataset, raw, tmp_path / "out")


def test_frames_of_three_sensors(grid: Grid, tmp_path: Path) -> None:
    layout.sun_rgbd(tmp_path)
    given = sun_rgbd.stream("sun_rgbd", frames(grid), tmp_path)
    found = {one.id: one for one in given.instances}
    # the kind of every third frame is none of the 19
    assert list(found) == ["frame-00001", "frame-00002", "frame-00004", "frame-00005"]
    assert given.report == {"left_out_of_another_kind": 2}
    assert [one.split for one in found.values()] == ["train", "train", "train", "test"]
    classes = grid.datasets["sun_rgbd"].classes
    assert [classes[one.label] for one in found.values()] == ["bedroom", "office", "bedroom", "office"]
    one = found["frame-00004"]
    np.testing.assert_array_equal(one.values["rgb"], np.full((3, 8, 8), 60))
    # 1.3 m of 8 m below, and above 9 m, which count as 8 m
    assert one.values["depth"][0, 7].tolist() == [round(1.3 / 8 * 255)] * 8
    assert one.values["depth"][0, 0].tolist() == [255] * 8


def test_depth_is_turned_back_bit_by_bit() -> None:
    millimetres = np.array([0, 1, 7, 8, 1234, 7999, 65535], np.uint16)
    stored = layout.turned(millimetres)
    np.testing.assert_array_equal(stored >> 3 | stored << 13, millimetres)


def test_frames_are_prepared(grid: Grid, tmp_path: Path) -> None:
    raw, dataset = tmp_path / "raw", frames(grid)
    layout.sun_rgbd(raw)
    fetch("sun_rgbd", dataset, raw)
    prepare("sun_rgbd", dataset, raw, tmp_path / "out")
    assert load_split(tmp_path / "out/train.parquet").ids == ["frame-00001", "frame-00002", "frame-00004"]


FOLDER = "SUNRGBD/kv1/sub/000000_2014"
META = "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat"


def meta(**fields: str) -> Callable[[Path], None]:
    """Metadata of one frame of these fields."""

    def write(raw: Path) -> None:
        cells = np.zeros((1, 1), dtype=[(field, object) for field in fields])
        cells[0, 0] = tuple(fields.values())
        savemat(raw / META, {"SUNRGBDMeta": cells})

    return write


PATH = f"{layout.ROOT}/kv1/sub/000000_2014/image/0.png"
FRAME_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "MATLAB 7.3": (
        lambda raw: (raw / META).write_bytes(b"MATLAB 7.3 MAT-file".ljust(128)) and None,
        r"SUNRGBDMeta\.mat: a MATLAB 7\.3 file",
    ),
    "another variable": (
        lambda raw: savemat(raw / META, {"SUNRGBDMeta2DBB": np.zeros(1)}),
        r"SUNRGBDMeta\.mat: no variable 'SUNRGBDMeta'; did you mean 'SUNRGBDMeta2DBB'",
    ),
    "no struct": (lambda raw: savemat(raw / META, {"SUNRGBDMeta": np.zeros(3)}), r"SUNRGBDMeta: no field rgbpath; "),
    "another field": (
        meta(rgbpath=PATH, rgbname="0.png", depth="0d.png"),
        r"SUNRGBDMeta: no field depthname; did you mean 'depth'",
    ),
    "another root": (
        meta(rgbpath="/data/kv1/sub/x/image/0.png", rgbname="0.png", depthname="0d.png"),
        r"frame 1: rgbpath '/data/kv1/sub/x/image/0\.png' does not begin with /n/fs/sun3d",
    ),
    "out of the folder": (
        meta(rgbpath=PATH, rgbname="../../x.png", depthname="0d.png"),
        r"frame 1: 'image/\.\./\.\./x\.png': not accepted as a file name",
    ),
    "no kind": (lambda raw: (raw / FOLDER / "scene.txt").unlink(), r"SUNRGBDMeta\.mat: frame 1: .*scene\.txt"),
    "depth of eight bits": (
        lambda raw: Image.new("L", (16, 12)).save(raw / FOLDER / "depth_bfx/0d.png"),
        r"depth_bfx/0d\.png: uint8 of shape \(12, 16\), expected one channel of 16 bits",
    ),
    "no depth": (lambda raw: shutil.rmtree(raw / FOLDER / "depth_bfx"), r"depth_bfx/0d\.png: not a picture"),
    "no colours": (lambda raw: shutil.rmtree(raw / FOLDER / "image"), r"image/0\.png: no such picture"),
}


@pytest.mark.parametrize("what", FRAME_FAULTS)
def test_near_misses_of_sun_rgbd_are_refused(grid: Grid, tmp_path: Path, what: str) -> None:
    change, message = FRAME_FAULTS[what]
    layout.sun_rgbd(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        read(sun_rgbd, "sun_rgbd", frames(grid), tmp_path)


@pytest.mark.parametrize(("reader", "name"), [(avmnist, "avmnist"), (sun_rgbd, "sun_rgbd")])
def test_a_modality_that_is_none_of_the_files_is_refused(grid: Grid, tmp_path: Path, reader: Any, name: str) -> None:
    raw = grid.datasets[name].model_dump(mode="json")
    raw["modalities"]["normals"] = {"kind": "image", "shape": [3, 4, 4]}
    with pytest.raises(ConfigError, match=rf"{name}\.yaml: modalities: 'normals'; known: "):
        reader.stream(name, Dataset.model_validate(raw), tmp_path)


@pytest.mark.parametrize(("name", "first"), [("avmnist", "avmnist"), ("sun_rgbd", "SUNRGBD")])
def test_status_says_what_to_put_where(grid: Grid, name: str, first: str) -> None:
    step = next(s.next_step for s in status(grid) if s.name == name)
    assert step.startswith(f"put {first} into data/raw/{name}/: ")

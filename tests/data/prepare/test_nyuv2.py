"""The loader on a tiny file laid out as the official one: HDF5, axes reversed, cell arrays as object references."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from mmcontrast.config import Dataset
from mmcontrast.data.prepare.nyuv2 import normals, shrink, stream
from mmcontrast.errors import DataError

N, H, W = 6, 12, 16
SCENES = ["kitchen_0004", "kitchen_0004", "office_0001", "bedroom_0012", "attic_0001", "kitchen_0005"]


@pytest.fixture
def content():
    g = np.random.default_rng(0)
    return {
        "rgb": g.integers(0, 256, (N, 3, H, W), dtype=np.uint8),
        "depth": g.uniform(1, 9, (N, H, W)).astype(np.float32),
    }


def official_file(folder, content, scenes, train, test, skip=()):
    """Both files in the official layout; train and test are 1-based."""
    n = len(scenes)
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        arrays = {
            "images": content["rgb"].transpose(0, 1, 3, 2),
            "depths": content["depth"].transpose(0, 2, 1),
        }
        for name, values in arrays.items():
            if name not in skip:
                file[name] = values
        texts = {"scenes": scenes, "sceneTypes": [s.rsplit("_", 1)[0] for s in scenes]}
        for name, strings in texts.items():
            if name not in skip:
                cells = file.create_dataset(name, (1, n), dtype=h5py.ref_dtype)
                for i, s in enumerate(strings):
                    codes = np.array([[ord(c)] for c in s], np.uint16)
                    cells[0, i] = file.create_dataset(f"#refs#/{name}{i}", data=codes).ref
    savemat(folder / "splits.mat", {"trainNdxs": [[i] for i in train], "testNdxs": [[i] for i in test]})


def write(folder, content, skip=()):
    official_file(folder, content, SCENES, [1, 2, 4, 6], [3, 5], skip)


@pytest.fixture
def raw_dir(tmp_path, content):
    write(tmp_path, content)
    return tmp_path


def dataset(h=6, w=8, **modalities):
    shapes = {"rgb": 3, "depth": 1, "normals": 3, **modalities}
    return Dataset.model_validate(
        {
            "title": "NYUv2",
            "description": "",
            "licence": "",
            "redistribute": False,
            "citation": "",
            "sources": [{"kind": "url", "url": "http://example.org/a.mat", "sha256": None}],
            "modalities": {name: {"kind": "image", "shape": [c, h, w]} for name, c in shapes.items()},
            "classes": ["kitchen", "office", "bedroom", "other"],
            "rows": N,
            "split": {"kind": "published", "train": 4, "test": 2},
            "scaling": "none",
            "metrics": ["acc"],
        }
    )


def read(folder, **size):
    return list(stream("nyuv2", dataset(**size), folder).instances)


def test_frames_come_out_upright(raw_dir, content):
    for i, frame in enumerate(read(raw_dir, h=H, w=W)):
        assert np.array_equal(frame.values["rgb"], content["rgb"][i])
        np.testing.assert_allclose(frame.values["depth"][0] / 25.5, content["depth"][i], atol=0.02)


def test_the_instances(raw_dir, content):
    given = read(raw_dir)
    assert [one.label for one in given] == [0, 0, 1, 2, 3, 0]
    assert [one.group for one in given] == SCENES
    assert [one.split for one in given] == ["train", "train", "test", "train", "test", "train"]
    assert {m: x.shape for m, x in given[0].values.items()} == {
        "rgb": (3, 6, 8),
        "depth": (1, 6, 8),
        "normals": (3, 6, 8),
    }
    block = content["rgb"][3, 1, 2:4, 6:8].mean()
    assert abs(int(given[3].values["rgb"][1, 1, 3]) - block) <= 0.5
    assert abs(given[5].values["depth"][0, 0, 0] / 255 * 10 - content["depth"][5, :2, :2].mean()) < 0.02


def test_a_wall_seen_head_on_faces_the_camera():
    n = normals(np.full((48, 64), 2.0, np.float32))
    np.testing.assert_allclose(n[2], -1, atol=1e-6)
    np.testing.assert_allclose(n[:2], 0, atol=1e-6)


def test_normals_of_a_tilted_plane():
    """Plane y = 1.5 m below the camera: its normal is up, (0, -1, 0)."""
    height, width = 480, 640
    y = (np.arange(height) - (height - 1) / 2) / 519.469611
    depth = np.tile((1.5 / y[300:])[:, None], (1, width))
    full = np.ones((height, width))
    full[300:] = depth
    n = normals(full)[:, 310:470, 10:-10]
    np.testing.assert_allclose(n[1], -1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(n, axis=0), 1)


def test_no_depth_has_no_normal():
    assert np.array_equal(normals(np.zeros((4, 4))), np.zeros((3, 4, 4)))


def test_shrinking_takes_means_of_blocks():
    image = np.arange(16.0).reshape(1, 4, 4)
    assert shrink(image, (2, 2)).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    with pytest.raises(DataError, match="3 x 2 does not divide a frame of 4 x 4"):
        shrink(image, (3, 2))


@pytest.mark.parametrize("missing", ["depths", "scenes"])
def test_a_missing_variable_is_named(tmp_path, content, missing):
    write(tmp_path, content, skip=(missing,))
    with pytest.raises(DataError, match=f"no array '{missing}'"):
        read(tmp_path)


def test_files_that_are_missing_or_cut_short(raw_dir):
    path = raw_dir / "nyu_depth_v2_labeled.mat"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="cut short"):
        read(raw_dir)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        read(raw_dir)
    (raw_dir / "splits.mat").unlink()
    with pytest.raises(DataError, match=r"splits\.mat: no such file"):
        read(raw_dir)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [([1, 2, 3], [4, 5], "splits 5 frames"), ([1, 2, 3], [3, 4, 5, 6], "frame 3 is listed twice")],
)
def test_a_split_that_does_not_cover_the_frames(raw_dir, train, test, message):
    savemat(raw_dir / "splits.mat", {"trainNdxs": train, "testNdxs": test})
    with pytest.raises(DataError, match=message):
        read(raw_dir)


def test_depths_of_another_size(tmp_path, content):
    write(tmp_path, {**content, "depth": content["depth"][:, :, 1:]})
    with pytest.raises(DataError, match="depths has shape"):
        read(tmp_path)


def test_an_unknown_modality_is_refused(raw_dir):
    with pytest.raises(DataError, match="'hha' of shape"):
        stream("nyuv2", dataset(hha=3), raw_dir)

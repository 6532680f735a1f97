"""The digits as packaged with TMC, in a small file of the same layout; in the real one where it is at hand."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.io import savemat
from scipy.sparse import csc_matrix

from mmcontrast.config import Dataset
from mmcontrast.data.prepare.matlab import read_mat, stream
from mmcontrast.errors import ConfigError, DataError
from tests.data.arrays import arrays

ROOT = Path(__file__).resolve().parents[3]
WIDTHS = {"pix": 4, "fou": 3, "fac": 2, "zer": 2, "kar": 3, "mor": 1}


def read(*given):
    return arrays(stream(*given))


def params(name):
    return yaml.safe_load((ROOT / f"params/datasets/{name}.yaml").read_text())


def small(name, rows, split):
    raw = params(name)
    raw["modalities"] = {v: {"kind": "vector", "shape": [d]} for v, d in WIDTHS.items()}
    return Dataset.model_validate({**raw, "rows": rows, "split": split, "classes": ["0", "1", "2"]})


TMC = small("handwritten_tmc", 6, {"kind": "published", "train": 4, "test": 2})


@pytest.fixture
def views():
    g = np.random.default_rng(0)
    return {v: g.standard_normal((6, d)).round(4) for v, d in WIDTHS.items()}


def write_tmc(folder, views, **changes):
    digits = np.array([[1], [2], [3], [1], [2], [3]], np.uint8)
    content = {"gt_train": digits[:4], "gt_test": digits[4:]}
    for k, x in enumerate(views.values(), start=1):
        content |= {f"x{k}_train": x[:4], f"x{k}_test": x[4:]}
    content = {k: v for k, v in {**content, **changes}.items() if v is not None}
    savemat(folder / "handwritten_6views.mat", content)


def test_tmc_views_digits_and_split(tmp_path, views):
    write_tmc(tmp_path, views)
    got = read("handwritten_tmc", TMC, tmp_path)
    assert got.splits == ["train"] * 4 + ["test"] * 2
    assert got.labels.tolist() == [0, 1, 2, 0, 1, 2]
    for view, x in views.items():
        np.testing.assert_array_equal(got.inputs[view], x)


def test_the_file_of_tmc_names_no_view_so_the_order_in_params_is_free(tmp_path, views):
    write_tmc(tmp_path, views)
    raw = TMC.model_dump(mode="json")
    raw["modalities"] = dict(reversed(raw["modalities"].items()))
    got = read("handwritten_tmc", Dataset.model_validate(raw), tmp_path)
    assert list(got.inputs) == list(reversed(WIDTHS))
    np.testing.assert_array_equal(got.inputs["fac"], views["fac"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"split": {"kind": "random", "train": 0.6, "val": 0.2, "test": 0.2, "seed": 0}},
            "handwritten_tmc.yaml: split: the file comes with a train and a test part",
        ),
        ({"split": {"kind": "published", "train": 3, "val": 1, "test": 2}}, "split: the file comes with a train"),
        ({"modalities": {"pixels": {"kind": "vector", "shape": [4]}}}, "no view 'pixels' in handwritten_6views.mat"),
    ],
)
def test_params_that_do_not_fit_the_file_of_tmc(tmp_path, views, change, message):
    write_tmc(tmp_path, views)
    dataset = Dataset.model_validate({**TMC.model_dump(mode="json"), **change})
    with pytest.raises(ConfigError, match=message):
        read("handwritten_tmc", dataset, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x3_test": None}, "no variable 'x3_test'"),
        ({"x3_test": np.zeros((2, 5))}, r"x3_test has shape \(2, 5\), expected \(2, 2\)"),
        ({"x1_train": np.full((4, 4), np.nan)}, "x1_train: row 1"),
    ],
)
def test_a_damaged_mat_is_named(tmp_path, views, changes, message):
    write_tmc(tmp_path, views, **changes)
    with pytest.raises(DataError, match=message):
        read("handwritten_tmc", TMC, tmp_path)


def test_a_mat_of_another_version_says_how_to_save_it(tmp_path):
    path = tmp_path / "x.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF")
    with pytest.raises(DataError, match=r"x\.mat: a MATLAB 7\.3 file \(HDF5\), which is not read; save it with `-v7`"):
        read_mat(path)


def test_a_sparse_matrix_says_how_to_save_it(tmp_path, views):
    write_tmc(tmp_path, views, x1_train=csc_matrix(np.eye(4)))
    with pytest.raises(DataError, match=r"x1_train is a sparse matrix, which is not read; save `full\(x1_train\)`"):
        read("handwritten_tmc", TMC, tmp_path)


def test_a_file_that_is_no_mat(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read("handwritten_tmc", TMC, tmp_path)
    (tmp_path / "handwritten_6views.mat").write_text("<html>not found</html>" * 20)
    with pytest.raises(DataError, match="not readable as a MATLAB 5 file"):
        read("handwritten_tmc", TMC, tmp_path)


@pytest.mark.mirror
def test_the_published_file(mirror):
    dataset = Dataset.model_validate(params("handwritten_tmc"))
    host = dataset.sources[0].url.removeprefix("https://").replace("%20", " ")
    if not (path := mirror / host).exists():
        pytest.skip("the mirror does not hold the file")
    got = read("handwritten_tmc", dataset, path.parent)
    assert np.bincount(got.labels).tolist() == [200] * 10
    assert got.inputs["fac"].max() == 1353
    assert len({row.tobytes() for row in np.concatenate(list(got.inputs.values()), axis=1)}) == 1994

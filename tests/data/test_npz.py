"""Arrays come out of npz as they went in; the corpus has what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmcontrast.data.npz import read_npz
from mmcontrast.errors import DataError


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = {
        "x": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.ones((2, 3), np.float32)),
        "t": np.array(["ab", "c"]),
        "e": np.zeros((0, 3)),
        "s": np.array(3),
    }
    save(tmp_path / "x.npz", **arrays)
    found = read_npz(tmp_path / "x.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.npz: no such file"):
        read_npz(tmp_path / "x.npz")


def test_the_whole_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(100))
    monkeypatch.setattr("mmcontrast.data.npz.MAX_NPZ_BYTES", 500)
    with pytest.raises(DataError, match=r"more than .* 500 bytes"):
        read_npz(tmp_path / "x.npz")

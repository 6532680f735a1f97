"""Plain data come out of a pickle as they went in; nothing else does, and nothing is run."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcontrast.data.unpickle import read_pickle
from mmcontrast.errors import DataError


def through(path: Path, value: Any, protocol: int) -> Any:
    path.write_bytes(pickle.dumps(value, protocol))
    return read_pickle(path)


PLAIN: list[Any] = [
    None,
    [True, 1, -(2**70), 2.5, "é\n", b"\x00\xff", ""],
    {"a": (1,), "b": ((), (1, 2), (1, 2, 3), (1, 2, 3, 4)), 3: [], None: {}, 1.5: {"deep": [[1]]}},
    {1, "a"},
    frozenset([2]),
    bytearray(b"ab"),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values(protocol: int, tmp_path: Path) -> None:
    values = PLAIN if protocol >= 5 else PLAIN[:-1]
    found = through(tmp_path / "x.pkl", values, protocol)
    assert found == values
    assert [type(v) for v in found] == [type(v) for v in values]


ARRAYS = {
    "float": np.arange(6.0).reshape(2, 3),
    "big endian": np.arange(3, dtype=">i4"),
    "Fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "text": np.array(["ab", "c"]),
    "bytes": np.array([b"ab", b"c"]),
    "empty": np.zeros((0, 4)),
    "no dimension": np.array(3),
    "half": np.ones(2, np.float16),
    "a slice": np.arange(10)[::3],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name: str, protocol: int, tmp_path: Path) -> None:
    found = through(tmp_path / "x.pkl", {"x": ARRAYS[name]}, protocol)["x"]
    assert found.dtype == ARRAYS[name].dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, ARRAYS[name])
    found[...] = found  # writable, like any array
    assert through(tmp_path / "x.pkl", np.float32(2.5), protocol) == np.float32(2.5)


def test_a_value_that_occurs_twice_is_one_value(tmp_path: Path) -> None:
    x = np.zeros(3)
    shared = {"x": x}
    found = through(tmp_path / "x.pkl", [shared, shared, x], 4)
    assert found[0] is found[1]
    assert found[0]["x"] is found[2]
    cycle: list[Any] = []
    cycle.append(cycle)
    found = through(tmp_path / "x.pkl", cycle, 4)
    assert found[0] is found


class Command:
    """Pickled, it is an order to make a folder."""

    def __reduce__(self) -> Any:
        return Path.mkdir, (Path("made"),)


def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"x\.pkl: not a pickle of plain data \(it names .*accepted are numpy arrays"):
        through(tmp_path / "x.pkl", {"x": [Command()]}, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pkl"]


def test_too_large_and_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcontrast.data.unpickle.MAX_PICKLE_BYTES", 3)
    with pytest.raises(DataError, match="at most 3 are read"):
        through(tmp_path / "x.pkl", [1, 2], 4)
    monkeypatch.undo()
    monkeypatch.setattr("mmcontrast.data.unpickle.MAX_INSTRUCTIONS", 3)
    with pytest.raises(DataError, match="more than 3 instructions"):
        through(tmp_path / "x.pkl", list(range(9)), 4)
    with pytest.raises(DataError, match="no such file"):
        read_pickle(tmp_path / "y.pkl")


def test_an_ordered_dict_is_a_dict(tmp_path: Path) -> None:
    assert through(tmp_path / "x.pkl", OrderedDict(a=1), 2) == {"a": 1}

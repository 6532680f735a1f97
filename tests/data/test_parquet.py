"""A sealed file is Parquet for everybody, and no byte of it changes unnoticed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcontrast.data import parquet
from mmcontrast.data.parquet import read_parquet, seal, write_parquet
from mmcontrast.errors import DataError

CONTENT = pa.table(
    {
        "id": ["a", "b", "a"],
        "x": [1.5, 2.5, float("nan")],
        "v": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2)),
        "texts": [["p"], [], ["q", "r"]],
    },
    metadata={"about": "é"},
)


def values(table: pa.Table) -> str:
    """Names and cells; as text, because NaN is not equal to itself."""
    return repr(table.to_pydict())


def test_other_readers_see_nothing_of_the_seal(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(CONTENT, path)
    assert parquet.SEAL in path.read_bytes()
    assert values(pq.read_table(path)) == values(CONTENT)
    assert pl.read_parquet(path)["id"].to_list() == ["a", "b", "a"]
    found = read_parquet(path, "again")
    assert found.schema.metadata == CONTENT.schema.metadata
    assert values(found) == values(CONTENT)


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_parquet(CONTENT, tmp_path / name)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_every_byte_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(CONTENT, path)
    raw = path.read_bytes()
    start = raw.index(parquet.SEAL)
    # the seal's own name is left out: without it a file counts as one of another program
    for at in [*range(0, start, 7), *range(start + len(parquet.SEAL), len(raw), 7)]:
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(DataError, match=r"x\.parquet: damaged, or not a Parquet file \(.*\); try again"):
            read_parquet(path, "try again")


def test_a_file_without_a_seal_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(CONTENT, path)
    before = read_parquet(path, "again")
    seal(path)
    assert values(read_parquet(path, "again")) == values(before) == values(CONTENT)


def test_the_seal_is_of_the_bytes_around_it(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(CONTENT, path)
    plain = hashlib.sha256(path.read_bytes()).digest()
    seal(path)
    raw = path.read_bytes()
    at = raw.index(parquet.SEAL) + len(parquet.SEAL)
    assert raw[at : at + 32] == plain


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "x.parquet", "again")


def test_what_is_far_larger_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "SMALL_TABLE_BYTES", 1000)
    monkeypatch.setattr(parquet, "MAX_RATIO", 1)
    texts, numbers = tmp_path / "texts.parquet", tmp_path / "numbers.parquet"
    write_parquet(pa.table({"id": ["word" * 50] * 5000}), texts)
    with pytest.raises(DataError, match="column 'id' is more than"):
        read_parquet(texts, "again")
    write_parquet(pa.table({"x": [1.0] * 5000}), numbers)
    with pytest.raises(DataError, match="5000 rows of 8 bytes"):
        read_parquet(numbers, "again")

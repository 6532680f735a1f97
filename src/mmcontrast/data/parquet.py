"""Parquet files that carry a checksum of all their bytes, read with bounded memory.

The checksum stands between the last page and the footer, where no reader looks: pages are found by their offsets, and
the footer by its length. It is checked before Arrow sees the file, because Arrow ends the process on some broken
footers. A file without one, as other programs write it, is read all the same.

Large splits are read row by row from an uncompressed copy that is mapped into memory, Arrow's file format in pieces of
PIECE_ROWS rows: <folder>/<sha256 of the Parquet>-<sha256 of the copy>.arrow. The first process that wants it makes it,
in memory for one piece. Its bytes are checked whenever it is opened, and copies of earlier preparations are removed.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmcontrast.data.files import CHUNK_BYTES, locked, replacing, sha256_of
from mmcontrast.errors import DataError, first_line

SEAL = b"mmcontrast sha256"
SEAL_BYTES = len(SEAL) + hashlib.sha256().digest_size
MAGIC = b"PAR1"
BATCH_ROWS = 256
MAX_TABLE_BYTES = 16 * 1024**3
# what a small file may become, and how many times its size a large one: a value that repeats takes next to nothing
SMALL_TABLE_BYTES = 128 * 1024**2
MAX_RATIO = 1000
log = logging.getLogger(__name__)
PIECE_ROWS = 1024


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a sealed table atomically."""
    with replacing(path) as temp:
        pq.write_table(table, temp, compression="zstd")
        seal(temp)


def seal(path: Path) -> None:
    """Put the checksum into a Parquet file that was just written. Call it before the file gets its name."""
    with path.open("r+b") as file:
        start = _footer_start(file)
        digest = _digest(file, start, start)
        file.seek(start)
        footer = file.read()
        file.seek(start)
        file.write(SEAL + digest + footer)


def read_parquet(path: Path, remedy: str) -> pa.Table:
    """A whole table; FileNotFoundError: it is missing. `remedy`: what to do about damage, as the end of a sentence.

    Raises DataError: damaged, not Parquet, or far more in memory than its size allows for.
    """
    with _damage_told(path, remedy):
        with path.open("rb") as raw:
            _check_seal(raw)
        limit = min(MAX_TABLE_BYTES, SMALL_TABLE_BYTES + MAX_RATIO * path.stat().st_size)
        table = _read(path, limit)
        # offsets that point nowhere would be followed by whoever reads the values
        table.validate(full=True)
        return table


class Outline(NamedTuple):
    """What a file says of itself: its schema, the bytes of its columns before compression, the sha256 in its seal."""

    schema: pa.Schema
    size: int
    digest: str


def read_outline(path: Path, remedy: str) -> Outline:
    """The outline of a file, whose bytes are checked. Raises DataError, FileNotFoundError: as `read_parquet`."""
    with _damage_told(path, remedy):
        with path.open("rb") as raw:
            digest = _check_seal(raw) or hashlib.file_digest(raw, "sha256").hexdigest()
        with pq.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            return Outline(file.schema_arrow, sum(file.metadata.row_group(g).total_byte_size for g in groups), digest)


def read_pieces(path: Path, rows: int, remedy: str) -> Iterator[pa.RecordBatch]:
    """A table whose bytes `read_outline` has checked, `rows` at a time in memory. DataError: as `read_parquet`."""
    limit, size = SMALL_TABLE_BYTES + MAX_RATIO * path.stat().st_size, 0
    with _damage_told(path, remedy):
        for piece in stored_batches(path, rows=rows):
            piece.validate(full=True)
            size += piece.nbytes
            if size > limit:
                raise ValueError(f"more than {limit} bytes, which is refused for its size")
            yield piece


@contextmanager
def _damage_told(path: Path, remedy: str) -> Iterator[None]:
    """Errors of reading a file as an error that says what to do about it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as e:
        raise DataError(f"{path}: damaged, or not a Parquet file ({first_line(e)}); {remedy}") from None


def stored_batches(
    path: Path, columns: Sequence[str] | None = None, rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """A file whose bytes are known to be good, so many rows at a time or what is left of a row group.

    Row groups are asked for one by one: over all of them at once, Arrow's iterator keeps what it has passed.
    """
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.iter_batches(rows, row_groups=[group], columns=columns and list(columns), use_threads=False)


def _footer_start(file: BinaryIO) -> int:
    """Where the footer begins. Raises ValueError: the file does not end like Parquet."""
    size = file.seek(0, 2)
    if size < 2 * len(MAGIC) + 4:
        raise ValueError(f"{size} bytes")
    file.seek(size - 8)
    length, magic = int.from_bytes(file.read(4), "little"), file.read(4)
    start = size - 8 - length
    if magic != MAGIC or start < len(MAGIC):
        raise ValueError("its end is missing")
    return start


def _digest(file: BinaryIO, end: int, footer: int) -> bytes:
    digest, left = hashlib.sha256(), end
    file.seek(0)
    while left and (chunk := file.read(min(CHUNK_BYTES, left))):
        digest.update(chunk)
        left -= len(chunk)
    file.seek(footer)
    digest.update(file.read())
    return digest.digest()


def _check_seal(file: BinaryIO) -> str | None:
    start = _footer_start(file)
    file.seek(max(0, start - SEAL_BYTES))
    found = file.read(SEAL_BYTES)
    if not found.startswith(SEAL):
        file.seek(0)
        return None
    if found[len(SEAL) :] != _digest(file, start - SEAL_BYTES, start):
        raise ValueError("it does not have the checksum it was written with")
    return found[len(SEAL) :].hex()


def _read(path: Path, limit: int) -> pa.Table:
    """The table, unless it is more than `limit` bytes. Texts are first read as indices into the different ones."""
    with pq.ParquetFile(path) as file:
        texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        width = sum(map(_width, file.schema_arrow.types))
        if file.metadata.num_rows * width > limit:
            raise ValueError(f"{file.metadata.num_rows} rows of {width} bytes, which is refused for its size")
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        table = file.read()
    for name in texts:
        at = table.column_names.index(name)
        coded = table.column(at)
        if pa.types.is_dictionary(coded.type):
            if sum(map(_text_bytes, coded.chunks)) > limit:
                raise ValueError(f"column '{name}' is more than {limit} bytes, which is refused for its size")
            field = table.schema.field(at)
            table = table.set_column(at, field.with_type(pa.string()), coded.cast(pa.string()))
    return table


def _width(kind: pa.DataType) -> int:
    """Bytes of a row in a column, as far as the type says."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    if pa.types.is_primitive(kind):
        return max(1, int(kind.bit_width) // 8)
    return 0


def _text_bytes(coded: pa.DictionaryArray) -> int:
    lengths = pc.binary_length(coded.dictionary)
    return int(pc.sum(lengths.cast(pa.int64()).take(coded.indices)).as_py() or 0)


def mapped_copy(path: Path, outline: Outline, folder: Path, check: Callable[[pa.Table], None], remedy: str) -> Path:
    """The copy of a Parquet file in `folder`, which is of this file alone; made now if there is none that is whole.

    `check` raises DataError for a piece that is not accepted; so does a damaged Parquet file, with the `remedy`.
    """
    with locked(folder / "lock"):
        for file in sorted(folder.glob("*.arrow")):
            source, _, digest = file.stem.partition("-")
            if source == outline.digest and sha256_of(file) == digest:
                return file
            if source == outline.digest:
                log.warning("%s: not as it was written; it is made again from %s", file, path)
            file.unlink()
        return _written(path, outline, folder, check, remedy)


@lru_cache(maxsize=16)
def open_map(file: Path) -> pa.Table:
    """A copy, mapped: its pages are read when they are looked at, and are no memory of this process."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


def _written(path: Path, outline: Outline, folder: Path, check: Callable[[pa.Table], None], remedy: str) -> Path:
    draft = folder / ".draft"
    try:
        with draft.open("wb") as raw, pa.ipc.new_file(raw, outline.schema) as writer:
            for piece in read_pieces(path, PIECE_ROWS, remedy):
                check(pa.Table.from_batches([piece]))
                writer.write_batch(piece)
        # not synced to the disk: a copy that a power cut leaves broken is found out and made again
        file = folder / f"{outline.digest}-{sha256_of(draft)}.arrow"
        os.replace(draft, file)
        open_map.cache_clear()  # of a broken copy of this name
        return file
    except OSError as e:
        e.filename = e.filename or str(draft)
        raise
    finally:
        draft.unlink(missing_ok=True)

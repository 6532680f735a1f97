"""Named members out of wheels and npm tarballs. Nothing is ever written outside the given folder.

Only archives whose checksum was verified come here (see `manifest.pinned`), so that nothing guards against bombs.
Refused: absolute names, `..`, links and devices of any kind, a target reached through a link, and a name that the
archive holds twice. Every named member is looked at before the first is written.
"""

from __future__ import annotations

import difflib
import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from stat import S_IFMT, S_IFREG
from typing import IO, TypeVar

from mmcontrast.data.files import CHUNK_BYTES, inside, replacing
from mmcontrast.errors import FetchError, nearest

T = TypeVar("T", zipfile.ZipInfo, tarfile.TarInfo)

NPM_PREFIX = "package/"
UNREADABLE = (EOFError, NotImplementedError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def extract_wheel(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of a wheel. Returns member name -> path, in the order given.

    Raises:
        FetchError: not a wheel, a member missing, or a member that is refused (see above).
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            found = _members(wheel.infolist(), [info.filename for info in wheel.infolist()], members, archive)
            for name, info in found.items():
                if info.is_dir() or S_IFMT(info.external_attr >> 16) not in (0, S_IFREG):
                    raise _no_file(archive, name)
            targets = {name: inside(folder, name) for name in found}
            for name, info in found.items():
                with wheel.open(info) as stream:
                    _copy(stream, targets[name])
            return targets
    except UNREADABLE as e:
        raise _unreadable(archive, "a wheel", e) from None


def extract_npm(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of an npm tarball, named without the leading `package/`. Otherwise as `extract_wheel`."""
    try:
        with tarfile.open(archive, mode="r:gz") as tarball:
            known = tarball.getmembers()
            found = _members(known, [info.name.removeprefix(NPM_PREFIX) for info in known], members, archive)
            for name, info in found.items():
                if not info.isreg():
                    raise _no_file(archive, name)
            targets = {name: inside(folder, name) for name in found}
            for name, info in found.items():
                stream = tarball.extractfile(info)
                if stream is None:
                    raise _no_file(archive, name)
                with stream:
                    _copy(stream, targets[name])
            return targets
    except (gzip.BadGzipFile, *UNREADABLE) as e:
        raise _unreadable(archive, "an npm package", e) from None


def _members(infos: Sequence[T], names: Sequence[str], wanted: Iterable[str], archive: Path) -> dict[str, T]:
    """The wanted members by name, each of them there exactly once."""
    known = dict(zip(names, infos, strict=True))
    out = {}
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
            raise FetchError(f"{archive.name}: holds no '{name}'; {nearest(name, close)}")
        if names.count(name) > 1:
            raise FetchError(f"{archive.name}: holds '{name}' more than once, and nobody can say which is meant")
        out[name] = known[name]
    return out


def _copy(stream: IO[bytes], target: Path) -> None:
    with replacing(target, sync=False) as temp, temp.open("wb") as out:
        shutil.copyfileobj(stream, out, CHUNK_BYTES)


def _no_file(archive: Path, name: str) -> FetchError:
    return FetchError(f"{archive.name}: '{name}' is a folder, a link or a device, not a file")


def _unreadable(archive: Path, kind: str, error: Exception) -> FetchError:
    return FetchError(f"{archive.name}: not readable as {kind} ({str(error) or type(error).__name__})")

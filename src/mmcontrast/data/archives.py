"""Named members out of wheels, npm tarballs and archives of repositories. Nothing is written outside the given folder.

Wheels and npm tarballs come here with a verified checksum (see `manifest.pinned`), so that nothing guards against
bombs; of an archive each member has a size and a checksum, and no more is read than twice the sizes of all.
Refused: absolute names, `..`, links and devices of any kind, a target reached through a link, and a name that the
archive holds twice. Every named member is looked at before the first is written.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from stat import S_IFMT, S_IFREG
from typing import IO, TypeVar, cast

from mmcontrast.config.datasets import Member
from mmcontrast.data.files import CHUNK_BYTES, inside, replacing
from mmcontrast.errors import FetchError, nearest

T = TypeVar("T", zipfile.ZipInfo, tarfile.TarInfo)

NPM_PREFIX = "package/"
# what a tar takes beside its files
BLOCKS_BYTES = 16 * CHUNK_BYTES
UNREADABLE = (EOFError, NotImplementedError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def extract_wheel(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of a wheel. Returns member name -> path, in the order given.

    Raises FetchError: not a wheel, a member missing, or a member that is refused (see above).
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            found = _members(wheel.infolist(), [info.filename for info in wheel.infolist()], members, archive)
            odd = [n for n, i in found.items() if i.is_dir() or S_IFMT(i.external_attr >> 16) not in (0, S_IFREG)]
            return _unpacked(archive, found, odd, wheel.open, folder)
    except UNREADABLE as e:
        raise _unreadable(archive, "a wheel", e) from None


def extract_npm(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of an npm tarball, named without the leading `package/`. Otherwise as `extract_wheel`."""
    try:
        with tarfile.open(archive, mode="r:gz") as tarball:
            known = tarball.getmembers()
            found = _members(known, [info.name.removeprefix(NPM_PREFIX) for info in known], members, archive)
            odd = [name for name, info in found.items() if not info.isreg()]
            return _unpacked(archive, found, odd, lambda info: cast(IO[bytes], tarball.extractfile(info)), folder)
    except (gzip.BadGzipFile, *UNREADABLE) as e:
        raise _unreadable(archive, "an npm package", e) from None


def _unpacked(
    archive: Path, found: Mapping[str, T], odd: Sequence[str], read: Callable[[T], IO[bytes]], folder: Path
) -> dict[str, Path]:
    """Every member written below the folder, where none is `odd`, which are those that are no files."""
    if odd:
        raise _no_file(archive, odd[0])
    targets = {name: inside(folder, name) for name in found}
    for name, info in found.items():
        with read(info) as stream:
            _copy(stream, targets[name])
    return targets


def check_archive(archive: Path, root: str, members: Mapping[str, Member]) -> None:
    """Hold the members of a gzipped tar against their checksums. root: the folder in it that they are named below.

    Raises FetchError: not such an archive, a member missing, twice, no file or of other bytes, or far too large.
    """
    for name, stream in _read(archive, root, members):
        found = hashlib.sha256(stream.read(members[name].bytes + 1)).hexdigest()
        if found != members[name].sha256:
            raise FetchError(f"{archive.name}: '{name}' has sha256 {found}, expected {members[name].sha256}")


def extract_archive(archive: Path, root: str, members: Mapping[str, Member], folder: Path) -> dict[str, Path]:
    """Unpack members of a gzipped tar that all pass `check_archive`. Returns member name -> path."""
    check_archive(archive, root, members)
    targets = {name: inside(folder, name) for name in members}
    for name, stream in _read(archive, root, members):
        _copy(stream, targets[name])
    return targets


def _read(archive: Path, root: str, members: Mapping[str, Member]) -> Iterator[tuple[str, IO[bytes]]]:
    """Each member once, in the archive's order, to be read before the next."""
    left = set(members)
    try:
        most = BLOCKS_BYTES + 2 * sum(member.bytes for member in members.values())
        with _Bounded(archive, most) as whole, tarfile.open(fileobj=whole, mode="r|") as tarball:
            for info in tarball:
                name = info.name.removeprefix(f"{root}/")
                if name not in members or name == info.name:
                    continue
                if name not in left:
                    raise _twice(archive, name)
                if not info.isreg() or (stream := tarball.extractfile(info)) is None:
                    raise _no_file(archive, name)
                left.remove(name)
                with stream:
                    yield name, stream
    except (gzip.BadGzipFile, *UNREADABLE) as e:
        raise _unreadable(archive, "a gzipped tar", e) from None
    if left:
        raise FetchError(f"{archive.name}: holds no '{root}/{min(left)}' ({len(left)} such members)")


class _Bounded(gzip.GzipFile):
    """A gzipped file of which at most so many bytes are read."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path, "rb")
        self._left, self._archive = most, path.name

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self._left -= len(found)
        if self._left < 0:
            raise FetchError(f"{self._archive}: more than twice as large as its members, which is refused")
        return found


def _members(infos: Sequence[T], names: Sequence[str], wanted: Iterable[str], archive: Path) -> dict[str, T]:
    """The wanted members by name, each of them there exactly once."""
    known = dict(zip(names, infos, strict=True))
    out = {}
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
            raise FetchError(f"{archive.name}: holds no '{name}'; {nearest(name, close)}")
        if names.count(name) > 1:
            raise _twice(archive, name)
        out[name] = known[name]
    return out


def _copy(stream: IO[bytes], target: Path) -> None:
    with replacing(target, sync=False) as temp, temp.open("wb") as out:
        shutil.copyfileobj(stream, out, CHUNK_BYTES)


def _twice(archive: Path, name: str) -> FetchError:
    return FetchError(f"{archive.name}: holds '{name}' more than once, and nobody can say which is meant")


def _no_file(archive: Path, name: str) -> FetchError:
    return FetchError(f"{archive.name}: '{name}' is a folder, a link or a device, not a file")


def _unreadable(archive: Path, kind: str, error: Exception) -> FetchError:
    return FetchError(f"{archive.name}: not readable as {kind} ({str(error) or type(error).__name__})")

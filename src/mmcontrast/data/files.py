"""Small file work that must not go wrong: a file is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from mmcontrast.data.json_text import sealed
from mmcontrast.errors import FetchError

CHUNK_BYTES = 1 << 20


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` if the block ends well, else it is removed.

    Two writers never share the temporary name, so the last one wins and a reader sees one file or the other.

    Args:
        sync: wait for the disk, so that not even a power cut leaves an empty file under the name. Not worth the wait
            for files whose checksum is verified before each use.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        yield temp
        if sync:
            with temp.open("rb") as handle:
                os.fsync(handle.fileno())
        os.replace(temp, path)
    except OSError as e:
        # many writers do not say which file it was
        e.filename = e.filename or str(path)
        raise
    finally:
        temp.unlink(missing_ok=True)


def inside(folder: Path, name: str) -> Path:
    """`folder/name`, where `name` cannot lead out of `folder`.

    Raises:
        FetchError: the name is empty or absolute, holds `..` or a backslash, or passes through a link that leads out.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise FetchError(f"'{name}': not accepted as a file name; only relative paths without '..' are")
    path = folder.joinpath(*parts)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FetchError(f"'{name}': leads out of {folder} through a link; remove the link and try again")
    return path


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, data: Any, seal: bool = False) -> None:
    """JSON for people and programs, replacing `path` atomically. Keys keep their order; equal data, equal bytes.

    Args:
        seal: of an object that a later stage reads: with its checksum, which `read_json` checks.
    """
    text = json.dumps(sealed(data) if seal else data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temp:
        temp.write_text(text, encoding="utf-8")

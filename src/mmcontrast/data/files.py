"""Files that are there whole or not at all, and JSON from files that nobody vouches for.

JSON that is read is bounded in size and depth, without a key twice and without NaN. A sealed object carries the
checksum of its content under one more key, which `read_json` checks and leaves out. An object without one, as other
programs write it, is read all the same.
"""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from mmcontrast.errors import DataError, FetchError

CHUNK_BYTES = 1 << 20
MAX_JSON_BYTES = 64 * 1024**2
SEAL = "sha256 of the rest"
DATASHEET = "datasheet.json"


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` if the block ends well, else it is removed.

    Two writers never share the temporary name: the last one wins, and a reader sees one file or the other. `sync`: wait
    for the disk, so that no power cut leaves an empty file; not worth it where a checksum is verified before each use.
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


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock file alone among all processes; released by the system if the process dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # to be read, so that another user may hold it too
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_CREAT, 0o666)) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def inside(folder: Path, name: str) -> Path:
    """`folder/name`; FetchError: the name is empty or absolute, holds `..` or a backslash, or leads out by a link."""
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
    """Replace `path` atomically by JSON, keys in their order: equal data, equal bytes. `seal`: with its checksum."""
    write_text(path, json.dumps(sealed(data) if seal else data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """A text in UTF-8, replacing `path` atomically."""
    with replacing(path) as temp:
        temp.write_text(text, encoding="utf-8")


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The same with its checksum, however it will be laid out. Keys are strings and values what JSON has."""
    return {**content, SEAL: _digest(content)}


def unsealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content alone. Raises ValueError where it is not what was sealed."""
    found = content.pop(SEAL)
    if found != _digest(content):
        raise ValueError("it does not have the checksum it was written with")
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def parse_json(text: str | bytes) -> Any:
    """Plain objects. ValueError: no JSON in UTF-8, nested too deeply, a key twice, or a number unknown to JSON."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> Any:
    """A file of at most `limit` bytes as plain objects, without the seal of a sealed one.

    Raises ValueError: as `parse_json`, changed since it was sealed, or larger; OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{size} bytes, and at most {limit} are read")
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        return unsealed(content) if isinstance(content, dict) and SEAL in content else content
    except MemoryError:
        raise ValueError(f"{size} bytes, for which the memory is too small") from None


def told_json(path: Path, what: str, remedy: str, kind: type = dict) -> Any:
    """As `read_json`. DataError, with the `remedy`: there is no such file, or it is not `what`, a JSON `kind`."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: not {what} ({e}); {remedy}") from None
    if not isinstance(found, kind):
        expected = "an object" if kind is dict else "a list"
        raise DataError(f"{path}: not {what} (holds a {type(found).__name__}, expected {expected}); {remedy}")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' is given twice")
    return out


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def again(path: Path) -> str:
    """What heals a prepared split, as the end of a message."""
    return f"run `mmcontrast data prepare {path.parent.name}`"


def check_prepared(path: Path) -> None:
    """Check a split by the datasheet beside it, if there is one. DataError: it has changed, or that is damaged."""
    sheet_path = path.parent / DATASHEET
    try:
        expected = read_json(sheet_path).get("prepared", {}).get(path.stem)
        found = sha256_of(path)
    except FileNotFoundError:
        return
    except (ValueError, AttributeError, OSError) as e:
        raise DataError(f"{sheet_path}: not a datasheet ({e}); {again(path)}") from None
    if expected is not None and found != expected:
        raise DataError(f"{path}: changed since it was prepared (sha256 {found}, was {expected}); {again(path)}")

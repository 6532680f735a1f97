"""JSON from files that nobody vouches for: bounded in size and depth, no key twice, no NaN; and JSON that is sealed.

A sealed object carries the checksum of its content under one more key, which `read_json` checks and leaves out. An
object without one, as other programs write it, is read all the same.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 64 * 1024**2
SEAL = "sha256 of the rest"


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
    """Plain objects.

    Raises:
        ValueError: not JSON in UTF-8, nested too deeply, a key twice, or a number that JSON does not have.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> Any:
    """A file as plain objects, without the seal of a sealed one.

    Args:
        limit: most bytes that are read.

    Raises:
        ValueError: as `parse_json`, changed since it was sealed, or larger than the limit. OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{size} bytes, and at most {limit} are read")
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        return unsealed(content) if isinstance(content, dict) and SEAL in content else content
    except MemoryError:
        raise ValueError(f"{size} bytes, for which the memory is too small") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' is given twice")
    return out


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")

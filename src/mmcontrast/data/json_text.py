"""JSON from files that nobody vouches for: bounded in size and depth, no key twice, no NaN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 64 * 1024**2


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
    """A file as plain objects.

    Args:
        limit: most bytes that are read.

    Raises:
        ValueError: as `parse_json`, or the file is larger than the limit. OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{size} bytes, and at most {limit} are read")
    try:
        return parse_json(path.read_text(encoding="utf-8"))
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

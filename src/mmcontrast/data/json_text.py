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
    with path.open("rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return parse_json(raw.decode("utf-8"))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' is given twice")
    return out


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")

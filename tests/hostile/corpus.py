"""Broken and hostile files of every format that is read, and what must become of them.

A format knows how to write a small valid file, how the project reads it, and what else people send. A case is one
file: the valid one damaged at a place drawn from a fixed seed (cut short, a bit turned over, bytes set to zero, other
bytes added), or one made by hand. It is judged by carrying out the reader in a folder of its own:

- refused: an MMContrastError that names the file, nothing written outside the target folder, nothing half-written
- unchanged: accepted, and what was read is equal in every value to what the valid file gives; a bit of padding, or of a
  date that nobody reads. Never allowed where a case says that it must be refused
- anything else is a fault: another exception, other values, a file left somewhere
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmcontrast.errors import MMContrastError

TRUNCATIONS, FLIPS, ZEROED = 5, 10, 2

Crafted = dict[str, tuple[bytes, bool]]
"""What is wrong -> the bytes, and whether they must be refused."""


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        write: puts a small valid file, and what it needs beside it, into a folder, and returns the file.
        read: (file, target folder) -> what the project makes of it, as plain values and arrays.
        crafted: name -> (bytes, whether it must be refused), from the valid file's bytes.
        sealed: a checksum covers the file, so random damage must never change what is read; where none does, random
            damage may give another valid file, and is left out.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path, Path], Any]
    crafted: Callable[[bytes], Crafted] = lambda raw: {}
    sealed: bool = True


@dataclass(frozen=True)
class Case:
    """One damaged file. `must_refuse`: not even unchanged values would do."""

    format: str
    name: str
    raw: bytes
    must_refuse: bool


def cases(name: str, form: Format, valid: bytes) -> Iterator[Case]:
    """All cases of a format, the same at every call."""
    rng = random.Random(f"hostile {name}")
    yield Case(name, "empty", b"", True)
    yield Case(name, "other bytes", bytes(rng.randrange(256) for _ in range(300)), True)
    if form.sealed:
        for at in sorted(rng.sample(range(1, len(valid)), TRUNCATIONS)):
            yield Case(name, f"cut at {at}", valid[:at], True)
        for at in sorted(rng.sample(range(8 * len(valid)), FLIPS)):
            flipped = bytearray(valid)
            flipped[at // 8] ^= 1 << at % 8
            yield Case(name, f"bit {at}", bytes(flipped), False)
        for at in sorted(rng.sample(range(len(valid)), ZEROED)):
            zeroed = valid[:at] + bytes(len(valid[at : at + 16])) + valid[at + 16 :]
            yield Case(name, f"zeros at {at}", zeroed, False)
    for what, (raw, must_refuse) in form.crafted(valid).items():
        yield Case(name, what, raw, must_refuse)


def judged(name: str, form: Format, folder: Path) -> Iterator[tuple[Case, str]]:
    """Every case of a format with its verdict: `refused`, `unchanged`, or what is wrong.

    Args:
        folder: empty; each case has a folder of its own there.
    """
    valid = _written(form, folder / "valid")
    raw, expected = valid.read_bytes(), form.read(valid, folder / "valid" / "out")
    for number, case in enumerate(cases(name, form, raw)):
        yield case, judge(case, form, expected, folder / str(number))


def judge(case: Case, form: Format, expected: Any, folder: Path) -> str:
    """The verdict on one case.

    Args:
        expected: what the valid file gives. folder: not there yet.
    """
    file = _written(form, folder)
    file.write_bytes(case.raw)
    out = folder / "out"
    before = _listing(folder.parent, out)
    try:
        found = form.read(file, out)
    except MMContrastError as e:
        if file.name not in str(e):
            return f"the error does not name {file.name}: {e}"
        verdict = "refused"
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    else:
        if case.must_refuse:
            return "accepted"
        if not equal(found, expected):
            return "accepted with other values"
        verdict = "unchanged"
    if _listing(folder.parent, out) != before:
        return "a file was written outside the target folder"
    if left := [p.name for p in folder.rglob("*.part")]:
        return f"left half-written: {left}"
    return verdict


def _written(form: Format, folder: Path) -> Path:
    folder.mkdir()
    return form.write(folder)


def _listing(folder: Path, target: Path) -> list[tuple[str, int]]:
    """Every file and its size, but for those of the target folder."""
    found = (p for p in folder.rglob("*") if not p.is_relative_to(target))
    return sorted((str(p.relative_to(folder)), p.lstat().st_size) for p in found if not p.is_dir())


def equal(one: Any, other: Any) -> bool:
    """Equal in type, shape and every value; NaN is equal to NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other) or (one != one and other != other)

"""Mutations of valid files of every format are read or refused in words, in little memory and time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile import fuzz
from tests.hostile.fuzz import READERS, FoundError, Reader, checked

FOUND = Path(__file__).parent / "found"
SECONDS = os.environ.get("MMCONTRAST_FUZZ_SECONDS", "600")


def file_name(reader: str) -> str:
    return reader.replace(" ", "_").lower()


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    for raw in reader.valid():
        path = tmp_path / f"x{reader.suffix}"
        path.write_bytes(raw)
        reader.read(path)


@pytest.mark.parametrize("file", sorted(FOUND.iterdir()), ids=lambda file: file.name)
def test_what_was_found_is_refused_in_words(file: Path) -> None:
    """Each was an error of another kind, or the end of the process, when it was found."""
    (reader,) = (of for name, of in READERS.items() if file_name(name) == file.name.rsplit("-", 1)[0])
    checked(reader, file)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [pytest.param([], id="quick"), pytest.param(["--seconds", SECONDS], marks=pytest.mark.exhaustive, id="long")],
)
def test_a_changed_file_is_a_value_or_a_clear_error(more: list[str], root: Path, tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "src")]), "RUST_BACKTRACE": "0"}
    command = [sys.executable, "-m", "tests.hostile.fuzz", str(tmp_path), "--found", str(tmp_path / "found"), *more]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    # of a process that has ended, the last file it was to read lies in the folder
    assert done.returncode == 0, f"{done.stdout}{done.stderr[-500:]}; see {tmp_path}"


def read_carelessly(path: Path) -> int:
    return [0, 1][path.read_bytes().count(b"a")]


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (read_carelessly, "IndexError: list index out of range"),
        (lambda p: bytearray(64 * 1024**2) if b"x" not in p.read_bytes() else None, "took 64 MiB"),
        (lambda p: sys.exit("gone") if b"b" in p.read_bytes() else None, "SystemExit: gone"),
    ],
)
def test_a_reader_with_a_fault_is_found(
    read: Callable[[Path], object], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "SPARE_BYTES", 32 * 1024**2)
    found = fuzz.fuzz(Reader(".bin", lambda: [b"x", b"bxa"], read), tmp_path, 0, 200)
    assert found is not None
    raw, told = found
    assert fault in told
    assert len(raw) <= 8, "it is made smaller"


def test_a_file_that_takes_too_long_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "LONGEST", 0.0)
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(FoundError, match="took 0 s"):
        checked(Reader("", list, lambda p: sum(range(100_000))), tmp_path / "x")

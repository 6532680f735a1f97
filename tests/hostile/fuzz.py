"""Mutations of valid files, read as the project reads them: what comes is a value or one of the package's errors.

    python -m tests.hostile.fuzz FOLDER [--seconds 600] [--only NAME ...] [--found FOLDER]

Hypothesis draws the mutations (bits, bytes, numbers at their limits, parts left out, doubled, moved or taken from
another valid file) and shrinks what fails. All of it happens in this process, which may take SPARE_BYTES and
LONGEST seconds of CPU for a file; the file that is being read lies in FOLDER, so that it is there
after a crash. Without --seconds every reader gets EXAMPLES files; with it, rounds of other draws follow until they are
over. What is found is written into --found, for the corpus in tests/hostile/found.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pickle
import resource
import sys
import time
import warnings
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as safetensors

from mmcontrast.config import read_yaml
from mmcontrast.data.files import told_json
from mmcontrast.data.parquet import read_parquet
from mmcontrast.data.pictures import decode, read_wav, resized
from mmcontrast.data.prepare.emoji import draw
from mmcontrast.data.prepare.hdf5 import array, opened
from mmcontrast.data.prepare.matlab import numeric, read_mat
from mmcontrast.data.prepare.table_files import load
from mmcontrast.data.unpickle import read_pickle
from mmcontrast.errors import DataError, MMContrastError
from mmcontrast.exported import read_weights
from tests.hostile import pickle_files, raw_files, text_files
from tests.hostile.bombs import resident

SPARE_BYTES = 512 * 1024**2
# of address space, most of which is never used; libraries that are refused some may end the process
RESERVED_BYTES = 8 * 1024**3
LONGEST = 10.0
EXAMPLES = 25
PICTURES = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA")
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><defs><linearGradient id="a"><stop offset="0"'
    b' stop-color="red"/></linearGradient></defs><g transform="scale(2)"><path fill="url(#a)" d="M0 0h2v2z"/>'
    b'<use href="#b"/><circle id="b" r="1"/></g></svg>'
)


@dataclass(frozen=True)
class Reader:
    """A reader of files that others have made: valid ones, their suffix, and what reads one."""

    suffix: str
    valid: Callable[[], list[bytes]]
    read: Callable[[Path], Any]


def _picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def _decoded(path: Path) -> Any:
    try:
        return decode(path.read_bytes(), [3, 12, 12])
    except ValueError as e:  # whoever asks for it names the instance
        raise DataError(f"{path}: {e}") from None


def _table(path: Path) -> Any:
    """Every column as text and as numbers, and every array."""
    table = load("t", path.name, path.parent)
    for name in table.names:
        table.cells(name)
        table.texts(name)
        try:
            table.numbers([name], "leave it out")
        except MMContrastError:
            continue  # a column of words is none of numbers
    return [table.array(name).shape for name in table.arrays]


def _frames() -> pl.DataFrame:
    return pl.DataFrame({"id": ["a", "b", "c"], "x": [0.5, None, -3.25], "n": [1, 2, 3], "v": [[1.0, 2.0]] * 3})


def _written(write: Callable[[io.BytesIO], Any]) -> list[bytes]:
    file = io.BytesIO()
    write(file)
    return [file.getvalue()]


def _npz(save: Callable[..., None]) -> list[bytes]:
    return _written(lambda f: save(f, x=np.arange(6.0).reshape(3, 2), n=np.arange(3), names=np.array(["a", "b", "ü"])))


def _sound() -> list[bytes]:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(800)
        file.writeframes(bytes(range(64)))
    return [out.getvalue()]


def _hdf5() -> list[bytes]:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["proprio"] = np.arange(12.0).reshape(4, 3)
        file.create_dataset("contact", data=np.eye(4), compression="gzip")
    return [out.getvalue()]


def _steps(path: Path) -> Any:
    with opened(path) as file:
        return [array(file, key, (None, None))[:] for key in ("proprio", "contact")]


READERS = {
    "csv": Reader(".csv", lambda: [raw_files.CSV.encode(), b'a;b\n"x;1";2,5\n;3\n'], _table),
    "JSON table": Reader(".json", lambda: [_frames().write_json().encode()], _table),
    "JSON lines": Reader(".jsonl", lambda: [_frames().write_ndjson().encode()], _table),
    "Parquet table": Reader(".parquet", lambda: _written(_frames().write_parquet), _table),
    "Feather table": Reader(".feather", lambda: _written(_frames().write_ipc), _table),
    "npz": Reader(".npz", lambda: [*_npz(np.savez), *_npz(np.savez_compressed)], _table),
    "pickle": Reader(".pkl", lambda: [pickle.dumps(pickle_files.PICKLED, p) for p in (0, 2, 4)], read_pickle),
    "pickled table": Reader(".pkl", lambda: [pickle.dumps({"x": np.arange(3.0), "n": [1, 2, 3]})], _table),
    "MATLAB": Reader(
        ".mat",
        lambda: [raw_files.mat_bytes(), raw_files.mat_bytes(compress=False)],
        lambda p: [numeric(read_mat(p), name, p) for name in read_mat(p)],
    ),
    "HDF5": Reader(".h5", _hdf5, _steps),
    "SVG": Reader(".svg", lambda: [SVG], lambda p: draw(p.read_text(encoding="utf-8", errors="replace"), 16)),
    "pictures": Reader(".img", lambda: list(map(_picture, PICTURES)), lambda p: resized(p, [3, 8, 8])),
    "encoded pictures": Reader(".img", lambda: [_picture("PNG"), _picture("JPEG")], _decoded),
    "sound": Reader(".wav", _sound, read_wav),
    "weights": Reader(
        ".safetensors",
        lambda: [safetensors({"w": torch.ones(2, 3), "n": torch.arange(4)}, {"epoch": "3"})],
        read_weights,
    ),
    "sealed Parquet": Reader(".parquet", lambda: _written(_frames().write_parquet), lambda p: read_parquet(p, "again")),
    "YAML": Reader(".yaml", lambda: [text_files.YAML, b"a: {b: [1, x]}\nc: |\n  t\n"], read_yaml),
    "JSON": Reader(
        ".json",
        lambda: [json.dumps({"a": [1, None, 2.5e3, "ü"], "b": {}}).encode()],
        lambda p: told_json(p, "plain objects", "write it again"),
    ),
}
NUMBERS = [
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
    b"9" * 20,
]
TEXTS = [
    b"nan",
    b"-inf",
    b"1e999",
    b"\r",
    b"\n\n",
    b'"',
    b"\x00",
    b"\xef\xbb\xbf",
    b"[" * 3000,
    b"<g>" * 300,
    b"&x *x",
    b"#a",
]


@st.composite
def mutated(draw: Callable[[Any], Any], valid: list[bytes]) -> bytes:
    """A valid file, changed in one place to four."""
    raw = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 4))):
        # what a format declares is mostly at the start or the end
        near = draw(st.sampled_from(["anywhere", "start", "end"]))
        low, high = (
            (max(len(raw) - 64, 0) if near == "end" else 0),
            (min(64, len(raw)) if near == "start" else len(raw)),
        )
        at = draw(st.integers(low, max(low, high)))
        length = draw(st.one_of(st.integers(0, 8), st.integers(0, max(1, len(raw)))))
        kind = draw(st.sampled_from(["bit", "number", "text", "bytes", "cut", "leave out", "double", "other file"]))
        if kind == "bit" and at < len(raw):
            raw[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "number":
            number = draw(st.sampled_from(NUMBERS))
            raw[at : at + len(number)] = number
        elif kind == "text":
            raw[at:at] = draw(st.sampled_from(TEXTS))
        elif kind == "bytes":
            new = draw(st.binary(max_size=8))
            raw[at : at + len(new)] = new
        elif kind == "cut":
            del raw[at:]
        elif kind == "leave out":
            del raw[at : at + length]
        elif kind == "double":
            raw[at:at] = raw[at : at + length]
        elif kind == "other file":
            other = draw(st.sampled_from(valid))
            raw[at : at + length] = other[at : at + length]
    return bytes(raw)


class FoundError(Exception):
    """A file that is read in another way than it must be."""


def checked(reader: Reader, path: Path) -> None:
    """Read one file. Raises FoundError where anything comes but a value or a clear error, or it takes too long."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, taken = time.process_time(), resident("VmRSS")
    try:
        reader.read(path)
    except MMContrastError as e:
        told = str(e)
        if not told.strip() or "Traceback" in told:
            raise FoundError(f"an error that says nothing: {told!r}") from e
    except KeyboardInterrupt:
        raise
    except BaseException as e:
        raise FoundError(f"{type(e).__name__}: {e}") from e
    if (seconds := time.process_time() - before) > LONGEST:
        raise FoundError(f"took {seconds:.0f} s")
    if (grown := resident("VmHWM") - taken) > SPARE_BYTES:
        raise FoundError(f"took {grown / 1024**2:.0f} MiB")


def fuzz(reader: Reader, folder: Path, round_: int, examples: int) -> tuple[bytes, str] | None:
    """So many mutations: the smallest that fails, and how; or None."""
    path, failed = folder / f"x{reader.suffix}", list[tuple[bytes, str]]()
    phases, checks = [Phase.generate, Phase.shrink], list(HealthCheck)

    @settings(max_examples=examples, database=None, deadline=None, phases=phases, suppress_health_check=checks)
    @seed(round_)
    @given(mutated(reader.valid()))
    def one(raw: bytes) -> None:
        path.write_bytes(raw)
        try:
            checked(reader, path)
        except FoundError as e:
            failed.append((raw, str(e)))
            raise

    try:
        one()
    except FoundError:
        return failed[-1]
    return None


def limit_memory() -> None:
    """RESERVED_BYTES more than what is taken now."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + RESERVED_BYTES, resource.RLIM_INFINITY))


def rounds(seconds: float) -> Iterator[int]:
    """One round, and others until so many seconds of CPU are over."""
    start, number = time.process_time(), 0
    while number == 0 or time.process_time() - start < seconds:
        yield number
        number += 1


def main() -> int:
    """All readers; a line per fault, and how many files were read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--only", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--found", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    limit_memory()
    wrong, tried, readers = 0, 0, {name: READERS[name] for name in args.only}
    for number in rounds(args.seconds):
        examples = 10 * EXAMPLES if args.seconds else EXAMPLES
        for name, reader in list(readers.items()):
            print(f"{name}, round {number}", file=sys.stderr, flush=True)
            tried += examples
            if (failed := fuzz(reader, args.folder, number, examples)) is not None:
                raw, fault = failed
                wrong += 1
                del readers[name]  # until it is mended it would only be found again
                print(f"{name}: {fault}: {raw[:200]!r}", flush=True)
                if args.found is not None:
                    args.found.mkdir(parents=True, exist_ok=True)
                    file = f"{name.replace(' ', '_').lower()}-{hashlib.sha256(raw).hexdigest()[:8]}{reader.suffix}"
                    (args.found / file).write_bytes(raw)
    print(f"{tried} files, {wrong} readers with a fault")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

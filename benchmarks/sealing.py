"""What checksums cost a run: bytes that are hashed, seconds of CPU for them, and the share of the run's training.

    python benchmarks/sealing.py            after `snakemake --cores all reproduce`

dvc.lock names what each stage reads and writes. Each of these files is counted as hashed once by each stage that has
it, in full, which is more than is done: of many files a stage reads a part, or the checksum alone. What a byte and what
a file cost is measured here, on files of a common size, from the disk's cache. The share is of the seconds that the
training jobs took (cost.json), without those of preparing, evaluating and reporting.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from mmcontrast.data.files import sha256_of

LARGE, SMALL = 64 * 1024**2, 4096
REPEATS, FILES = 5, 200
ALLOWED = 0.01


def hashed(lock: dict[str, Any]) -> tuple[int, int]:
    """Files and bytes over all stages, read and written."""
    stages = lock["stages"].values()
    entries = [entry for stage in stages for what in ("deps", "outs") for entry in stage.get(what, [])]
    return sum(e.get("nfiles", 1) for e in entries), sum(e.get("size", 0) for e in entries)


def seconds_of(size: int, files: int, folder: Path) -> float:
    """CPU seconds to hash so many files of so many bytes; the least of several tries."""
    paths = [folder / f"{size}-{i}" for i in range(files)]
    for path in paths:
        path.write_bytes(secrets.token_bytes(size))
    tries = []
    for _ in range(REPEATS):
        before = time.process_time()
        for path in paths:
            sha256_of(path)
        tries.append(time.process_time() - before)
    return min(tries)


def share(files: int, size: int, trained: float, per_file: float, per_byte: float) -> tuple[float, float]:
    """Seconds of hashing, and their part of all that was trained."""
    seconds = files * per_file + size * per_byte
    return seconds, seconds / trained


def main() -> int:
    """One line per figure; 1 if it is more than ALLOWED."""
    lock = Path("dvc.lock")
    costs = [json.loads(file.read_text())["seconds"] for file in Path("runs").glob("*/*/*/*/cost.json")]
    if not lock.exists() or not costs:
        print("no dvc.lock or no runs/ here: run `snakemake --cores all reproduce` first", file=sys.stderr)
        return 2
    files, size = hashed(yaml.safe_load(lock.read_text()))
    with tempfile.TemporaryDirectory() as name:
        per_file = seconds_of(SMALL, FILES, Path(name)) / FILES
        per_byte = seconds_of(LARGE, 1, Path(name)) / LARGE
    seconds, part = share(files, size, sum(costs), per_file, per_byte)
    print(f"hashed at most: {files:,} files, {size / 1e9:.2f} GB")
    print(f"at {per_byte * 1e9:.2f} s per GB and {per_file * 1e6:.0f} us per file: {seconds:.1f} s of CPU")
    print(f"training: {sum(costs):,.0f} s in {len(costs)} jobs")
    print(f"share: {part:.2%}, of {ALLOWED:.0%} allowed")
    return int(part > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())

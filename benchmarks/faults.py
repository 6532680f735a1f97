"""What is done to the project, and how often it held.

    python benchmarks/faults.py        takes minutes; exits with 1 if anything got through

Corrupted inputs: each file of the corpus in tests/hostile is read as the project reads it. Refused: an error that names
the file, nothing written outside the target folder, nothing half-written. Unchanged: accepted, with every value as in
the valid file. Bombs are read in a process of their own, with 256 MiB more than its imports took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.hostile import bombs  # noqa: E402
from tests.hostile.corpus import judged  # noqa: E402
from tests.hostile.formats import FORMATS  # noqa: E402


def corrupted_inputs() -> int:
    """Print a line a format; the number of faults."""
    total: Counter[str] = Counter()
    print(f"{'corrupted inputs':<28} refused  unchanged  tried")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number, (name, form) in enumerate(FORMATS.items()):
            own = Path(folder) / str(number)
            own.mkdir()
            counts: Counter[str] = Counter()
            for case, verdict in judged(name, form, own):
                known = verdict if verdict in ("refused", "unchanged") else "fault"
                counts[known] += 1
                if known == "fault":
                    print(f"  {name}: {case.name}: {verdict}")
            print(f"{name:<28} {counts['refused']:>7}  {counts['unchanged']:>9}  {counts.total():>5}")
            total += counts
        os.chdir(ROOT)
    print(f"{'all':<28} {total['refused']:>7}  {total['unchanged']:>9}  {total.total():>5}\n")
    return total["fault"]


def unpacked() -> int:
    """Print a line a bomb; the number of those that were not refused."""
    print(f"{'bombs':<28} {'on disk':>12}  {'memory grew by':>14}  verdict")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    with tempfile.TemporaryDirectory() as folder:
        sizes = bombs.write(Path(folder))
        command = [sys.executable, "-m", "tests.hostile.bombs", folder]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        grown = f"{line['grown'] / 1024**2:.0f} MiB"
        print(f"{line['name']:<28} {sizes[line['name']]:>12}  {grown:>14}  {line['verdict']}")
    if done.returncode:
        print(done.stderr)
    return len(bombs.BOMBS) - sum(line["verdict"] == "refused" for line in lines)


def main() -> int:
    """Everything; 1 if anything got through."""
    return int(corrupted_inputs() + unpacked() > 0)


if __name__ == "__main__":
    sys.exit(main())

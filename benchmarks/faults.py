"""What is done to the project, and how often it held.

    python benchmarks/faults.py [--only corrupted bombs bits kills system] [--kills 20]

exits with 1 if anything got through.

corrupted: each file of the corpus in tests/hostile is read as the project reads it. Refused: an error that names the
file, nothing written outside the target folder, nothing half-written. Unchanged: accepted, with every value as in the
valid file. bombs are read in a process of their own, with 256 MiB more than its imports took. bits: every method is
interrupted in every step on each engine, and what it leaves behind is compared with an undisturbed run's. kills: see
benchmarks/kills.py. system: see benchmarks/system_faults.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import kills, system_faults  # noqa: E402
from tests.hostile import bombs  # noqa: E402
from tests.hostile.corpus import judged  # noqa: E402
from tests.hostile.formats import FORMATS  # noqa: E402
from tests.training import resuming  # noqa: E402

Found = tuple[str, int, int]  # in words, and how many held of how many


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty working directory."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        yield Path(folder)
        os.chdir(ROOT)


def corrupted_inputs(args: argparse.Namespace) -> Found:
    """A line a format; how many were refused, and how many were not."""
    total: Counter[str] = Counter()
    print(f"{'corrupted inputs':<28} refused  unchanged  tried")
    with scratch() as folder:
        for number, (name, form) in enumerate(FORMATS.items()):
            own = folder / str(number)
            own.mkdir()
            counts: Counter[str] = Counter()
            for case, verdict in judged(name, form, own):
                known = verdict if verdict in ("refused", "unchanged") else "fault"
                counts[known] += 1
                if known == "fault":
                    print(f"  {name}: {case.name}: {verdict}")
            print(f"{name:<28} {counts['refused']:>7}  {counts['unchanged']:>9}  {counts.total():>5}")
            total += counts
    text = f"corrupted inputs refused / tried: {total['refused']} / {total.total()}"
    text += f"; the other {total['unchanged']} are read with every value as it was"
    return text, total.total() - total["fault"], total.total()


def unpacked(args: argparse.Namespace) -> Found:
    """A line a bomb; how many were refused."""
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
    refused = sum(line["verdict"] == "refused" for line in lines)
    return f"bombs refused / tried: {refused} / {len(bombs.BOMBS)}", refused, len(bombs.BOMBS)


def bits(args: argparse.Namespace) -> Found:
    """A line a cell; how many interrupted runs ended with the bits of an undisturbed one."""
    equal = tried = interruptions = 0
    logging.getLogger("mmcontrast").setLevel(logging.ERROR)
    ways = [("torch", stops) for stops in resuming.STOPS] + [(e, "killed") for e in resuming.ENGINES if e != "torch"]
    with scratch() as folder:
        resuming.write_data(folder)
        for case in resuming.CASES:
            held = []
            for engine, stops in ways:
                one, other, number = resuming.with_and_without_stops(resuming.small(case, engine), stops)
                held.append(one == other)
                interruptions += number
                shutil.rmtree(folder / "build")
            print(f"{case:<40} {sum(held)} of {len(held)} equal", flush=True)
            equal, tried = equal + sum(held), tried + len(held)
    return f"bits equal: {equal} of {tried} runs, interrupted {interruptions} times", equal, tried


def killed(args: argparse.Namespace) -> Found:
    """A line a kill; how many were survived."""
    tally = kills.run(args.kills, seed=0)
    return tally.text, tally.survived, tally.tried


def by_the_system(args: argparse.Namespace) -> Found:
    """A line a fault; how many were survived."""
    survived, tried = system_faults.run()
    return f"system faults survived / tried: {survived} / {tried}", survived, tried


PARTS = {"corrupted": corrupted_inputs, "bombs": unpacked, "bits": bits, "kills": killed, "system": by_the_system}


def main() -> int:
    """Everything; 1 if anything got through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--kills", type=int, default=20)
    args = parser.parse_args()
    found = [PARTS[part](args) for part in args.only]
    held, tried = sum(held for _, held, _ in found), sum(tried for _, _, tried in found)
    print("\n" + "\n".join(text for text, _, _ in found) + f"\nall faults held / tried: {held} / {tried}")
    return int(held < tried)


if __name__ == "__main__":
    sys.exit(main())

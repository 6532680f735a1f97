"""A small `reproduce`, killed at random moments and started again until it is done, against an undisturbed one.

    python benchmarks/kills.py [--kills 20] [--seed 0]

SIGKILL goes to Snakemake and all its children at a moment drawn from the length of an undisturbed run, so that it
falls into preparation, training (in the middle of a step or of a checkpoint), evaluation and the report alike. What the
killed run left is used by the next one; once a run ends by itself, its results are compared and the next starts from
nothing. A kill is survived where the run that it belongs to ends with the results table of the undisturbed run, to the
last bit.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipeline.conftest import Checkout, small_checkout  # noqa: E402

RESULTS = ("reports/results.parquet", "reports/intervals.parquet", "reports/metrics.json")
COMMAND = ["snakemake", "--cores", "2", "--latency-wait", "5", "reproduce"]


@dataclass
class Tally:
    """How many kills there were, how many of them ended well, and what a kill fell into."""

    tried: int = 0
    survived: int = 0
    moments: list[str] = field(default_factory=list)


def results(checkout: Checkout) -> list[bytes]:
    return [(checkout.root / file).read_bytes() for file in RESULTS]


def started(checkout: Checkout) -> psutil.Popen:
    return psutil.Popen(
        COMMAND, cwd=checkout.root, env=checkout.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def killed(checkout: Checkout, after: float) -> str | None:
    """Kill a run after so many seconds; what it was doing, or None where it had ended by itself."""
    process = started(checkout)
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(after)
        return None
    doing = "starting"
    victims = [process, *process.children(recursive=True)]
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            words = victim.cmdline()
            if "mmcontrast" in words and words[0] != "/bin/sh":
                doing = " ".join(words[words.index("mmcontrast") + 1 :])
            victim.kill()
    psutil.wait_procs(victims)
    checkout("snakemake", "--unlock")
    return doing


def run(kills: int, seed: int, say: bool = True) -> Tally:
    """Kill so many times, and finish."""
    rng, tally = random.Random(seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        (template := Path(folder) / "template").mkdir()
        small_checkout(template)
        undisturbed = Checkout(Path(folder) / "undisturbed")
        shutil.copytree(template, undisturbed.root, symlinks=True)
        before = time.monotonic()
        undisturbed.snakemake()
        length, expected = time.monotonic() - before, results(undisturbed)
        if say:
            print(f"an undisturbed run: {length:.0f} s")
        while tally.tried < kills:
            checkout = Checkout(Path(folder) / "killed")
            shutil.rmtree(checkout.root, ignore_errors=True)
            shutil.copytree(template, checkout.root, symlinks=True)
            here = 0
            while tally.tried < kills:
                doing = killed(checkout, rng.uniform(0.5, length))
                if doing is None:
                    break
                here, tally.tried = here + 1, tally.tried + 1
                tally.moments.append(doing)
                if say:
                    print(f"kill {tally.tried}: in {doing}", flush=True)
            checkout.snakemake()
            tally.survived += here * (results(checkout) == expected)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tally = run(args.kills, args.seed)
    print(f"kills survived / tried: {tally.survived} / {tally.tried}")


if __name__ == "__main__":
    main()

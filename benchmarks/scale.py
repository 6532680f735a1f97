"""CPU time and peak memory as data and grids grow, and the exponent of the growth.

    python benchmarks/scale.py [--only rows classes ...] [--sizes 1000 2000 4000]

rows: made instances of two modalities of 500 features each, prepared and trained for one epoch; long: many instances
of few features; classes: ten instances each; modalities: 2,000 instances of 10 features in each; seeds: of one cell;
cells: of one experiment, checked, planned, and the state of its data told. Each command is a process of its own in a
made folder, so that what it takes to start is in each number. The exponent k is of a + b * size ** k through the last
three sizes, of which each is as many times the one before, so that the start, a, does not count: 1 is linear. CPU
seconds hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SUITE = "scale"
CELL = f"{SUITE}/concat/base"
TRAINED = (
    ("data", "prepare", SUITE),
    ("plan", "--suite", SUITE),
    ("finetune", CELL, "--suite", SUITE),
    ("evaluate", CELL, "--suite", SUITE),
)
TOLD = (("check", "--suite", SUITE), ("plan", "--suite", SUITE), ("data", "status"))
# seconds that more work must add before it is called growth
NOISE = 0.3


def _dataset(rows: int, widths: list[int], classes: int = 2) -> dict[str, Any]:
    return {
        "title": "Scale",
        "description": "Made to be large.",
        "licence": "generated",
        "redistribute": True,
        "citation": "none",
        "reader": "synthetic",
        "generate": {"latent": 8, "overlap": 1.0, "noise": 1.0, "seed": 0},
        "modalities": {f"m{i}": {"kind": "vector", "shape": [width]} for i, width in enumerate(widths)},
        "classes": [f"c{i}" for i in range(classes)],
        "rows": rows,
        "split": {"kind": "random", "train": 0.6, "val": 0.2, "test": 0.2, "seed": 0},
        "scaling": "standard",
        "metrics": ["acc"],
    }


def _experiment(more: dict[str, Any]) -> dict[str, Any]:
    return {"title": "Scale", "caption": "Made to be large.", "kind": "table", "datasets": [SUITE]} | more


ONE_CELL = _experiment({"cells": [{"method": "concat", "label": "Concatenation"}]})


def _swept(n: int) -> dict[str, Any]:
    values = [round(1 + i / n, 6) for i in range(n)]
    return _experiment(
        {"kind": "ablation", "sweep": {"axis": "beta", "m3col": {"objective.beta": values, "label": "beta = {value}"}}}
    )


@dataclass(frozen=True)
class Axis:
    """What grows: its default sizes, the commands that are timed, and the dataset, experiment and seeds of a size."""

    sizes: list[int]
    commands: tuple[tuple[str, ...], ...]
    dataset: Callable[[int], dict[str, Any]] = lambda n: _dataset(240, [10, 10])
    experiment: Callable[[int], dict[str, Any]] = lambda n: ONE_CELL
    seeds: Callable[[int], int] = lambda n: 1


AXES = {
    "rows": Axis([50_000, 100_000, 200_000], TRAINED, lambda n: _dataset(n, [500, 500])),
    "long": Axis([250_000, 500_000, 1_000_000], TRAINED, lambda n: _dataset(n, [4, 4])),
    "classes": Axis([2_500, 5_000, 10_000], TRAINED, lambda n: _dataset(10 * n, [16, 16], n)),
    "modalities": Axis([2, 10, 50], TRAINED, lambda n: _dataset(2_000, [10] * n)),
    "seeds": Axis([2, 10, 50], TRAINED, seeds=lambda n: n),
    "cells": Axis([10, 100, 1_000], TOLD, experiment=_swept),
}


def write(folder: Path, axis: Axis, size: int) -> None:
    """All of params/, with the suite of this size."""
    shutil.copytree(ROOT / "params", folder / "params")
    (folder / "src").symlink_to(ROOT / "src")
    suite = {
        "description": "Made to be large.",
        "datasets": [SUITE],
        "experiments": [SUITE],
        "seeds": list(range(200, 200 + axis.seeds(size))),  # neither reported nor of tuning
        "engine": {"backend": "torch"},
        "overrides": {"finetune": {"epochs": 1, "eval_every": 1, "checkpoint_every": 1, "batch_size": 256}},
    }
    files = {"datasets": axis.dataset(size), "experiments": axis.experiment(size), "suites": suite}
    for kind, content in files.items():
        (folder / f"params/{kind}/{SUITE}.yaml").write_text(json.dumps(content))


def timed(folder: Path, words: tuple[str, ...]) -> tuple[float, float]:
    """CPU seconds and peak MiB of a command."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mmcontrast", *words]
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"mmcontrast {' '.join(words)} -> {process.returncode}\n{said.read()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def exponent(sizes: list[int], values: list[float], noise: float) -> str:
    """k of a + b * size ** k through the last three; `constant` where they hardly grow."""
    if len(sizes) < 3:
        return "-"
    (a, b, c), (x, y, z) = sizes[-3:], values[-3:]
    if not math.isclose(b / a, c / b):
        raise ValueError(f"sizes {sizes[-3:]}: each has to be as many times the one before")
    if z - y < noise:
        return "constant"
    return f"{math.log((z - y) / (y - x)) / math.log(b / a):.2f}" if y - x > noise / 3 else "too small to tell"


def measured(axis: Axis, sizes: list[int]) -> Iterator[tuple[str, int, float, float]]:
    """Command, size, CPU seconds and MiB; a size after another."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), axis, size)
            for words in axis.commands:
                yield " ".join(words[:2] if words[0] == "data" else words[:1]), size, *timed(Path(name), words)


def main(words: list[str] | None = None) -> int:
    """All that is asked for, a line per command and size, then the exponents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--sizes", nargs="+", type=int, help="in place of the axis's own; three or more of one ratio")
    args = parser.parse_args(words)
    for name in args.only:
        axis = AXES[name]
        sizes = args.sizes or axis.sizes
        print(f"{name:<12} {'size':>9} {'CPU s':>8} {'peak MiB':>9}", flush=True)
        by_command: dict[str, list[tuple[float, float]]] = {}
        for command, size, seconds, mib in measured(axis, sizes):
            print(f"{command:<12} {size:>9,} {seconds:>8.1f} {mib:>9.0f}", flush=True)
            by_command.setdefault(command, []).append((seconds, mib))
        for command, found in by_command.items():
            seconds, memory = ([one[i] for one in found] for i in range(2))
            grows = f"time {exponent(sizes, seconds, NOISE)}, memory {exponent(sizes, memory, 10.0)}"
            print(f"{command:<12} exponent: {grows}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Where the time of a step on images goes, and what an epoch costs, on one thread.

    python benchmarks/image_step.py [--datasets trifeature_mid trifeature] [--methods comm cross] [--steps 8]

Random images of the dataset's shape, in its batch size. Reading is the taking of a batch's rows; augmenting is every
call of an augmenter; learning is all the rest: forward, backward, optimizer. The time counted is this process's own, so
that a busy machine does not disturb it. Shown are medians over the steps after the first, and an epoch EXTRAPOLATED
from them: the step times the dataset's number of steps.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from mmcontrast.config import CellConfig, Engine, Grid
from mmcontrast.data.augment import Augmenter
from mmcontrast.data.loading import Table
from mmcontrast.methods.base import Progress, build_method
from mmcontrast.training.batching import rows_of
from mmcontrast.training.distributed import start_world
from mmcontrast.training.engine import make_engine

PARTS = ("read", "augment", "learn")


@contextmanager
def augmenting(spent: list[float]) -> Iterator[None]:
    """Adds the time of every call of an augmenter to the last entry."""
    plain = Augmenter.__call__

    def timed(self, *args, **kwargs):
        start = time.process_time()
        out = plain(self, *args, **kwargs)
        spent[-1] += time.process_time() - start
        return out

    Augmenter.__call__ = timed
    try:
        yield
    finally:
        Augmenter.__call__ = plain


def random_table(cell: CellConfig, rows: int) -> Table:
    """As many random images as one batch takes twice over."""
    g = torch.Generator().manual_seed(0)
    shapes = {name: m.shape for name, m in cell.modalities.items()}
    inputs = {name: torch.randint(256, (rows, *s), generator=g, dtype=torch.uint8) for name, s in shapes.items()}
    labels = torch.randint(len(cell.classes), (rows,), generator=g)
    return Table([str(i) for i in range(rows)], labels, inputs, cell.modalities, cell.classes)


def measure(cell: CellConfig, steps: int) -> dict[str, float]:
    """Median seconds of each part of a step."""
    size = int(cell.pretrain.batch_size)
    table = random_table(cell, 2 * size)
    settings = Engine(backend="torch")
    torch.manual_seed(0)
    engine = make_engine(build_method(cell), cell.pretrain, steps + 1, settings, start_world(settings))
    g = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    with augmenting(found["augment"]):
        for _ in range(steps + 1):
            start = time.process_time()
            batch = rows_of(table, torch.randperm(2 * size, generator=g)[:size], torch.device("cpu"))
            found["read"].append(time.process_time() - start)
            found["augment"].append(0.0)
            start = time.process_time()
            engine.step(engine.forward(batch, Progress("pretrain", 0, cell.pretrain.epochs, g))["loss"])
            found["learn"].append(time.process_time() - start - found["augment"][-1])
    engine.close()
    # the first step pays for what is made once
    return {part: statistics.median(values[1:]) for part, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["trifeature_mid", "trifeature"])
    parser.add_argument("--methods", nargs="+", default=["comm", "cross_self", "cross"])
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    grid = Grid(Path(__file__).parents[1])
    print("| dataset | method | batch | reading, ms | augmenting, ms | learning, ms | outside learning | epoch, s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for dataset in args.datasets:
        for method in args.methods:
            cell = grid.cell(dataset, method)
            found = measure(cell, args.steps)
            whole = sum(found.values())
            steps = math.ceil(grid.datasets[dataset].split.train / cell.pretrain.batch_size)
            milliseconds = " | ".join(f"{1e3 * found[part]:.1f}" for part in PARTS)
            outside = 100 * (whole - found["learn"]) / whole
            print(
                f"| {dataset} | {method} | {cell.pretrain.batch_size} | {milliseconds} | {outside:.0f} % "
                f"| {whole * steps:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

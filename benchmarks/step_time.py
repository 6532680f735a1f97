"""What a training step of M3CoL costs on each engine, with fused and unfused Adam, on one thread.

    python benchmarks/step_time.py [--datasets tcga_brca rosmap] [--rounds 15] [--steps 5]

Random inputs of the dataset's shapes and its number of training rows, full batch. The engines take turns, a few steps a
round, in one process, and the time counted is this process's own, so that a busy machine disturbs them alike. Shown:
median milliseconds a step over the rounds, and its ratio to plain torch with fused Adam.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from mmcontrast.config import CellConfig, Engine, Grid
from mmcontrast.methods.base import Batch, Progress, build_method
from mmcontrast.training.distributed import start_world
from mmcontrast.training.engine import make_engine

ROWS = {"tcga_brca": 461, "rosmap": 245, "mogonet_brca": 612}
ENGINES = {
    "torch": Engine(backend="torch"),
    "torch, bf16": Engine(backend="torch", precision="bf16"),
    **{f"deepspeed, ZeRO {z}": Engine(zero_stage=z) for z in (0, 1, 2, 3)},
}


def random_batch(cell: CellConfig, rows: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = {n: torch.rand(rows, *m.shape, generator=generator) for n, m in cell.modalities.items()}
    return Batch(inputs, torch.randint(len(cell.classes), (rows,), generator=generator))


def measure(cell: CellConfig, rows: int, rounds: int, steps: int) -> dict[tuple[str, bool], float]:
    """(engine, fused) -> median seconds a step."""
    batch = random_batch(cell, rows)
    engines: dict[tuple[str, bool], Any] = {}
    for name, settings in ENGINES.items():
        for fused in (True, False):
            stage = cell.finetune.model_copy(
                update={"optimizer": cell.finetune.optimizer.model_copy(update={"fused": fused})}
            )
            torch.manual_seed(0)
            world = start_world(settings)
            engines[name, fused] = make_engine(build_method(cell), stage, rounds * steps, settings, world)
    seconds: dict[tuple[str, bool], list[float]] = {key: [] for key in engines}
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds + 1):
        for key, engine in engines.items():
            start = time.process_time()
            for _ in range(steps):
                progress = Progress("finetune", 0, cell.finetune.epochs, generator)
                engine.step(engine.forward(batch, progress)["loss"])
            seconds[key].append((time.process_time() - start) / steps)
    for engine in engines.values():
        engine.close()
    # the first round pays for what is made once
    return {key: statistics.median(values[1:]) for key, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["tcga_brca", "rosmap"], choices=list(ROWS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    grid = Grid(Path(__file__).parents[1])
    print("| dataset | rows | width | engine | fused Adam, ms | ratio | unfused, ms | ratio |")
    print("|---|---:|---:|---|---:|---:|---:|---:|")
    for dataset in args.datasets:
        cell = grid.cell(dataset, "m3col")
        found = measure(cell, ROWS[dataset], args.rounds, args.steps)
        reference = found["torch", True]
        for name in ENGINES:
            fused, unfused = found[name, True], found[name, False]
            print(
                f"| {dataset} | {ROWS[dataset]} | {cell.model.width} | {name} | {1e3 * fused:.2f} "
                f"| {fused / reference:.2f} | {1e3 * unfused:.2f} | {unfused / reference:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""What a pretraining step of each newer method costs beside Cross and CoMM, on one thread.

    python benchmarks/method_steps.py [--datasets tcga_brca trifeature_mid] [--rounds 9] [--steps 3]

Random inputs of the dataset's shapes, the batch and the augmentations of each method's own settings. The methods take
turns, a few steps of forward, backward and Adam a round, in one process, and the time counted is this process's own.
Shown: median milliseconds a step over the rounds, and its ratios to Cross and to CoMM, round by round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from mmcontrast.config import CellConfig, Grid
from mmcontrast.methods.base import Batch, Progress, build_method

METHODS = {
    "tcga_brca": [
        "cross", "cross/star", "cross_self", "comm", "infmasking", "gmc", "symile", "symile/all", "gram",
        "gram/triangle", "confu", "decur", "disentangled_ssl",
    ],
    "trifeature_mid": [
        "cross", "cross_self", "comm", "infmasking", "gmc", "symile", "gram", "confu", "decur", "disentangled_ssl",
    ],
}  # fmt: skip


class Trainer:
    """A method of random weights, and a batch of random inputs as large as its settings say."""

    def __init__(self, cell: CellConfig, epoch: int) -> None:
        torch.manual_seed(0)
        self.generator = torch.Generator().manual_seed(0)
        self.method, self.epoch, self.stage = build_method(cell), epoch, cell.pretrain
        rows = int(self.stage.batch_size)
        inputs = {
            name: torch.randint(256, (rows, *m.shape), generator=self.generator, dtype=torch.uint8)
            if m.kind == "image"
            else torch.rand(rows, *m.shape, generator=self.generator)
            for name, m in cell.modalities.items()
        }
        self.batch = Batch(inputs, torch.randint(len(cell.classes), (rows,), generator=self.generator))
        self.optimizer = torch.optim.AdamW(self.method.parameters(), lr=1e-4)

    def seconds(self, steps: int) -> float:
        """Of a step, the mean of some."""
        start = time.process_time()
        for _ in range(steps):
            self.optimizer.zero_grad()
            progress = Progress("pretrain", self.epoch, self.stage.epochs, self.generator)
            self.method(self.batch, progress)["loss"].backward()
            self.optimizer.step()
        return (time.process_time() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    grid = Grid(Path(__file__).parents[1])
    print("| dataset | method | batch | ms a step | to Cross | to CoMM |")
    print("|---|---|---:|---:|---:|---:|")
    for dataset in args.datasets:
        trainers = {}
        for name in METHODS[dataset]:
            cell = grid.cell(dataset, *name.split("/"))
            trainers[name] = Trainer(cell, 0)
            if name == "disentangled_ssl":
                trainers[f"{name}, step 2"] = Trainer(cell, cell.pretrain.epochs - 1)
        rounds = [{name: t.seconds(args.steps) for name, t in trainers.items()} for _ in range(args.rounds + 1)]
        for name, trainer in trainers.items():
            # the first round pays for what is made once
            ratios = [statistics.median(r[name] / r[to] for r in rounds[1:]) for to in ("cross", "comm")]
            print(
                f"| {dataset} | {name} | {len(trainer.batch.labels)} | "
                f"{1e3 * statistics.median(r[name] for r in rounds[1:]):.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

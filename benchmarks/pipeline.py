"""What the pipeline costs: seconds of each experiment by stage; around training memory, overhead and checkpoints of
each cell; preparation of datasets.

    python benchmarks/pipeline.py            after `snakemake --cores all reproduce`

Prints what it measured; a shared machine is noisy, so look at medians.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

from mmcontrast import paths
from mmcontrast.config import Grid
from mmcontrast.pipeline.workflow import selection
from mmcontrast.progress import Costs, Job

REPEATS = 3
STAGES = ("pretrain", "finetune", "evaluate", "report")


def prepare_seconds(dataset: str) -> list[float]:
    """Wall seconds of `mmcontrast data prepare`, process start included."""
    out = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "mmcontrast", "data", "prepare", dataset], check=True, capture_output=True
        )
        out.append(time.perf_counter() - started)
    return out


def clock(grid: Grid, seconds: dict[Job, float]) -> dict[str, dict[str, float]]:
    """Experiment -> stage -> seconds of the jobs that it needs, core seconds where each has one thread. "": of all.

    A cell of several experiments counts in each, and once in that of all. seconds: of jobs, from a run's journal.
    """
    out: dict[str, dict[str, float]] = {}
    for name in grid.active_experiments:
        cells = {f"{d}/{ref.method}/{ref.variant}" for d, ref in grid.experiment_cells(name)}
        of_it = out.setdefault(name, dict.fromkeys(STAGES, 0.0))
        for (stage, job), spent in seconds.items():
            if stage in STAGES and (job == name if stage == "report" else job in cells):
                of_it[stage] += spent
    together = {of: sum(spent for (stage, _), spent in seconds.items() if stage == of) for of in STAGES}
    return out | {"": together}


def print_clock(grid: Grid, layout: paths.Layout) -> None:
    """The same as a table; nothing where there is no journal."""
    spent = Costs(layout.journal).seconds
    if not spent:
        print(f"{layout.journal}: no journal; run the pipeline first\n")
        return
    print(f"{'seconds of experiment':30} {' '.join(f'{stage:>9}' for stage in STAGES)} {'all':>9}")
    for name, of_it in clock(grid, spent).items():
        figures = [*of_it.values(), sum(of_it.values())]
        print(f"{name or 'together, each job once':30} {' '.join(f'{s:9.0f}' for s in figures)}")
    print()


def main() -> None:
    """Print all tables."""
    grid, layout = selection()
    print_clock(grid, layout)
    print(f"{platform.machine()}, {psutil.cpu_count()} CPUs, load {psutil.getloadavg()[0]:.1f}\n")
    print(f"{'stage of a cell':58} {'seconds':>8} {'outside training':>17} {'peak MiB':>9} {'checkpoints %':>14}")
    memory, outside, saving = [], [], []
    for cell in grid.cells.values():
        for stage in cell.stages:
            file = Path(layout.stage(cell.name, stage, "cost.json"))
            if not file.exists():
                continue
            cost = json.loads(file.read_text())
            memory.append(cost["peak_memory_bytes"] / 2**20)
            outside.append(cost["seconds"] - cost["training_seconds"])
            saving.append(100 * cost["checkpoint_seconds"] / cost["seconds"])
            row = f"{cell.name + ' ' + stage:58} {cost['seconds']:8.1f} {outside[-1]:17.1f} {memory[-1]:9.0f}"
            print(f"{row} {saving[-1]:14.1f}")
    if memory:
        print(
            f"\nlargest peak {max(memory):.0f} MiB; outside training: median {statistics.median(outside):.1f} s, ",
            end="",
        )
        print(f"largest {max(outside):.1f} s (n = {len(memory)} jobs)")
        print(f"share of a job's time spent on checkpoints: median {statistics.median(saving):.1f} %, ", end="")
        print(f"largest {max(saving):.1f} %")
    print(f"\n{'data prepare':20} {'median s':>9} {'min':>6} {'max':>6}   (n = {REPEATS}, process start included)")
    for name, dataset in grid.datasets.items():
        raw = Path(paths.raw_dir(name))
        if dataset.sources and not (raw / "manifest.json").exists():
            print(f"{name:20} not fetched")
            continue
        seconds = prepare_seconds(name)
        print(f"{name:20} {statistics.median(seconds):9.2f} {min(seconds):6.2f} {max(seconds):6.2f}")


if __name__ == "__main__":
    main()

"""What safety costs: the share of a default cell's time that is spent on checkpoints.

    python benchmarks/checkpoints.py [CELL ...] [--seeds 1]        after `mmcontrast data prepare` of their datasets

Each cell is trained as the default suite says, by its first seeds alone, in a process of its own. Seconds are wall
time; the share is of the whole process, imports, evaluation and output included, and beside it of training alone.
Exits with 1 if a share of a cell's time is above 3 %.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from mmcontrast.config import CellConfig, Grid
from mmcontrast.paths import Layout

CELLS = ["tcga_brca/m3col/base", "trifeature_mid/comm/base", "weak_modality/tuple_infonce/base", "emoji/mxm_clr/base"]
LAYOUT = Layout("checkpoints")
LARGEST_SHARE = 0.03
# carried out for each stage of a cell, in a fresh process
STAGE = """
import sys
from benchmarks.checkpoints import LAYOUT, cell_of
from mmcontrast.training.cell import run_stage
name, stage, seeds = sys.argv[1:]
run_stage(cell_of(name, int(seeds)), stage, LAYOUT)
"""


def cell_of(name: str, seeds: int) -> CellConfig:
    """The default suite's cell with its first seeds."""
    cell = Grid().cell(*name.split("/"))
    return cell.model_copy(update={"seeds": cell.seeds[:seeds]})


def costs(name: str, seeds: int) -> list[tuple[str, dict[str, float]]]:
    """(stage, what cost.json says) of each stage."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(Path("src").resolve())])}
    out = []
    for stage in cell_of(name, seeds).stages:
        subprocess.run([sys.executable, "-c", STAGE, name, stage, str(seeds)], env=env, check=True)
        out.append((stage, json.loads(Path(LAYOUT.stage(name, stage, "cost.json")).read_text())))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", default=CELLS, metavar="CELL")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    os.chdir(Path(__file__).parents[1])
    worst = 0.0
    print(f"{psutil.cpu_count()} CPUs, load {psutil.getloadavg()[0]:.1f}, {args.seeds} seed(s)\n")
    print(f"{'stage':46} {'seconds':>8} {'training':>9} {'checkpoints':>12} {'of all':>7} {'of training':>12}")
    for name in args.cells:
        for stage, cost in costs(name, args.seeds):
            spent, share = cost["checkpoint_seconds"], cost["checkpoint_seconds"] / cost["seconds"]
            row = f"{f'{name} {stage}':46} {cost['seconds']:8.1f} {cost['training_seconds']:9.1f} {spent:12.2f}"
            print(f"{row} {share:7.1%} {spent / cost['training_seconds']:11.1%}", flush=True)
            worst = max(worst, share)
    shutil.rmtree(LAYOUT.prefix)
    print(f"\nlargest share of a cell's time: {worst:.1%} (at most {LARGEST_SHARE:.0%})")
    return int(worst > LARGEST_SHARE)


if __name__ == "__main__":
    sys.exit(main())

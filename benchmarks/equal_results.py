"""Are the results of two checkouts equal to the last bit? For a refactoring, which changes no number.

    python benchmarks/equal_results.py BEFORE AFTER [--suite smoke] [--renamed study=shared ...]

Every cell that both have is compared: scores, curves, intervals, histories, predictions and embeddings as tables of
equal values, weights as equal bytes of tensors. Exit status 1 where anything differs, or nothing was compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import polars as pl
from safetensors.numpy import load_file

TABLES = ("metrics.parquet", "curves.parquet", "intervals.parquet")
STAGE_TABLES = ("history.parquet", "predictions.parquet", "embeddings.parquet")


def differences(before: Path, after: Path) -> list[str]:
    """Files of a cell that only one side has, or whose values differ."""
    wanted = [before / name for name in TABLES]
    wanted += [p for stage in ("pretrain", "finetune") for p in (before / stage / name for name in STAGE_TABLES)]
    wanted += sorted(before.glob("*/models/*.safetensors"))
    found = []
    for file in wanted:
        other = after / file.relative_to(before)
        if not file.exists():
            continue
        if not other.exists():
            found.append(f"{file.relative_to(before)} is missing")
        elif file.suffix == ".parquet":
            if not pl.read_parquet(file).equals(pl.read_parquet(other)):
                found.append(f"{file.relative_to(before)} differs")
        else:
            one, two = load_file(file), load_file(other)
            if one.keys() != two.keys() or any(one[k].tobytes() != two[k].tobytes() for k in one):
                found.append(f"{file.relative_to(before)} differs")
    return found


def main() -> int:
    """Print a line per cell that differs, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--suite", default="default")
    parser.add_argument("--renamed", nargs="*", default=[], metavar="OLD=NEW", help="parts of variants' names")
    args = parser.parse_args()
    prefix = "" if args.suite == "default" else f"build/{args.suite}/"
    equal, unequal = 0, 0
    for scores in sorted((args.before / f"{prefix}runs").glob("*/*/*/metrics.parquet")):
        dataset, method, variant = scores.parent.parts[-3:]
        new = variant
        for pair in args.renamed:
            old, _, to = pair.partition("=")
            new = to if new == old else new.replace(f"{old}_", f"{to}_", 1) if new.startswith(f"{old}_") else new
        other = args.after / f"{prefix}runs" / dataset / method / new
        if not (other / "metrics.parquet").exists():
            continue
        found = differences(scores.parent, other)
        equal, unequal = equal + (not found), unequal + bool(found)
        if found:
            print(f"{dataset}/{method}/{variant}: {'; '.join(found)}")
    print(f"{equal} cells are equal to the last bit, {unequal} are not")
    return int(unequal > 0 or equal == 0)


if __name__ == "__main__":
    sys.exit(main())

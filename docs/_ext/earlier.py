"""Marks pages of results that an earlier protocol made: found from the published files, not from a list."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from sphinx.application import Sphinx

from mmcontrast.config import Grid
from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.statistics import over_seeds
from mmcontrast.report.results import CELL, shown

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results"
NEAR = 0.01  # points; the tables have four decimals


def other_intervals(folder: Path) -> bool:
    """Whether a table has an interval of a `selected` score that is not the one over seeds of the suite's results."""
    results = pl.read_parquet(folder / "results.parquet").filter(protocol="selected", split="test")
    stored: dict[tuple[str, ...], dict[int, float]] = {}
    for *key, seed, value in results.select(*CELL, "metric", "seed", "value").iter_rows():
        stored.setdefault(tuple(key), {})[seed] = value
    for file in sorted(folder.glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as f:
            for row in csv.DictReader(f):
                values = stored.get((*row["cell"].split("/"), row.get("metric", "")))
                if values is None or not row.get("selected_low"):
                    continue
                of = measure(row["metric"])
                found = shown(over_seeds(np.array(list(values.values())), of.share), of)
                if not abs(float(row["selected_low"]) - found.low) < NEAR * (1 + abs(found.low) / 100):
                    return True
    return False


def not_planned(folder: Path) -> list[str]:
    """Cells of the published results that the suite no longer has."""
    cells = pl.read_parquet(folder / "results.parquet", columns=list(CELL)).unique(maintain_order=True)
    planned = Grid(ROOT, folder.name).cells
    return [name for name in map("/".join, cells.iter_rows()) if name not in planned]


@cache
def mark(folder: Path) -> str:
    """What is said at the top of a suite's pages; empty where they are of the protocol that the docs describe."""
    said = []
    if other_intervals(folder):
        said.append("its intervals are not those that [Statistics](/explanation/statistics.md) describes")
    if gone := not_planned(folder):
        said.append(f"{len(gone)} of its cells are no longer in the suite, such as `{gone[0]}`")
    if not said:
        return ""
    return f"```{{warning}}\nOf an earlier protocol: {', and '.join(said)}. Running the suite again replaces it.\n```\n"


def _marked(app: Sphinx, docname: str, content: list[str]) -> None:
    if docname.startswith("results/"):
        heading, _, rest = content[0].partition("\n")
        content[0] = f"{heading}\n\n{mark(RESULTS / Path(docname).parent.name)}{rest}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _marked)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""What the results table is made of, as plain values of a plan: known from params/ alone, without any result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mmcontrast import paths
from mmcontrast.config import CellRef, Grid
from mmcontrast.paths import Layout

PAGE = "page"


def cell_name(dataset: str, ref: CellRef) -> str:
    """dataset/method/variant."""
    return f"{dataset}/{ref.method}/{ref.variant}"


def covered(grid: Grid, layout: Layout) -> dict[str, Any]:
    """What the results table is made of, as plain values: cells with their seeds and selecting metric, the cells of
    each experiment, and the files that an experiment, or the page, shows beside its scores."""
    cells = {name: {"seeds": cell.seeds, "metric": cell.metrics[0]} for name, cell in grid.cells.items()}
    experiments = {
        e: list(dict.fromkeys(cell_name(d, ref) for d, ref in grid.experiment_cells(e)))
        for e in grid.active_experiments
    }
    files = {e: list(_shown_files(grid, layout, e, names)) for e, names in experiments.items()}
    files[PAGE] = [*_costs(grid, layout, grid.cells), *sorted(paths.datasheet(c.dataset) for c in grid.cells.values())]
    return {
        "cells": cells,
        "experiments": experiments,
        "files": {part: list(dict.fromkeys(names)) for part, names in files.items()},
    }


def _shown_files(grid: Grid, layout: Layout, experiment: str, cells: list[str]) -> Iterator[str]:
    for name in cells:
        stage = grid.cells[name].last_stage
        yield from (layout.metrics(name), layout.curves(name))
        yield from (layout.stage(name, stage, file) for file in ("history.parquet", "embeddings.parquet"))
    for dataset in sorted({name.split("/")[0] for name in cells}):
        yield paths.datasheet(dataset)
        if grid.datasets[dataset].retrieval is not None:
            yield paths.prepared(dataset, "test")
    # of every run another, even where nothing else is
    if "cost" in (grid.experiments[experiment].figures or []):
        yield from _costs(grid, layout, cells)


def _costs(grid: Grid, layout: Layout, cells: Iterable[str]) -> Iterator[str]:
    return (layout.stage(name, stage, "cost.json") for name in cells for stage in grid.cells[name].stages)

"""Which files the report consists of and is made from, known from params/ alone, without any result."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmcontrast import paths
from mmcontrast.config import BASE_VARIANT, Arms, CellRef, Grid, Information
from mmcontrast.paths import Layout

# what stands for the dataset of a figure or block of all of them
ALL = "all"
# the part of the report that is of no experiment
PAGE = "page"
# its files: what is opened first, the folder of what is behind it, and all of it as one file
FRONT, PAGES, SINGLE = "index.html", "pages", "single.html"


def results_outputs(layout: Layout) -> dict[str, str]:
    """The results table and its extracts, by what they are."""
    return {
        "results": layout.report("results.parquet"),
        "intervals": layout.report("intervals.parquet"),
        "metrics": layout.report("metrics.json"),
        "scores": layout.report("plots/scores.csv"),
        "curves": layout.report("plots/curves.csv"),
    }


def reproduce(layout: Layout) -> str:
    """The command that makes all of it."""
    command = "snakemake --cores all reproduce"
    if layout.is_default:
        return command
    suite = Path(layout.prefix).name.split("+")[0]
    given = [f"suite={suite}", *([f"'datasets=[{','.join(layout.datasets)}]'"] if layout.datasets else [])]
    return " ".join([command, "--config", *given])


def experiment_outputs(layout: Layout, experiment: str) -> list[str]:
    """The folders that `write_experiment` fills: of the table, and of the figures."""
    return [layout.tables(experiment), layout.figures(experiment)]


def experiment_datasets(grid: Grid, experiment: str) -> list[str]:
    """The datasets of an experiment that this selection runs, in the experiment's order."""
    datasets = grid.experiments[experiment].datasets
    return [d for d in datasets if d in grid.dataset_names and grid.cells_on(experiment, d)]


def active_arms(grid: Grid, experiment: str) -> list[tuple[Information, Arms]]:
    """What an experiment asks on information, with each pair of datasets that this selection runs both of."""
    asked, chosen = grid.experiments[experiment].information, set(experiment_datasets(grid, experiment))
    return [(asked, arms) for arms in asked.arms if {arms.unbiased, arms.biased} <= chosen] if asked else []


def own_cells(grid: Grid, experiment: str) -> list[CellRef]:
    """Cells of the paper's own method, as it is first; a variant that is the experiment's reference is a baseline."""
    spec = grid.experiments[experiment]
    reference = spec.reference and (spec.reference.method, spec.reference.variant)
    own = [
        c
        for c in spec.cells
        if spec.paper is not None
        and grid.methods[c.method].paper == spec.paper
        and (c.variant == BASE_VARIANT or (c.method, c.variant) != reference)
    ]
    return sorted(own, key=lambda c: c.variant != BASE_VARIANT)


def cell_name(dataset: str, ref: CellRef) -> str:
    """dataset/method/variant."""
    return f"{dataset}/{ref.method}/{ref.variant}"


def covered(grid: Grid, layout: Layout) -> dict[str, Any]:
    """What the results table is made of, as plain values: cells with their seeds and selecting metric, the cells of
    each experiment, and the files that an experiment, or the page, shows beside its scores.
    """
    cells = {name: {"seeds": cell.seeds, "metric": cell.metrics[0]} for name, cell in grid.cells.items()}
    experiments = {
        e: list(dict.fromkeys(cell_name(d, ref) for d, ref in grid.experiment_cells(e)))
        for e in grid.active_experiments
    }
    files = {e: list(dict.fromkeys(_shown_files(grid, layout, e, names))) for e, names in experiments.items()}
    sheets = sorted({paths.datasheet(c.dataset) for c in grid.cells.values()})
    return {
        "cells": cells,
        "experiments": experiments,
        "files": files | {PAGE: [*_costs(grid, layout, grid.cells), *sheets]},
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

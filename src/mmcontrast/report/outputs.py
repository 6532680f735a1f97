"""Which files the report consists of, known from params/ alone. The workflow imports this at each start."""

from __future__ import annotations

from mmcontrast.config import BASE_VARIANT, Arms, CellRef, Grid
from mmcontrast.paths import Layout

# what stands for the dataset of a figure or block of all of them
ALL = "all"


def results_outputs(layout: Layout) -> dict[str, str]:
    """The results table and its extracts, by what they are."""
    return {
        "results": layout.report("results.parquet"),
        "intervals": layout.report("intervals.parquet"),
        "metrics": layout.report("metrics.json"),
        "scores": layout.report("plots/scores.csv"),
        "curves": layout.report("plots/curves.csv"),
    }


def experiment_outputs(layout: Layout, experiment: str) -> list[str]:
    """The folders that `write_experiment` fills: of the table, and of the figures."""
    return [layout.tables(experiment), layout.figures(experiment)]


def experiment_datasets(grid: Grid, experiment: str) -> list[str]:
    """The datasets of an experiment that this selection runs, in the experiment's order."""
    datasets = grid.experiments[experiment].datasets
    return [d for d in datasets if d in grid.dataset_names and grid.cells_on(experiment, d)]


def active_arms(grid: Grid, experiment: str) -> list[Arms]:
    """The pairs of datasets of an experiment on information that this selection runs both of."""
    asked = grid.experiments[experiment].information
    chosen = experiment_datasets(grid, experiment)
    return [arms for arms in asked.arms if {arms.unbiased, arms.biased} <= set(chosen)] if asked else []


def own_cells(grid: Grid, experiment: str) -> list[CellRef]:
    """The cells of the paper's own method, as opposed to its baselines; the method as it is comes first.

    A variant of it that the experiment takes for its reference is a baseline.
    """
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


def is_probed(grid: Grid, dataset: str, ref: CellRef) -> bool:
    """Does a probe score the cell?"""
    return grid.cell(dataset, ref.method, ref.variant).scored_by == "probe"

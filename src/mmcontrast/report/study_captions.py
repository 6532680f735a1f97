"""What is written under figures of all datasets together. Imports nothing that draws, as the page starts with it."""

from __future__ import annotations

from mmcontrast.config import Grid
from mmcontrast.config.experiments import Sweep
from mmcontrast.report.text.wording import LEVEL_NAME, count


def overall_caption(grid: Grid, experiment: str, kind: str) -> str:
    """What a figure of a kind in `config.experiments.OVERALL` shows, and n."""
    if kind == "contrasts":
        return contrast_caption(grid, experiment)
    if kind == "panels":
        return panels_caption(grid, experiment)
    return matrix_caption(grid, experiment, kind)


def active_panels(grid: Grid, experiment: str) -> list[Sweep]:
    """The experiment's panels whose dataset this selection runs."""
    return [p for p in grid.experiments[experiment].panels if panel_dataset(grid, experiment, p) in grid.dataset_names]


def panel_dataset(grid: Grid, experiment: str, panel: Sweep) -> str:
    """Its own dataset, or the experiment's first."""
    return panel.dataset or grid.experiments[experiment].datasets[0]


def contrast_caption(grid: Grid, experiment: str) -> str:
    """What the figure shows, and n."""
    spec = grid.experiments[experiment]
    datasets = [d for d in spec.datasets if d in grid.dataset_names]
    seeds = ", ".join(f"{grid.datasets[d].title} {count(len(grid.seeds_of(d)), 'seed')}" for d in datasets)
    return (
        f"{spec.title}: differences of test scores by seed. Dots: means; small dots: single seeds; lines: {LEVEL_NAME} "
        f"bootstrap interval over seeds ({seeds}); p: paired t-test, corrected by Holm's method over all rows."
    )


def matrix_caption(grid: Grid, experiment: str, kind: str) -> str:
    """What the figure shows, and n."""
    spec = grid.experiments[experiment]
    of = []
    for column in spec.columns:
        if all(p.dataset in grid.dataset_names for p in column.parts):
            n = min(len(grid.seeds_of(p.dataset)) for p in column.parts)
            of.append(f"{column.title} {n}")
    seeds = f"Number of seeds: {', '.join(of)}."
    if kind == "cost":
        return (
            f"{spec.title}: linear-probe test score against seconds of training a seed (above, or left) and the peak "
            f"memory of the process (below, or right). Marks: means; lines: {LEVEL_NAME} bootstrap interval over "
            f"seeds. {seeds}"
        )
    return (
        f"{spec.title}: linear-probe test scores, and across all columns the interquartile mean of the skill (0 % "
        f"chance, 100 % perfect) and the mean rank, of methods that have every column. Dots: means; lines: "
        f"{LEVEL_NAME} bootstrap interval over seeds. {seeds}"
    )


def panels_caption(grid: Grid, experiment: str) -> str:
    """What the figure shows, and n."""
    datasets = dict.fromkeys(panel_dataset(grid, experiment, p) for p in active_panels(grid, experiment))
    seeds = ", ".join(f"{grid.datasets[d].title} {count(len(grid.seeds_of(d)), 'seed')}" for d in datasets)
    return (
        f"{grid.experiments[experiment].title}: test scores, epoch selected on validation or linear probe. Marks: "
        f"means; small dots: single seeds; thick lines: {LEVEL_NAME} bootstrap interval over seeds ({seeds})."
    )

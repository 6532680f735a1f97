"""Differences that are themselves the result, as dots with intervals."""

from __future__ import annotations

from mmcontrast.config import Grid
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.figures.scores import LINE_INCHES, P_STYLE, PANEL_INCHES, ROW_INCHES, difference_row
from mmcontrast.report.tables.contrasts import compared
from mmcontrast.report.text.wording import LEVEL_NAME, seeds_by_dataset, short_title


def _caption(of: Scope) -> str:
    datasets = [d for d in of.spec.datasets if d in of.grid.dataset_names]
    return (
        f"{of.spec.title}: differences of test scores by seed. Dots: means; small dots: single seeds; lines: "
        f"{LEVEL_NAME} bootstrap interval over seeds ({seeds_by_dataset(of.grid, datasets)}); p: paired t-test, "
        "corrected by Holm's method over all rows."
    )


def _possible(grid: Grid, experiment: str, dataset: str) -> bool:
    """In a partial report no contrast may be left."""
    there = {f"{d}/{c.method}/{c.variant}" for d, c in grid.experiment_cells(experiment)}
    whole = [
        c for c in grid.experiments[experiment].contrasts if {f"{c.dataset}/{x}" for x in (c.cell, c.against)} <= there
    ]
    return bool(whole) or not grid.lost


@figure("contrasts", section="contrasts", caption=_caption, possible=_possible)
def contrasts(of: Scope, narrow: bool) -> style.Figure:
    """A panel per dataset, a row per contrast."""
    found = compared(of.evidence, of.experiment)
    datasets = list(dict.fromkeys(c.contrast.dataset for c in found))
    sizes = [sum(c.contrast.dataset == d for c in found) for d in datasets]
    lines = max(style.wrapped(c.contrast.label).count("\n") + 1 for c in found)
    row_inches = max(1.15 * ROW_INCHES, (lines + 0.5) * LINE_INCHES)
    drawn = style.canvas(narrow, sum(sizes) * row_inches + (PANEL_INCHES + 0.15) * len(datasets) + 0.4)
    panels = drawn.subplots(len(datasets), 1, squeeze=False, height_ratios=sizes).ravel()
    colours = style.method_colours(of.grid.methods)
    for axes, dataset in zip(panels, datasets, strict=True):
        rows = [c for c in found if c.contrast.dataset == dataset]
        axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
        for y, row in enumerate(rows):
            colour = colours[row.contrast.cell.partition("/")[0]]
            difference_row(axes, y, row.difference, list(row.by_seed.values()), row.p_holm, colour)
        style.labelled_rows(axes, [style.wrapped(c.contrast.label) for c in rows])
        data = of.grid.datasets[dataset]
        axes.set(title=data.title, xlabel=f"{short_title(data.metrics[0])}: difference (points)")
        axes.text(1.01, -0.7, "p", transform=axes.get_yaxis_transform(), **P_STYLE)
        axes.margins(x=0.06)
    style.legend(
        drawn, [*style.seed_handles("mean over seeds"), style.p_handle()], 1 if narrow else 4, handlelength=1.8
    )
    return drawn

"""Differences that are themselves the result, as dots with intervals."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmcontrast.config import Grid
from mmcontrast.report.figures.scores import LINE_INCHES, PANEL_INCHES, ROW_INCHES, wrapped
from mmcontrast.report.figures.style import FAINT, INK, NARROW, SOFT, WIDE, method_colours
from mmcontrast.report.summary import percent
from mmcontrast.report.tables.contrasts import Compared, compared
from mmcontrast.report.text.wording import LEVEL_NAME, metric_title, p_value


def contrast_chart(grid: Grid, results: pl.DataFrame, experiment: str, narrow: bool = False) -> Figure:
    """A panel a dataset, a row a contrast."""
    found = compared(grid, results, experiment)
    datasets = list(dict.fromkeys(c.contrast.dataset for c in found))
    sizes = [sum(c.contrast.dataset == d for c in found) for d in datasets]
    lines = max(wrapped(c.contrast.label).count("\n") + 1 for c in found)
    height = (
        sum(sizes) * max(1.15 * ROW_INCHES, (lines + 0.5) * LINE_INCHES) + (PANEL_INCHES + 0.15) * len(datasets) + 0.4
    )
    figure = Figure(figsize=(NARROW if narrow else WIDE, height))
    panels = figure.subplots(len(datasets), 1, squeeze=False, height_ratios=sizes).ravel()
    colours = method_colours(grid.methods)
    for axes, dataset in zip(panels, datasets, strict=True):
        rows = [c for c in found if c.contrast.dataset == dataset]
        axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        for y, row in enumerate(rows):
            _row(axes, y, row, colours[row.contrast.cell.partition("/")[0]])
        axes.set_yticks(range(len(rows)), [wrapped(c.contrast.label) for c in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        data = grid.datasets[dataset]
        axes.set_title(data.title)
        axes.set_xlabel(f"{metric_title(data.metrics[0]).partition(' (')[0]}: difference (points)")
        axes.text(1.01, -0.7, "p", transform=axes.get_yaxis_transform(), fontsize=6.5, color=SOFT, va="center")
        axes.margins(x=0.06)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=SOFT, markersize=5.5, label="mean over seeds"),
        Line2D([], [], marker=".", linestyle="", color=SOFT, alpha=0.5, label="single seeds"),
        Line2D([], [], color=SOFT, linewidth=3.2, label=f"{LEVEL_NAME} interval over seeds"),
        Line2D([], [], linestyle="", label="p: paired t-test, Holm's correction"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=1 if narrow else 4, handlelength=1.8)
    return figure


def _row(axes: Axes, y: int, row: Compared, colour: str) -> None:
    mean, low, high = percent(row.difference)
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [y, y], color=colour, linewidth=3.2, solid_capstyle="butt", zorder=3)
    axes.scatter(mean, y, s=26, color=colour, zorder=4)
    values = [100 * v for v in row.by_seed.values()]
    axes.scatter(values, [y + 0.27] * len(values), s=5, alpha=0.4, linewidths=0, color=colour, zorder=2)
    axes.text(1.01, y, p_value(row.p_holm), transform=axes.get_yaxis_transform(), fontsize=6.5, color=SOFT, va="center")
    axes.axhline(y + 0.5, color=FAINT, linewidth=0.5, zorder=0)

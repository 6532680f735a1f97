"""Several sweeps in one figure: a panel a number that cells differ in, each on its own dataset."""

from __future__ import annotations

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmcontrast.config import Grid
from mmcontrast.report.figures.scores import Data
from mmcontrast.report.figures.style import NARROW, PALETTE, WIDE, method_colours
from mmcontrast.report.figures.sweep import draw_line, points_of, scale_axis
from mmcontrast.report.study_captions import active_panels, panel_dataset
from mmcontrast.report.text.wording import metric_title

PANEL_INCHES = 2.3


def panels_chart(
    grid: Grid, experiment: str, results: pl.DataFrame, intervals: pl.DataFrame, narrow: bool = False
) -> Figure:
    """Every panel of an experiment, each by the first metric of its dataset."""
    panels = active_panels(grid, experiment)
    columns = 1 if narrow else 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(NARROW if narrow else WIDE, PANEL_INCHES * rows + 0.3))
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = method_colours(grid.methods)
    for axes, panel in zip(all_axes, panels, strict=False):
        dataset = panel_dataset(grid, experiment, panel)
        data = Data.of(grid, experiment, dataset, results, intervals)
        metric = grid.datasets[dataset].metrics[0]
        for i, (name, line) in enumerate(panel.series.items()):
            method = next(iter(line)).partition("/")[0]
            colour = colours[method] if len(panel.series) == 1 else PALETTE[i % len(PALETTE)]
            draw_line(axes, points_of(data, metric, line), name, i, colour, panel.scale)
        scale_axis(axes, panel)
        axes.set_title(f"{', '.join(panel.series)}: {grid.datasets[dataset].title}")
        axes.set_ylabel(f"{metric_title(metric).partition(' (')[0]} (%)")
        axes.yaxis.set_major_locator(MaxNLocator(5))
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    return figure

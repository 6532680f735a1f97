"""Scores as lines over a number that cells differ in, such as the size of a batch."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from mmcontrast.report.charts import Data
from mmcontrast.report.style import NARROW, PALETTE, WIDE
from mmcontrast.report.summary import lookup, percent, seed_scores
from mmcontrast.report.wording import find_cell, metric_title

PANEL_INCHES = 2.6
MARKERS = "os^Dv"


def sweep_chart(data: Data, narrow: bool = False) -> Figure:
    """A panel a charted metric, a line a series of the experiment's sweep."""
    sweep = data.study.experiments[data.experiment].sweep
    if sweep is None:
        raise TypeError(f"{data.experiment} has no sweep")
    k = len(data.metrics)
    figure = Figure(figsize=(NARROW, PANEL_INCHES * k + 0.4) if narrow else (WIDE, PANEL_INCHES + 0.4))
    panels = figure.subplots(k, 1, squeeze=False) if narrow else figure.subplots(1, k, squeeze=False)
    ticks = sorted({x for line in sweep.series.values() for x in line.values()})
    for axes, metric in zip(panels.ravel(), data.metrics, strict=True):
        for i, (name, line) in enumerate(sweep.series.items()):
            colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
            sweep_line(axes, data, metric, name, line, colour, marker, i, sweep.scale)
        if sweep.scale == "log":
            axes.set_xscale("log", base=2)
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        title = metric_title(metric, data.study.datasets[data.dataset])
        axes.set_title(title.partition(" (")[0])
        axes.set_xlabel(sweep.axis)
        axes.set_ylabel("test score (%)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=1 if narrow else 3)
    return figure


def sweep_line(
    axes: Axes,
    data: Data,
    metric: str,
    name: str,
    line: dict[str, float],
    colour: str,
    marker: str,
    i: int,
    scale: str = "log",
) -> None:
    """The i-th line of a panel: means, seeds and intervals of its cells, at their places on the axis."""
    points = []
    # series are set a little apart, so that their intervals do not hide each other
    shift = 1 + 0.03 * i if scale == "log" else 1
    for cell, x in sorted(line.items(), key=lambda item: item[1]):
        ref = find_cell(data.study, data.experiment, *cell.split("/"))
        if ref is None or (score := lookup(data.summary, data.dataset, ref, "selected", metric)) is None:
            continue
        mean, low, high = percent(score)
        points.append((x * shift, mean))
        axes.plot([x * shift] * 2, [low, high], color=colour, linewidth=2.2, solid_capstyle="butt")
        seeds = seed_scores(data.results, data.experiment, data.dataset, ref, metric)
        axes.scatter([x * shift] * len(seeds), [100 * v for v in seeds.values()], s=5, color=colour, alpha=0.4)
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4.5, label=name)

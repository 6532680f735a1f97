"""Scores as lines over a number that cells differ in, such as the size of a batch."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from mmcontrast.config.experiments import Sweep
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.figures.scores import Data
from mmcontrast.report.figures.style import NARROW, PALETTE, WIDE
from mmcontrast.report.summary import lookup, percent, seed_scores
from mmcontrast.report.text.wording import find_cell, metric_title

PANEL_INCHES = 2.6
TITLE_CHARACTERS = 78  # of all panel titles beside one another
MARKERS = "os^Dv"
APART = 0.03  # of its place on a logarithmic axis, so that the intervals of series do not hide each other
DASHES = (0, (2, 1))


@dataclass(frozen=True)
class Point:
    """A cell at its place on the axis: mean and interval over seeds, and each seed's score, in percent."""

    x: float
    found: Interval
    seeds: list[float]


def sweep_chart(data: Data, narrow: bool = False) -> Figure:
    """A panel a charted metric, a line a series of the experiment's sweep."""
    sweep = data.grid.experiments[data.experiment].sweep
    if sweep is None:
        raise TypeError(f"{data.experiment} has no sweep")
    k = len(data.metrics)
    figure = Figure(figsize=(NARROW, PANEL_INCHES * k + 0.4) if narrow else (WIDE, PANEL_INCHES + 0.4))
    panels = figure.subplots(k, 1, squeeze=False) if narrow else figure.subplots(1, k, squeeze=False)
    for axes, metric in zip(panels.ravel(), data.metrics, strict=True):
        for i, (name, line) in enumerate(sweep.series.items()):
            draw_line(axes, points_of(data, metric, line), name, i, PALETTE[i % len(PALETTE)], sweep.scale)
        scale_axis(axes, sweep)
        title = metric_title(metric, data.grid.datasets[data.dataset]).partition(" (")[0]
        axes.set_title(title if narrow else textwrap.fill(title, TITLE_CHARACTERS // k))
        axes.set_ylabel("test score (%)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=1 if narrow else 3)
    return figure


def points_of(data: Data, metric: str, line: dict[str, float]) -> list[Point]:
    """The cells of a series that have a selected score, by their place on the axis."""
    points = []
    for cell, x in sorted(line.items(), key=lambda item: item[1]):
        ref = find_cell(data.grid, data.experiment, *cell.split("/"))
        if ref is None or (score := lookup(data.summary, data.dataset, ref, "selected", metric)) is None:
            continue
        seeds = seed_scores(data.results, data.experiment, data.dataset, ref, metric)
        points.append(Point(x, percent(score), [100 * v for v in seeds.values()]))
    return points


def draw_line(
    axes: Axes, points: list[Point], name: str, i: int, colour: str, scale: str, slot: int | None = None
) -> None:
    """The i-th series of a panel: means, seeds and intervals.

    Args:
        slot: of a control: as many steps aside; it is dashed, with hollow marks. Default: i, and a full line.
    """
    shift = 1 + APART * (i if slot is None else slot) if scale == "log" else 1
    for point in points:
        x = point.x * shift
        axes.plot([x] * 2, point.found[1:], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.scatter([x] * len(point.seeds), point.seeds, s=5, color=colour, alpha=0.4)
    if points:
        line = [(point.x * shift, point.found.mean) for point in points]
        marker = MARKERS[i % len(MARKERS)]
        (drawn,) = axes.plot(*zip(*line, strict=True), color=colour, marker=marker, markersize=4.5, label=name)
        if slot is not None:
            drawn.set(linestyle=DASHES, markerfacecolor="white")


def scale_axis(axes: Axes, sweep: Sweep) -> None:
    """A tick a cell, on the axis that the sweep asks for."""
    if sweep.scale == "log":
        axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({x for line in sweep.series.values() for x in line.values()}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(sweep.axis)

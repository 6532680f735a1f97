"""The matrix as dots with intervals, and its scores against what they cost."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from mmcontrast.config import Grid
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.figures.style import FAINT, INK, NARROW, SOFT, WIDE, method_colours
from mmcontrast.report.summary import percent
from mmcontrast.report.tables.costs import Cost
from mmcontrast.report.tables.matrix import Matrix
from mmcontrast.report.text.wording import LEVEL_NAME

ROW_INCHES = 0.2
PANEL_INCHES = 0.62
MARKERS = "os^Dv*PXp<>"
UNTRAINED = "Untrained"


def matrix_chart(grid: Grid, matrix: Matrix, narrow: bool = False) -> Figure:
    """A panel a column, and two for what holds across columns."""
    across = matrix.across()
    panels: list[tuple[str, str, dict[str, Interval]]] = []
    for c, column in enumerate(matrix.columns):
        found = {label: matrix.mean(label, c) for label in matrix.labels}
        panels.append((column.title, "score (%)", {k: percent(v) for k, v in found.items() if v is not None}))
    if across:
        panels.append(("All: skill", "interquartile mean (%)", {k: percent(v[0]) for k, v in across.items()}))
        panels.append(("All: rank", "mean rank (1 = best)", {k: v[1] for k, v in across.items()}))
    columns = 1 if narrow else 3
    rows = -(-len(panels) // columns)
    height = rows * (len(matrix.labels) * ROW_INCHES + PANEL_INCHES) + 0.3
    figure = Figure(figsize=(NARROW if narrow else WIDE, height))
    all_axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    colours = method_colours(grid.methods)
    for axes, (title, axis, values) in zip(all_axes, panels, strict=False):
        for y, label in enumerate(matrix.labels):
            if label in values:
                _dot(axes, y, values[label], SOFT if label == UNTRAINED else colours[matrix.method_of(label)])
            axes.axhline(y + 0.5, color=FAINT, linewidth=0.4, zorder=0)
        axes.set_yticks(range(len(matrix.labels)), matrix.labels)
        axes.set_ylim(len(matrix.labels) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(title)
        axes.set_xlabel(axis)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=SOFT, markersize=5, label="mean"),
        Line2D([], [], color=SOFT, linewidth=2.6, label=f"{LEVEL_NAME} bootstrap interval over seeds"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=1 if narrow else 2)
    return figure


def _dot(axes: Axes, y: float, value: Interval, colour: str) -> None:
    if np.isfinite([value.low, value.high]).all():
        axes.plot([value.low, value.high], [y, y], color=colour, linewidth=2.6, solid_capstyle="butt", zorder=3)
    axes.scatter(value.mean, y, s=20, color=colour, zorder=4)


def cost_chart(grid: Grid, matrix: Matrix, costs: dict[tuple[str, int], Cost], narrow: bool = False) -> Figure:
    """A pair of panels a column: the score against seconds a seed, and against peak memory."""
    k = len(matrix.columns)
    figure = Figure(figsize=(NARROW, 1.75 * k + 1.9) if narrow else (WIDE, 4.6))
    shape = (k, 2) if narrow else (2, k)
    all_axes = figure.subplots(*shape, squeeze=False, sharey="row" if narrow else "col")
    colours = method_colours(grid.methods)
    drawn = [label for label in matrix.labels if label != UNTRAINED]
    for c, column in enumerate(matrix.columns):
        pair = all_axes[c] if narrow else all_axes[:, c]
        for axes, what, values in (
            (pair[0], "seconds a seed", {label: costs[label, c].seconds for label in drawn if (label, c) in costs}),
            (
                pair[1],
                "peak memory (MiB)",
                {label: costs[label, c].mebibytes for label in drawn if (label, c) in costs},
            ),
        ):
            for i, label in enumerate(drawn):
                found = matrix.mean(label, c)
                if label in values and found is not None:
                    _point(axes, values[label], percent(found), colours[matrix.method_of(label)], MARKERS[i])
            axes.set_xscale("log")
            _few_ticks(axes, list(values.values()))
            axes.set_xlabel(what)
            axes.set_title(column.title if axes is pair[0] else "")
        (pair[0] if narrow else all_axes[0, c]).yaxis.set_major_locator(MaxNLocator(4))
    for axes in all_axes[:, 0]:
        axes.set_ylabel("score (%)")
    handles = [
        Line2D(
            [], [], linestyle="", color=colours[matrix.method_of(label)], marker=MARKERS[i], markersize=5, label=label
        )
        for i, label in enumerate(drawn)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2 if narrow else 4)
    return figure


def _point(axes: Axes, x: float, score: Interval, colour: str, marker: str) -> None:
    if np.isfinite([score.low, score.high]).all():
        axes.plot([x, x], [score.low, score.high], color=colour, linewidth=1.2, zorder=3)
    axes.scatter(x, score.mean, s=24, color=colour, marker=marker, edgecolor=INK, linewidths=0.3, zorder=4)


def _few_ticks(axes: Axes, values: list[float]) -> None:
    """Two or three round numbers on a logarithmic axis, which within a decade has none of its own."""
    if not values:
        return
    low, high = min(values), max(values)
    if high < 1.3 * low:  # nearly one cost: room on both sides
        low, high = low / 1.3, high * 1.3
    axes.set_xlim(low / 1.2, high * 1.2)
    axes.set_xticks(sorted({_round(x) for x in np.geomspace(low, high, 3)}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _round(x: float) -> float:
    """To two digits."""
    return float(f"{x:.2g}")

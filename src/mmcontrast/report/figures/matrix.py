"""The matrix as dots with intervals, and its scores against what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.summary import percent, shown
from mmcontrast.report.tables.matrix import RAW, Matrix, build_matrix, fewest_seeds, read_costs, shown_columns
from mmcontrast.report.text.wording import LEVEL_NAME

ROW_INCHES = 0.2
PANEL_INCHES = 0.62
MOST_COLUMNS = 4  # of panels beside one another
COST_MARKERS = "os^Dv*PXp<>"
CROSS: dict[str, Any] = {"marker": "x", "markersize": 4.5, "linestyle": ""}
DASHED: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (4, 2))}


def _untrained(matrix: Matrix, label: str, column: int) -> float | None:
    """What the readout of a row's headline scores without training, as shown; None where that is not known."""
    if (label, column) not in matrix.headline:
        return None
    before = matrix.gain(label, column, matrix.headline[label, column])
    of, after = matrix.measures[column], matrix.mean(label, column)
    return of.factor * (after.mean - of.sign * before.mean) if before and after else None


def _seeds(of: Scope) -> str:
    """Seeds of each column that is run."""
    columns = shown_columns(of.grid, of.experiment)
    numbers = ", ".join(f"{column.title} {fewest_seeds(of.grid, column)}" for column in columns)
    return f"{LEVEL_NAME} t interval over seeds. Number of seeds: {numbers}."


def _matrix_caption(of: Scope) -> str:
    return (
        f"{of.spec.title}: linear-probe test scores of the readout, encoders side by side or fused embedding, that is "
        "better on validation. Grey crosses: the same readout of the same network, untrained; dashed: raw inputs. "
        f"Across all columns the interquartile mean of the skill (0 % chance, 100 % perfect; {LEVEL_NAME} bootstrap "
        f"interval) and the mean rank ({LEVEL_NAME} of replicates), of methods with a score in every column. Hollow: "
        f"trained with labels, and not ranked with the others. Dots: means; lines: {_seeds(of)}"
    )


def _panels(matrix: Matrix) -> list[tuple[str, str, dict[str, Interval]]]:
    """Title, axis and label -> value: a panel per column, and two for what holds across columns."""
    panels: list[tuple[str, str, dict[str, Interval]]] = []
    for c, column in enumerate(matrix.columns):
        found = {label: matrix.mean(label, c) for label in matrix.labels if label not in matrix.twins}
        of = matrix.measures[c]
        shown_in = {k: shown(v, of) for k, v in found.items() if v is not None}
        panels.append((column.title, f"score{of.heading}", shown_in))
    if across := matrix.across():
        if any(chance is not None for chance in matrix.chance):
            skills = {k: percent(v[0]) for k, v in across.items() if k not in matrix.twins}
            panels.append(("All: skill", "interquartile mean (%)", skills))
        panels.append(("All: rank", "mean rank (1 = best)", {k: across[k][1] for k in matrix.ranked}))
    return panels


@figure("matrix", section="columns", caption=_matrix_caption)
def matrix_of_scores(of: Scope, narrow: bool) -> style.Figure:
    """A row per method, a panel per column and for skill and rank."""
    from matplotlib.ticker import MaxNLocator

    matrix = build_matrix(of.evidence, of.experiment)
    panels, labels = _panels(matrix), [label for label in matrix.labels if label not in matrix.twins]
    columns = 1 if narrow else min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    drawn = style.canvas(narrow, rows * (len(labels) * ROW_INCHES + PANEL_INCHES) + 0.3)
    all_axes = style.tiled(drawn, len(panels), columns, sharey=True)
    colours = style.method_colours(of.grid.methods)
    for c, (axes, (title, axis, values)) in enumerate(zip(all_axes, panels, strict=True)):
        for y, label in enumerate(labels):
            if label in values:
                colour = style.SOFT if label in matrix.floors else colours[matrix.method_of(label)]
                style.interval_line(axes, y, values[label].low, values[label].high, colour, 2.6)
                face = "white" if label in matrix.labelled else colour
                axes.scatter(values[label].mean, y, s=20, facecolor=face, edgecolor=colour, zorder=4)
                if (before := _untrained(matrix, label, c)) is not None:
                    axes.plot(before, y, color=style.SOFT, zorder=3.5, **CROSS)
            if matrix.method_of(label) == RAW and label in values:
                axes.axvline(values[label].mean, color=style.SOFT, zorder=1, **DASHED)
            axes.axhline(y + 0.5, color=style.FAINT, linewidth=0.4, zorder=0)
        style.labelled_rows(axes, labels)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(title=title, xlabel=axis)
    handles = [
        style.handle("mean", marker="o", linestyle="", color=style.SOFT, markersize=5),
        style.handle(
            "trained with labels", marker="o", linestyle="", color=style.SOFT, markersize=5, markerfacecolor="white"
        ),
        style.handle(f"{LEVEL_NAME} interval", color=style.SOFT, linewidth=2.6),
        style.handle("the same readout, untrained", color=style.SOFT, **CROSS),
        style.handle("raw inputs", color=style.SOFT, **DASHED),
    ]
    style.legend(drawn, handles, 1 if narrow else 3)
    return drawn


def _cost_caption(of: Scope) -> str:
    return (
        f"{of.spec.title}: linear-probe test score against training seconds per seed (above, or left) and the peak "
        f"memory of the process (below, or right). Marks: means; lines: {_seeds(of)}"
    )


@figure("cost", section="columns", caption=_cost_caption)
def scores_by_cost(of: Scope, narrow: bool) -> style.Figure:
    """A pair of panels per column: the score against seconds per seed, and against peak memory."""
    from matplotlib.ticker import MaxNLocator

    matrix = build_matrix(of.evidence, of.experiment)
    costs, k = read_costs(of.evidence, matrix), len(matrix.columns)
    drawn = style.canvas(narrow, 1.75 * k + 1.9 if narrow else 4.6)
    shape = (k, 2) if narrow else (2, k)
    all_axes = drawn.subplots(*shape, squeeze=False, sharey="row" if narrow else "col")
    colours, labels = (
        style.method_colours(of.grid.methods),
        [label for label in matrix.labels if label not in matrix.floors],
    )
    looks = {
        label: (colours[matrix.method_of(label)], COST_MARKERS[i % len(COST_MARKERS)]) for i, label in enumerate(labels)
    }
    for c, column in enumerate(matrix.columns):
        pair = all_axes[c] if narrow else all_axes[:, c]
        there = [label for label in labels if (label, c) in costs]
        seconds = {label: costs[label, c].seconds for label in there}
        memory = {label: costs[label, c].mebibytes for label in there}
        for axes, what, values in zip(pair, ("seconds per seed", "peak memory (MiB)"), (seconds, memory), strict=True):
            for label, x in values.items():
                if (found := matrix.mean(label, c)) is not None:
                    _point(axes, x, shown(found, matrix.measures[c]), *looks[label])
            axes.set(xscale="log", xlabel=what)
            _few_ticks(axes, list(values.values()))
        pair[0].set_title(column.title)
        pair[0].yaxis.set_major_locator(MaxNLocator(4))
    for c, axes in enumerate(all_axes[:, 0]):
        axes.set_ylabel(f"score{matrix.measures[c if narrow else 0].heading}")
    look = {"linestyle": "", "markersize": 5}
    handles = [style.handle(label, color=c, marker=marker, **look) for label, (c, marker) in looks.items()]
    style.legend(drawn, handles, 2 if narrow else 4)
    return drawn


def _point(axes: style.Axes, x: float, score: Interval, colour: str, marker: str) -> None:
    if np.isfinite([score.low, score.high]).all():
        axes.plot([x, x], [score.low, score.high], color=colour, linewidth=1.2, zorder=3)
    axes.scatter(x, score.mean, s=24, color=colour, marker=marker, edgecolor=style.INK, linewidths=0.3, zorder=4)


def _few_ticks(axes: style.Axes, values: list[float]) -> None:
    """Two or three round numbers on a logarithmic axis, which within a decade has none of its own."""
    if not values:
        return
    low, high = min(values), max(values)
    if high < 1.3 * low:  # nearly one cost: room on both sides
        low, high = low / 1.3, high * 1.3
    axes.set_xlim(low / 1.2, high * 1.2)
    axes.set_xticks(sorted({float(f"{x:.2g}") for x in np.geomspace(low, high, 3)}))
    style.plain_numbers(axes.xaxis)

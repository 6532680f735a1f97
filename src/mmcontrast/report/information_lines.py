"""Redundant, unique and synergistic information as lines over a number that cells differ in."""

from __future__ import annotations

from typing import Any

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmcontrast.config import Grid
from mmcontrast.config.experiments import Sweep
from mmcontrast.report.figures.style import INK, NARROW, PALETTE, SOFT, WIDE, method_colours
from mmcontrast.report.figures.sweep import DASHES, MARKERS, Point, draw_line, scale_axis
from mmcontrast.report.outputs import active_arms
from mmcontrast.report.tables.information import LETTERS, NAMES, Kept, chances, kept_by_cell
from mmcontrast.report.text.wording import LEVEL_NAME, count

PANEL_INCHES = 2.3
LEGEND_INCHES = 0.2
CHANCE: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 2))}


def information_lines(grid: Grid, results: pl.DataFrame, experiment: str, dataset: str, narrow: bool = False) -> Figure:
    """A panel each for R, U and S, a line a series of the experiment's sweep; beside S its control, dashed.

    Args:
        dataset: the unbiased one of the arms.
    """
    sweep, asked = grid.experiments[experiment].sweep, grid.experiments[experiment].information
    if sweep is None or asked is None:
        raise TypeError(f"{experiment} has no sweep, or asks for no information")
    arms = next(a for a in active_arms(grid, experiment) if a.unbiased == dataset)
    cells = {f"{k.ref.method}/{k.ref.variant}": k for k in kept_by_cell(grid, results, experiment, asked, arms)}
    colours = _colours(grid, sweep)
    handles = _legend(sweep, colours, list(cells.values()))
    columns = 1 if narrow else 3
    height = PANEL_INCHES * (3 if narrow else 1) + LEGEND_INCHES * (1 - (-len(handles) // columns))
    figure = Figure(figsize=(NARROW if narrow else WIDE, height))
    shape = (3, 1) if narrow else (1, 3)
    panels = list(figure.subplots(*shape, squeeze=False, sharey=True).ravel())
    chance = chances(grid, asked, arms)
    for axes, letter, title in zip(panels, LETTERS, NAMES, strict=True):
        for i, (name, line) in enumerate(sweep.series.items()):
            there = [(x, cells[cell]) for cell, x in sorted(line.items(), key=lambda item: item[1]) if cell in cells]
            draw_line(axes, _points(there, letter), name, i, colours[i], sweep.scale)
            if letter == "S":
                slot = i + len(sweep.series)
                draw_line(axes, _points(there, "control"), f"{name}: control", i, colours[i], sweep.scale, slot)
        axes.axhline(chance[letter], zorder=1, **CHANCE)
        scale_axis(axes, sweep)
        axes.set_ylim(0, 105)
        axes.set_title(title)
    for axes in panels if narrow else panels[:1]:
        axes.set_ylabel("balanced accuracy (%)")
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, handlelength=2.4)
    return figure


def _colours(grid: Grid, sweep: Sweep) -> list[str]:
    """The method's where one line is all; series of a figure are told apart otherwise."""
    if len(sweep.series) > 1:
        return [PALETTE[i % len(PALETTE)] for i in range(len(sweep.series))]
    method = next(iter(next(iter(sweep.series.values())))).partition("/")[0]
    return [method_colours(grid.methods)[method]]


def _points(cells: list[tuple[float, Kept]], name: str) -> list[Point]:
    """name: R, U, S or control."""
    return [Point(x, k.estimates()[name], [100 * v for v in k.scores()[name].values()]) for x, k in cells]


def _legend(sweep: Sweep, colours: list[str], cells: list[Kept]) -> list[Line2D]:
    mark: dict[str, Any] = {"marker": MARKERS[0], "markersize": 4.5}
    handles = [
        Line2D([], [], color=colour, label=name, **(mark | {"marker": MARKERS[i % len(MARKERS)]}))
        for i, (name, colour) in enumerate(zip(sweep.series, colours, strict=True))
    ]
    control = "control: S after unbiased pretraining"
    handles.append(Line2D([], [], color=SOFT, linestyle=DASHES, markerfacecolor="white", label=control, **mark))
    handles.append(Line2D([], [], label="chance", **CHANCE))
    if cells and (n := cells[0].gain.n) > 1:
        handles.append(Line2D([], [], color=SOFT, linewidth=2.2, label=f"{LEVEL_NAME} interval, {count(n, 'seed')}"))
    return handles

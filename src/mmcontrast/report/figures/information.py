"""Bars of redundant, unique and synergistic information, with chance lines and the control of synergy."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mmcontrast.config import CellRef, Grid
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.figures.scores import wrapped
from mmcontrast.report.figures.style import INK, NARROW, SOFT, WIDE, method_colours
from mmcontrast.report.outputs import active_arms
from mmcontrast.report.tables.information import LETTERS, Kept, chances, kept_by_cell, published
from mmcontrast.report.text.wording import LEVEL_NAME, cell_label, count

PANEL_INCHES = 2.1
LABEL_INCHES = 0.6
MOST_BESIDE = 6  # cells whose names have room under panels side by side
LEGEND_INCHES = 0.2
PRINTED: dict[str, Any] = {"s": 20, "marker": "D", "color": "white", "edgecolor": INK, "linewidths": 1.0, "zorder": 8}
HATCH = "////"


def information_chart(grid: Grid, results: pl.DataFrame, experiment: str, dataset: str, narrow: bool = False) -> Figure:
    """A panel each for R, U and S; beside every bar of S its control.

    Args:
        dataset: the unbiased one of the arms.
    """
    asked = grid.experiments[experiment].information
    arms = next(a for a in active_arms(grid, experiment) if a.unbiased == dataset)
    if asked is None:
        raise ValueError(f"{experiment} asks for no information")
    cells = kept_by_cell(grid, results, experiment, asked, arms)
    chance = chances(grid, asked, arms)
    colours = [_colour(grid, kept.ref) for kept in cells]
    labels = [cell_label(grid, kept.ref) for kept in cells]
    if len(cells) <= MOST_BESIDE:
        labels = [wrapped(label) for label in labels]
    handles = _legend(grid, experiment, cells)
    columns = 1 if narrow else 4
    lines = -(-len(handles) // columns)
    many = len(cells) > MOST_BESIDE
    stacked = narrow or many
    height = PANEL_INCHES * (3 if stacked else 1) + LABEL_INCHES * (2 if many else 1) + LEGEND_INCHES * lines
    figure = Figure(figsize=(NARROW if narrow else WIDE, height))
    if stacked:
        all_axes = figure.subplots(3, 1, sharex=True, sharey=True, squeeze=False)
    else:
        all_axes = figure.subplots(1, 3, sharey=True, squeeze=False, width_ratios=[1, 1, 1.8])
    panels = list(all_axes.ravel())
    for axes, letter in zip(panels, LETTERS, strict=True):
        _panel(axes, grid, experiment, letter, cells, colours)
        axes.axhline(chance[letter], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=4)
        axes.set_ylim(0, 105)
        axes.set_xticks(range(len(labels)), labels, rotation=55 if many else 40, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="x", visible=False)
    for axes in panels if stacked else panels[:1]:
        axes.set_ylabel("balanced accuracy (%)")
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, handlelength=1.6)
    return figure


def _colour(grid: Grid, ref: CellRef) -> str:
    """The method's, also on a study's shared recipe; that of another variant, a control or a part of it, is grey."""
    return method_colours(grid.methods)[ref.method] if ref.variant in ("base", "shared") else SOFT


def _panel(axes: Axes, grid: Grid, experiment: str, letter: str, cells: list[Kept], colours: list[str]) -> None:
    printed = {(p.method, p.variant): p for p in published(grid, experiment).values()}
    for x, (kept, colour) in enumerate(zip(cells, colours, strict=True)):
        found = kept.estimates()
        at, width = (x - 0.2, 0.38) if letter == "S" else (x, 0.7)
        scores = {"R": kept.redundant, "U": kept.unique, "S": kept.synergistic}[letter]
        _bar(axes, at, width, found[letter], scores, colour)
        if letter == "S":
            _bar(axes, x + 0.2, width, found["control"], kept.control, colour, hatched=True)
        p = printed.get((kept.ref.method, kept.ref.variant))
        if p is not None and letter in p.values:
            axes.scatter(at, p.values[letter], **PRINTED)
    axes.set_title({"R": "R: redundant", "U": "U: unique", "S": "S: synergistic"}[letter])


def _bar(
    axes: Axes, x: float, width: float, found: Interval, scores: dict[int, float], colour: str, hatched: bool = False
) -> None:
    face = "white" if hatched else colour
    axes.bar(
        x, found.mean, width, color=face, edgecolor=colour, linewidth=0.8, hatch=HATCH if hatched else None, zorder=2
    )
    if np.isfinite(found).all():
        axes.plot([x, x], [found.low, found.high], color=INK, linewidth=1.1, zorder=6)
    offsets = np.linspace(-0.25, 0.25, len(scores)) * width if len(scores) > 1 else [0.0]
    axes.scatter([x + o for o in offsets], [100 * v for v in scores.values()], s=5, color=INK, linewidths=0, zorder=7)


def _legend(grid: Grid, experiment: str, cells: list[Kept]) -> list[Patch | Line2D]:
    handles: list[Patch | Line2D] = [
        Patch(facecolor="white", edgecolor=SOFT, hatch=HATCH, label="control: S after unbiased pretraining"),
        Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="chance"),
    ]
    printed = {(p.method, p.variant) for p in published(grid, experiment).values()}
    if any((kept.ref.method, kept.ref.variant) in printed for kept in cells):
        diamond = Line2D([], [], linestyle="", marker="D", markersize=4, markerfacecolor="white", markeredgecolor=INK)
        diamond.set_label("published, full size")
        handles.append(diamond)
    if cells and cells[0].gain.n > 1:
        n = count(cells[0].gain.n, "seed")
        handles.append(Line2D([], [], color=INK, linewidth=1.1, label=f"{LEVEL_NAME} interval, {n}"))
    return handles

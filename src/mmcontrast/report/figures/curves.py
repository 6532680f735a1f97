"""Training curves: the validation score and the training loss of each cell by epoch, with the spread over seeds."""

from __future__ import annotations

import textwrap
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mmcontrast.config import CellRef, Grid
from mmcontrast.report.figures.style import INK, NARROW, SOFT, WIDE, method_colours
from mmcontrast.report.outputs import is_probed, switch_epoch
from mmcontrast.report.text.wording import cell_label, count, find_cell, metric_title

MOST_COLUMNS = {False: 4, True: 2}
PANEL_INCHES = {1: 1.7, 2: 1.15}
LEGEND_INCHES = 0.35
AXIS_CHARACTERS = 14  # as many as stand beside a panel of two kinds
TITLE_CHARACTERS = 20
DASHED: dict[str, Any] = {"color": SOFT, "linewidth": 0.8, "linestyle": (0, (4, 2))}
DOTTED: dict[str, Any] = {"color": INK, "linewidth": 0.8, "linestyle": (0, (1, 1.5))}


def over_seeds_by_epoch(frame: pl.DataFrame) -> pl.DataFrame:
    """epoch, mean, lowest and highest of `value` over seeds."""
    value = pl.col("value")
    spread = (value.mean().alias("mean"), value.min().alias("low"), value.max().alias("high"))
    return frame.group_by("epoch").agg(*spread).sort("epoch")


def training_curves(
    grid: Grid,
    experiment: str,
    dataset: str,
    cells: list[CellRef],
    curves: dict[CellRef, pl.DataFrame],
    histories: dict[CellRef, pl.DataFrame],
    narrow: bool = False,
) -> Figure:
    """Panels of each cell: validation score above, training loss below; panels of a kind share their axes.

    A probe gives a cell one score, at the end; where all cells are scored by one, only the loss is drawn.

    Args:
        cells: in the order they are drawn.
        curves: scores by epoch. histories: logged training terms by epoch.
    """
    metric = grid.datasets[dataset].metrics[0]
    loss = {"loss": "training loss"}
    scored = not all(is_probed(grid, dataset, c) for c in cells)
    # what a long name means is said in the table; beside a panel there is room for one line
    short = metric_title(metric).partition(" (")[0].lower()
    titles = {"score": textwrap.fill(f"validation {short} (%)", AXIS_CHARACTERS)} | loss if scored else loss
    named = grid.experiments[experiment].reference
    reference = find_cell(grid, experiment, named.method, named.variant) if named and scored else None
    if reference not in cells:
        reference = None
    switches = {c: switch_epoch(grid.cell(dataset, c.method, c.variant)) for c in cells}
    figure, rows_of_axes = _grid(len(cells), titles, narrow)
    for ref, panels in zip(cells, rows_of_axes, strict=True):
        colour = method_colours(grid.methods)[ref.method]
        panels[0].set_title(textwrap.fill(cell_label(grid, ref), TITLE_CHARACTERS))
        if scored:
            other = curves[reference] if reference is not None and reference != ref else None
            _score(panels[0], curves[ref], metric, colour, other)
        _band(panels[-1], histories[ref].filter(name="train/loss"), colour, 1)
        if (switch := switches[ref]) is not None:
            for axes in panels:
                axes.axvline(switch, zorder=1, **DOTTED)
    label = cell_label(grid, reference) if reference else None
    _legend(figure, len(grid.seeds_of(dataset)), label, any(switches.values()), narrow)
    return figure


def _grid(n: int, titles: dict[str, str], narrow: bool) -> tuple[Figure, list[list[Axes]]]:
    """For each of n cells a panel a kind, below one another; the cells beside one another in as few bands as fit."""
    kinds = len(titles)
    bands = -(-n // MOST_COLUMNS[narrow])
    columns = -(-n // bands)
    height = bands * kinds * PANEL_INCHES[kinds] + LEGEND_INCHES
    figure = Figure(figsize=(NARROW if narrow else WIDE, height))
    rows_of_axes = figure.subplots(kinds * bands, columns, squeeze=False, sharex=True)
    out = []
    for i in range(bands * columns):
        band, column = divmod(i, columns)
        panels = [rows_of_axes[kinds * band + k, column] for k in range(kinds)]
        for k, (axes, title) in enumerate(zip(panels, titles.values(), strict=True)):
            if i >= n:
                axes.remove()
                continue
            if i > 0:
                axes.sharey(rows_of_axes[k, 0])
            axes.tick_params(labelleft=column == 0, labelbottom=k == kinds - 1)
            axes.set_ylabel(title if column == 0 else "")
        if i < n:
            panels[-1].set_xlabel("epoch")
            out.append(panels)
    return figure, out


def _band(axes: Axes, frame: pl.DataFrame, colour: str, scale: float) -> None:
    by_epoch = over_seeds_by_epoch(frame)
    epochs = by_epoch["epoch"].to_numpy()
    mean, low, high = (scale * by_epoch[c].to_numpy() for c in ("mean", "low", "high"))
    axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    # one epoch makes no line
    axes.plot(epochs, mean, color=colour, marker="o" if len(epochs) == 1 else None, markersize=3)


def _score(axes: Axes, curve: pl.DataFrame, metric: str, colour: str, other: pl.DataFrame | None) -> None:
    if other is not None:
        mean = over_seeds_by_epoch(other.filter(split="val", metric=metric))
        axes.plot(mean["epoch"], 100 * mean["mean"], **DASHED)
    own = curve.filter(split="val", metric=metric)
    if own["epoch"].n_unique() > 1:
        _band(axes, own, colour, 100)
    else:
        word = "scored at the end alone" if len(own) else "no validation split"
        axes.text(0.5, 0.5, word, transform=axes.transAxes, ha="center", va="center", color=SOFT, fontsize=6.5)


def _legend(figure: Figure, n_seeds: int, reference: str | None, switched: bool, narrow: bool) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=INK, label=f"mean of {count(n_seeds, 'seed')}"),
        Patch(color=INK, alpha=0.2, linewidth=0, label="lowest to highest seed"),
    ]
    if reference is not None:
        handles.append(Line2D([], [], label=f"{reference}, for comparison", **DASHED))
    if switched:
        handles.append(Line2D([], [], label="M3Co before, MultiSClip after", **DOTTED))
    figure.legend(handles=handles, loc="outside lower left", ncols=1 if narrow else 4, handlelength=1.8)

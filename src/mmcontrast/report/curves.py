"""Training curves: the validation score and the training loss of each cell by epoch, with the spread over seeds."""

from __future__ import annotations

import textwrap
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mmcontrast.config import CellConfig, CellRef, Study
from mmcontrast.report.style import INK, NARROW, SOFT, WIDE, method_colours
from mmcontrast.report.wording import cell_label, count, find_cell, metric_title

MOST_COLUMNS = {False: 4, True: 2}
PAIR_INCHES = 2.3
LEGEND_INCHES = 0.35
TITLE_CHARACTERS = 20


def switch_epoch(cell: CellConfig) -> int | None:
    """First epoch of MultiSClip in M3CoL's schedule, or None where a run has but one contrastive term, or none."""
    fraction, stage = cell.objective.get("schedule_fraction"), cell.finetune
    if fraction is None or stage is None or cell.objective.get("beta") == 0:
        return None
    epoch = int(fraction * stage.epochs)
    return epoch if 0 < epoch < stage.epochs else None


def over_seeds_by_epoch(frame: pl.DataFrame) -> pl.DataFrame:
    """epoch, mean, lowest and highest of `value` over seeds."""
    value = pl.col("value")
    return (
        frame.group_by("epoch")
        .agg(value.mean().alias("mean"), value.min().alias("low"), value.max().alias("high"))
        .sort("epoch")
    )


def training_curves(
    study: Study,
    experiment: str,
    dataset: str,
    cells: list[CellRef],
    curves: dict[CellRef, pl.DataFrame],
    histories: dict[CellRef, pl.DataFrame],
    narrow: bool = False,
) -> Figure:
    """A pair of panels a cell: validation score above, training loss below; all panels of a kind share their axes.

    Args:
        cells: in the order they are drawn.
        curves: scores by epoch. histories: logged training terms by epoch.
    """
    metric = study.datasets[dataset].metrics[0]
    bands = -(-len(cells) // MOST_COLUMNS[narrow])
    columns = -(-len(cells) // bands)
    figure = Figure(figsize=(NARROW if narrow else WIDE, bands * PAIR_INCHES + LEGEND_INCHES))
    reference = study.experiments[experiment].reference
    grey = next(
        (c for c in cells if reference and (c.method, c.variant) == (reference.method, reference.variant)), None
    )
    grid = figure.subplots(2 * bands, columns, squeeze=False, sharex=True)
    shared: dict[int, Axes] = {}
    for i in range(bands * columns):
        band, column = divmod(i, columns)
        pair = [grid[2 * band, column], grid[2 * band + 1, column]]
        if i >= len(cells):
            for axes in pair:
                axes.remove()
            continue
        for kind, axes in enumerate(pair):
            axes.sharey(shared.setdefault(kind, axes)) if shared.get(kind) not in (None, axes) else shared.setdefault(
                kind, axes
            )
            axes.tick_params(labelleft=column == 0, labelbottom=kind == 1)
        ref = cells[i]
        cell = study.cell(dataset, ref.method, ref.variant)
        colour = method_colours(study.methods)[ref.method]
        _validation(pair[0], curves[ref], metric, colour, curves[grey] if grey not in (None, ref) else None)
        _band(pair[1], histories[ref].filter(name="train/loss"), colour, 1)
        _switch(pair, switch_epoch(cell))
        pair[0].set_title(textwrap.fill(cell_label(study, ref), TITLE_CHARACTERS))
        pair[1].set_xlabel("epoch")
        if column == 0:
            pair[0].set_ylabel(f"validation\n{metric_title(metric).lower()} (%)")
            pair[1].set_ylabel("training loss")
    label = cell_label(study, find_cell(study, experiment, grey.method, grey.variant) or grey) if grey else None
    _legend(figure, study, label, any(switch_epoch(study.cell(dataset, c.method, c.variant)) for c in cells), narrow)
    return figure


def _band(axes: Axes, frame: pl.DataFrame, colour: str, scale: float) -> None:
    by_epoch = over_seeds_by_epoch(frame)
    epochs = by_epoch["epoch"].to_numpy()
    mean, low, high = (scale * by_epoch[c].to_numpy() for c in ("mean", "low", "high"))
    axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(epochs, mean, color=colour)


def _validation(axes: Axes, curve: pl.DataFrame, metric: str, colour: str, grey: pl.DataFrame | None) -> None:
    if grey is not None:
        mean = over_seeds_by_epoch(grey.filter(split="val", metric=metric))
        axes.plot(mean["epoch"], 100 * mean["mean"], color=SOFT, linewidth=0.8, linestyle=(0, (4, 2)))
    own = curve.filter(split="val", metric=metric)
    if len(own):
        _band(axes, own, colour, 100)
    else:
        axes.text(0.5, 0.5, "no validation split", transform=axes.transAxes, ha="center", va="center", color=SOFT)


def _switch(pair: list[Axes], epoch: int | None) -> None:
    if epoch is not None:
        for axes in pair:
            axes.axvline(epoch, color=INK, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)


def _legend(figure: Figure, study: Study, reference: str | None, switched: bool, narrow: bool) -> None:
    n = count(len(study.profile.seeds), "seed")
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=INK, label=f"mean of {n}"),
        Patch(color=INK, alpha=0.2, linewidth=0, label="lowest to highest seed"),
    ]
    if reference is not None:
        handles.append(
            Line2D([], [], color=SOFT, linewidth=0.8, linestyle=(0, (4, 2)), label=f"{reference}, for comparison")
        )
    if switched:
        dotted: dict[str, Any] = {"color": INK, "linewidth": 0.8, "linestyle": (0, (1, 1.5))}
        handles.append(Line2D([], [], label="M3Co before, MultiSClip after", **dotted))
    figure.legend(handles=handles, loc="outside lower left", ncols=1 if narrow else 4, handlelength=1.8)

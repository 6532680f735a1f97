"""Scores as lines over a number that cells differ in; R, U and S as bars or lines, with chance and S's control."""

import textwrap
from typing import Any

import numpy as np

from mmcontrast.config import Arms, Grid, Information, Published
from mmcontrast.config.experiments import Sweep
from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.outputs import active_arms
from mmcontrast.report.results import shown
from mmcontrast.report.tables.information import (
    LETTERS,
    NAMES,
    Kept,
    chances,
    kept_by_cell,
    published,
    published_beside,
)
from mmcontrast.report.text.wording import LEVEL_NAME, count, find_cell, short_title

SWEEP_INCHES, PANEL_INCHES, BAR_INCHES, LABEL_INCHES, LEGEND_INCHES = 2.6, 2.3, 2.1, 0.6, 0.2
COLUMNS = 4
MOST_BESIDE = 6  # cells whose names have room under panels side by side
TITLE_CHARACTERS = 78  # of all panel titles beside one another
APART = 0.03  # of its place on a logarithmic axis, so that the intervals of series do not hide each other
DASHES = (0, (2, 1))
Point = tuple[float, Interval, list[float]]  # place of a cell, mean and interval over seeds, scores of seeds, as shown
PUBLISHED: dict[str, Any] = {"s": 20, "marker": "D", "color": "white", "edgecolor": style.INK, "lw": 1.0, "zorder": 8}
DIAMOND: dict[str, Any] = {"linestyle": "", "marker": "D", "markersize": 4, "markerfacecolor": "white"}
CHANCE: dict[str, Any] = {"color": style.INK, "linewidth": 0.9, "linestyle": (0, (4, 2))}
CONTROL = "control: S after unbiased pretraining"
HATCH = "////"


def _swept_alone(grid: Grid, experiment: str, dataset: str) -> bool:
    informed = {d for _, arms in active_arms(grid, experiment) for d in (arms.unbiased, arms.biased)}
    return grid.experiments[experiment].sweep is not None and dataset not in informed


@figure("sweep", by_default=_swept_alone)
def sweep(of: Scope, narrow: bool) -> style.Figure:
    """A panel per charted metric, a line per series of the experiment's sweep."""
    asked, k = of.spec.sweep, len(of.charted)
    if asked is None:
        raise TypeError(f"{of.experiment} has no sweep")
    columns = 1 if narrow else min(k, COLUMNS)
    drawn = style.canvas(narrow, SWEEP_INCHES * -(-k // columns) + 0.4)
    panels = style.tiled(drawn, k, columns)
    for axes, metric in zip(panels, of.charted, strict=True):
        for i, (name, line) in enumerate(asked.series.items()):
            draw_line(axes, points_of(of, metric, line), name, i, style.PALETTE[i % len(style.PALETTE)], asked.scale)
        scale_axis(axes, asked)
        title = short_title(metric, of.data)
        axes.set_title(title if narrow else textwrap.fill(title, TITLE_CHARACTERS // columns))
        axes.set_ylabel(f"test score{measure(metric).heading}")
    style.legend(drawn, panels[0].get_legend_handles_labels()[0], 1 if narrow else 3)
    return drawn


def _panels_of(of: Scope) -> list[tuple[str, Sweep]]:
    """The experiment's panels with their datasets (default: its first), as far as this selection runs them."""
    found = [(panel.dataset or of.spec.datasets[0], panel) for panel in of.spec.panels]
    return [(dataset, panel) for dataset, panel in found if dataset in of.grid.dataset_names]


@figure("panels", section="panels", told=lambda of: {"datasets": dict.fromkeys(d for d, _ in _panels_of(of))})
def panels(of: Scope, narrow: bool) -> style.Figure:
    """Several sweeps in one figure: a panel per number, each on its own dataset and by its first metric."""
    from matplotlib.ticker import MaxNLocator

    found, columns = _panels_of(of), 1 if narrow else 2
    drawn = style.canvas(narrow, PANEL_INCHES * -(-len(found) // columns) + 0.3)
    all_axes = style.tiled(drawn, len(found), columns)
    for axes, (dataset, panel) in zip(all_axes, found, strict=True):
        at = Scope(of.evidence, of.experiment, dataset)
        metric, colours = at.data.metrics[0], line_colours(of.grid, panel)
        for i, (name, line) in enumerate(panel.series.items()):
            draw_line(axes, points_of(at, metric, line), name, i, colours[i], panel.scale)
        scale_axis(axes, panel)
        axes.set_title(f"{', '.join(panel.series)}: {at.data.title}")
        axes.set_ylabel(short_title(metric) + measure(metric).heading)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    return drawn


def line_colours(grid: Grid, sweep: Sweep) -> list[str]:
    """The method's for a single line; else one for each series."""
    if len(sweep.series) > 1:
        return [style.PALETTE[i % len(style.PALETTE)] for i in range(len(sweep.series))]
    method = next(iter(next(iter(sweep.series.values())))).partition("/")[0]
    return [style.method_colours(grid.methods)[method]]


def points_of(of: Scope, metric: str, line: dict[str, float]) -> list[Point]:
    """The cells of a series that have a selected score, by their place on the axis."""
    points, kind = [], measure(metric)
    for cell, x in sorted(line.items(), key=lambda item: item[1]):
        ref = find_cell(of.grid, of.experiment, *cell.split("/"))
        if ref is not None and (score := of.mean(ref, metric)) is not None:
            points.append((x, shown(score, kind), [kind.factor * v for v in of.scores(ref, metric).values()]))
    return points


def draw_line(
    axes: style.Axes, points: list[Point], name: str, i: int, colour: str, scale: str, slot: int | None = None
) -> None:
    """The i-th series of a panel: means, seeds, intervals. `slot`: of a control (dashed, hollow marks), steps aside."""
    shift = 1 + APART * (i if slot is None else slot) if scale == "log" else 1
    for x, found, seeds in points:
        axes.plot([x * shift] * 2, found[1:], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.scatter([x * shift] * len(seeds), seeds, s=5, color=colour, alpha=0.4)
    if points:
        line = [(x * shift, found.mean) for x, found, _ in points]
        marker = style.MARKERS[i % len(style.MARKERS)]
        (drawn,) = axes.plot(*zip(*line, strict=True), color=colour, marker=marker, markersize=4.5, label=name)
        if slot is not None:
            drawn.set(linestyle=DASHES, markerfacecolor="white")


def scale_axis(axes: style.Axes, sweep: Sweep) -> None:
    """A tick per cell, on the axis that the sweep asks for."""
    if sweep.scale == "log":
        axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({x for line in sweep.series.values() for x in line.values()}))
    style.plain_numbers(axes.xaxis)
    axes.set_xlabel(sweep.axis)


def _asked(grid: Grid, experiment: str, dataset: str) -> list[tuple[Information, Arms]]:
    """What the experiment asks for, with the arms whose unbiased dataset this is; there is one or none."""
    return [found for found in active_arms(grid, experiment) if found[1].unbiased == dataset]


def _arms_told(of: Scope) -> dict[str, str]:
    ((_, arms),) = _asked(of.grid, of.experiment, of.dataset)
    return {"biased": of.grid.datasets[arms.biased].title}


@figure("information", told=_arms_told, possible=_asked, always=_asked)
def information(of: Scope, narrow: bool) -> style.Figure:
    """A panel each for R, U and S, under the unbiased dataset of the arms."""
    ((asked, arms),) = _asked(of.grid, of.experiment, of.dataset)
    cells, chance = kept_by_cell(of.evidence, of.experiment, asked, arms), chances(of.grid, asked, arms)
    swept = of.spec.sweep
    drawn = _bars(of, cells, narrow) if swept is None else _lines(of.grid, swept, cells, narrow)
    for axes, letter, title in zip(drawn.axes, LETTERS, NAMES, strict=True):
        axes.axhline(chance[letter], zorder=4 if swept is None else 1, **CHANCE)
        axes.set(title=title, ylim=(0, 105))
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.set_ylabel("balanced accuracy (%)")
    return drawn


def _bars(of: Scope, cells: list[Kept], narrow: bool) -> style.Figure:
    from matplotlib.patches import Patch

    theirs, columns = published(of.grid, of.experiment), 1 if narrow else 4
    handles: list[Any] = [
        Patch(facecolor="white", edgecolor=style.SOFT, hatch=HATCH, label=CONTROL),
        style.handle("chance", **CHANCE),
    ]
    if any(published_beside(theirs, kept) for kept in cells):
        handles.append(style.handle("published, full size", markeredgecolor=style.INK, **DIAMOND))
    handles += _interval_handle(cells, color=style.INK, linewidth=1.1)
    many = len(cells) > MOST_BESIDE
    stacked = narrow or many
    height = BAR_INCHES * (3 if stacked else 1) + LABEL_INCHES * (2 if many else 1)
    drawn = style.canvas(narrow, height + LEGEND_INCHES * -(-len(handles) // columns))
    layout: dict[str, Any] = {"sharex": True} if stacked else {"width_ratios": [1, 1, 1.8]}
    panels = style.tiled(drawn, 3, 1 if stacked else 3, sharey=True, **layout)
    labels = [of.label(kept.ref) if many else style.wrapped(of.label(kept.ref)) for kept in cells]
    for axes, letter in zip(panels, LETTERS, strict=True):
        _panel(axes, of, letter, cells, theirs)
        axes.set_xticks(range(len(labels)), labels, rotation=55 if many else 40, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="x", visible=False)
    style.legend(drawn, handles, columns, handlelength=1.6)
    return drawn


def _panel(axes: style.Axes, of: Scope, letter: str, cells: list[Kept], theirs: dict[str, Published]) -> None:
    colours = style.method_colours(of.grid.methods)
    for x, kept in enumerate(cells):
        # another variant, a control or a part of the method, is grey
        colour = colours[kept.ref.method] if kept.as_it_is else style.SOFT
        at, width = (x - 0.2, 0.38) if letter == "S" else (x, 0.7)
        _bar(axes, at, width, kept, letter, color=colour, edgecolor=colour)
        if letter == "S":
            _bar(axes, x + 0.2, width, kept, "control", color="white", edgecolor=colour, hatch=HATCH)
        p = published_beside(theirs, kept)
        if p is not None and letter in p.values:
            axes.scatter(at, p.values[letter], **PUBLISHED)


def _bar(axes: style.Axes, x: float, width: float, kept: Kept, name: str, **look: Any) -> None:
    found, scores = kept.estimates()[name], kept.scores[name]
    axes.bar(x, found.mean, width, linewidth=0.8, zorder=2, **look)
    if np.isfinite(found).all():
        axes.plot([x, x], [found.low, found.high], color=style.INK, linewidth=1.1, zorder=6)
    offsets = np.linspace(-0.25, 0.25, len(scores)) * width if len(scores) > 1 else [0.0]
    percents = [100 * v for v in scores.values()]
    axes.scatter([x + o for o in offsets], percents, s=5, color=style.INK, linewidths=0, zorder=7)


def _interval_handle(cells: list[Kept], **look: Any) -> list[Any]:
    if not cells or cells[0].gain.n == 1:
        return []
    return [style.handle(f"{LEVEL_NAME} interval, {count(cells[0].gain.n, 'seed')}", **look)]


def _lines(grid: Grid, sweep: Sweep, found: list[Kept], narrow: bool) -> style.Figure:
    cells = {f"{k.ref.method}/{k.ref.variant}": k for k in found}
    colours, columns = line_colours(grid, sweep), 1 if narrow else 3
    handles = [
        style.handle(name, color=colour, marker=style.MARKERS[i % len(style.MARKERS)], markersize=4.5)
        for i, (name, colour) in enumerate(zip(sweep.series, colours, strict=True))
    ]
    mark: dict[str, Any] = {"marker": style.MARKERS[0], "markersize": 4.5, "markerfacecolor": "white"}
    handles += [style.handle(CONTROL, color=style.SOFT, linestyle=DASHES, **mark), style.handle("chance", **CHANCE)]
    handles += _interval_handle(found, color=style.SOFT, linewidth=2.2)
    height = PANEL_INCHES * (3 if narrow else 1) + LEGEND_INCHES * (1 - (-len(handles) // columns))
    drawn = style.canvas(narrow, height)
    panels = style.tiled(drawn, 3, 1 if narrow else 3, sharey=True)
    for axes, letter in zip(panels, LETTERS, strict=True):
        for i, (name, line) in enumerate(sweep.series.items()):
            there = [(x, cells[cell]) for cell, x in sorted(line.items(), key=lambda item: item[1]) if cell in cells]
            draw_line(axes, _points(there, letter), name, i, colours[i], sweep.scale)
            if letter == "S":
                slot = i + len(sweep.series)
                draw_line(axes, _points(there, "control"), f"{name}: control", i, colours[i], sweep.scale, slot)
        scale_axis(axes, sweep)
    style.legend(drawn, handles, columns, handlelength=2.4)
    return drawn


def _points(cells: list[tuple[float, Kept]], name: str) -> list[Point]:
    return [(x, k.estimates()[name], [100 * v for v in k.scores[name].values()]) for x, k in cells]

"""Redundant, unique and synergistic information, with chance and the control of synergy: bars, or lines of a sweep."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmcontrast.config import Arms, Grid, Information
from mmcontrast.config.experiments import Sweep
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.figures.sweep import DASHES, PANEL_INCHES, Point, draw_line, line_colours, scale_axis
from mmcontrast.report.outputs import active_arms
from mmcontrast.report.tables.information import (
    LETTERS,
    NAMES,
    Kept,
    chances,
    kept_by_cell,
    published,
    published_beside,
)
from mmcontrast.report.text.wording import LEVEL_NAME, count

BAR_INCHES = 2.1
LABEL_INCHES = 0.6
MOST_BESIDE = 6  # cells whose names have room under panels side by side
LEGEND_INCHES = 0.2
PUBLISHED: dict[str, Any] = {"s": 20, "marker": "D", "color": "white", "edgecolor": style.INK, "lw": 1.0, "zorder": 8}
DIAMOND: dict[str, Any] = {"linestyle": "", "marker": "D", "markersize": 4, "markerfacecolor": "white"}
CHANCE: dict[str, Any] = {"color": style.INK, "linewidth": 0.9, "linestyle": (0, (4, 2))}
CONTROL = "control: S after unbiased pretraining"
HATCH = "////"


def _asked(grid: Grid, experiment: str, dataset: str) -> list[tuple[Information, Arms]]:
    """What the experiment asks for, with the arms whose unbiased dataset this is; there is one or none."""
    return [found for found in active_arms(grid, experiment) if found[1].unbiased == dataset]


def _caption(of: Scope) -> str:
    ((_, arms),) = _asked(of.grid, of.experiment, of.dataset)
    title, biased = of.data.title, of.grid.datasets[arms.biased].title
    seeds, level = count(of.n_seeds, "seed"), f"{LEVEL_NAME} t interval over seeds"
    what = (
        "Redundant (R), unique (U) and synergistic (S) information in frozen embeddings, "
        f"{count(of.n_instances, 'test instance')}: balanced accuracy of linear probes. R and U after pretraining on "
        f"{title}, S after {biased}; "
    )
    if of.spec.sweep:
        return what + (
            f"hollow marks: its control, S after {title}. Marks: mean of {seeds}; small dots: single seeds; thick "
            f"lines: {level}; level dashes: chance."
        )
    return what + (
        f"hatched: its control, S after {title}. Bars: mean of {seeds}; dots: single seeds; lines: {level}; dashed: "
        "chance; diamonds, where shown: published at the full size, with other classes."
    )


@figure("information", caption=_caption, possible=_asked, always=_asked)
def information(of: Scope, narrow: bool) -> style.Figure:
    """A panel each for R, U and S, under the unbiased dataset of the arms."""
    ((asked, arms),) = _asked(of.grid, of.experiment, of.dataset)
    cells, chance = kept_by_cell(of.evidence, of.experiment, asked, arms), chances(of.grid, asked, arms)
    if of.spec.sweep is not None:
        return _lines(of.grid, of.spec.sweep, cells, chance, narrow)
    return _bars(of, cells, chance, narrow)


def _bars(of: Scope, cells: list[Kept], chance: dict[str, float], narrow: bool) -> style.Figure:
    """Beside every bar of S its control."""
    handles, columns = _bar_legend(of, cells), 1 if narrow else 4
    many = len(cells) > MOST_BESIDE
    stacked = narrow or many
    height = BAR_INCHES * (3 if stacked else 1) + LABEL_INCHES * (2 if many else 1)
    drawn = style.canvas(narrow, height + LEGEND_INCHES * -(-len(handles) // columns))
    layout: dict[str, Any] = {"sharex": True} if stacked else {"width_ratios": [1, 1, 1.8]}
    panels = style.beside(drawn, 3, stacked, sharey=True, **layout)
    labels = [of.label(kept.ref) if many else style.wrapped(of.label(kept.ref)) for kept in cells]
    for axes, letter in zip(panels, LETTERS, strict=True):
        _panel(axes, of, letter, cells)
        axes.axhline(chance[letter], zorder=4, **CHANCE)
        axes.set_ylim(0, 105)
        axes.set_xticks(range(len(labels)), labels, rotation=55 if many else 40, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="x", visible=False)
    for axes in panels if stacked else panels[:1]:
        axes.set_ylabel("balanced accuracy (%)")
    style.legend(drawn, handles, columns, handlelength=1.6)
    return drawn


def _panel(axes: style.Axes, of: Scope, letter: str, cells: list[Kept]) -> None:
    theirs = published(of.grid, of.experiment)
    colours = style.method_colours(of.grid.methods)
    for x, kept in enumerate(cells):
        # another variant, a control or a part of the method, is grey
        colour = colours[kept.ref.method] if kept.ref.variant in ("base", "shared") else style.SOFT
        at, width = (x - 0.2, 0.38) if letter == "S" else (x, 0.7)
        _bar(axes, at, width, kept, letter, color=colour, edgecolor=colour)
        if letter == "S":
            _bar(axes, x + 0.2, width, kept, "control", color="white", edgecolor=colour, hatch=HATCH)
        p = published_beside(theirs, kept.ref)
        if p is not None and letter in p.values:
            axes.scatter(at, p.values[letter], **PUBLISHED)
    axes.set_title(dict(zip(LETTERS, NAMES, strict=True))[letter])


def _bar(axes: style.Axes, x: float, width: float, kept: Kept, name: str, **look: Any) -> None:
    """name: R, U, S or control."""
    found, scores = kept.estimates()[name], kept.scores[name]
    axes.bar(x, found.mean, width, linewidth=0.8, zorder=2, **look)
    if np.isfinite(found).all():
        axes.plot([x, x], [found.low, found.high], color=style.INK, linewidth=1.1, zorder=6)
    offsets = np.linspace(-0.25, 0.25, len(scores)) * width if len(scores) > 1 else [0.0]
    percents = [100 * v for v in scores.values()]
    axes.scatter([x + o for o in offsets], percents, s=5, color=style.INK, linewidths=0, zorder=7)


def _bar_legend(of: Scope, cells: list[Kept]) -> list[Any]:
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor="white", edgecolor=style.SOFT, hatch=HATCH, label=CONTROL),
        style.handle("chance", **CHANCE),
    ]
    theirs = published(of.grid, of.experiment)
    if any(published_beside(theirs, kept.ref) for kept in cells):
        handles.append(style.handle("published, full size", markeredgecolor=style.INK, **DIAMOND))
    return handles + _interval_handle(cells, color=style.INK, linewidth=1.1)


def _interval_handle(cells: list[Kept], **look: Any) -> list[Any]:
    if not cells or cells[0].gain.n == 1:
        return []
    return [style.handle(f"{LEVEL_NAME} interval, {count(cells[0].gain.n, 'seed')}", **look)]


def _lines(grid: Grid, sweep: Sweep, found: list[Kept], chance: dict[str, float], narrow: bool) -> style.Figure:
    """A line per series of the sweep; beside S its control, dashed."""
    cells = {f"{k.ref.method}/{k.ref.variant}": k for k in found}
    colours = line_colours(grid, sweep)
    handles, columns = _line_legend(sweep, colours, found), 1 if narrow else 3
    height = PANEL_INCHES * (3 if narrow else 1) + LEGEND_INCHES * (1 - (-len(handles) // columns))
    drawn = style.canvas(narrow, height)
    panels = style.beside(drawn, 3, narrow, sharey=True)
    for axes, letter, title in zip(panels, LETTERS, NAMES, strict=True):
        for i, (name, line) in enumerate(sweep.series.items()):
            there = [(x, cells[cell]) for cell, x in sorted(line.items(), key=lambda item: item[1]) if cell in cells]
            draw_line(axes, _points(there, letter), name, i, colours[i], sweep.scale)
            if letter == "S":
                slot = i + len(sweep.series)
                draw_line(axes, _points(there, "control"), f"{name}: control", i, colours[i], sweep.scale, slot)
        axes.axhline(chance[letter], zorder=1, **CHANCE)
        scale_axis(axes, sweep)
        axes.set(title=title, ylim=(0, 105))
    for axes in panels if narrow else panels[:1]:
        axes.set_ylabel("balanced accuracy (%)")
    style.legend(drawn, handles, columns, handlelength=2.4)
    return drawn


def _points(cells: list[tuple[float, Kept]], name: str) -> list[Point]:
    """name: R, U, S or control."""
    return [Point(x, k.estimates()[name], [100 * v for v in k.scores[name].values()]) for x, k in cells]


def _line_legend(sweep: Sweep, colours: list[str], cells: list[Kept]) -> list[Any]:
    mark: dict[str, Any] = {"marker": style.MARKERS[0], "markersize": 4.5}
    handles = [
        style.handle(name, color=colour, **(mark | {"marker": style.MARKERS[i % len(style.MARKERS)]}))
        for i, (name, colour) in enumerate(zip(sweep.series, colours, strict=True))
    ]
    handles.append(style.handle(CONTROL, color=style.SOFT, linestyle=DASHES, markerfacecolor="white", **mark))
    handles.append(style.handle("chance", **CHANCE))
    return handles + _interval_handle(cells, color=style.SOFT, linewidth=2.2)

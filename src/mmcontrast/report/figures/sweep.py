"""Scores as lines over a number that cells differ in, such as the size of a batch."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from mmcontrast.config import Grid
from mmcontrast.config.experiments import Sweep
from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.outputs import active_arms
from mmcontrast.report.summary import shown
from mmcontrast.report.text.wording import LEVEL_NAME, count, find_cell, seeds_by_dataset, short_title

SWEEP_INCHES, PANEL_INCHES = 2.6, 2.3
TITLE_CHARACTERS = 78  # of all panel titles beside one another
APART = 0.03  # of its place on a logarithmic axis, so that the intervals of series do not hide each other
DASHES = (0, (2, 1))


@dataclass(frozen=True)
class Point:
    """A cell at its place on the axis: mean and interval over seeds, and each seed's score, as shown."""

    x: float
    found: Interval
    seeds: list[float]


def _swept_alone(grid: Grid, experiment: str, dataset: str) -> bool:
    """Where information is asked for, its figure has the sweep."""
    informed = {d for _, arms in active_arms(grid, experiment) for d in (arms.unbiased, arms.biased)}
    return grid.experiments[experiment].sweep is not None and dataset not in informed


def _sweep_caption(of: Scope) -> str:
    return (
        f"Test scores on {of.data.title}, {count(of.n_instances, 'test instance')}, epoch selected on validation. "
        f"Marks: mean of {count(of.n_seeds, 'seed')}; small dots: single seeds; thick lines: {LEVEL_NAME} t "
        "interval over seeds."
    )


@figure("sweep", caption=_sweep_caption, by_default=_swept_alone)
def sweep(of: Scope, narrow: bool) -> style.Figure:
    """A panel per charted metric, a line per series of the experiment's sweep."""
    asked, k = of.spec.sweep, len(of.charted)
    if asked is None:
        raise TypeError(f"{of.experiment} has no sweep")
    drawn = style.canvas(narrow, SWEEP_INCHES * (k if narrow else 1) + 0.4)
    panels = style.beside(drawn, k, narrow)
    for axes, metric in zip(panels, of.charted, strict=True):
        for i, (name, line) in enumerate(asked.series.items()):
            draw_line(axes, points_of(of, metric, line), name, i, style.PALETTE[i % len(style.PALETTE)], asked.scale)
        scale_axis(axes, asked)
        title = short_title(metric, of.data)
        axes.set(
            title=title if narrow else textwrap.fill(title, TITLE_CHARACTERS // k),
            ylabel=f"test score{measure(metric).heading}",
        )
    style.legend(drawn, panels[0].get_legend_handles_labels()[0], 1 if narrow else 3)
    return drawn


def _panels_of(of: Scope) -> list[tuple[str, Sweep]]:
    """The experiment's panels with their datasets (default: its first), as far as this selection runs them."""
    found = [(panel.dataset or of.spec.datasets[0], panel) for panel in of.spec.panels]
    return [(dataset, panel) for dataset, panel in found if dataset in of.grid.dataset_names]


def _panels_caption(of: Scope) -> str:
    datasets = list(dict.fromkeys(dataset for dataset, _ in _panels_of(of)))
    return (
        f"{of.spec.title}: test scores, epoch selected on validation or linear probe. Marks: means; small dots: single "
        f"seeds; thick lines: {LEVEL_NAME} t interval over seeds ({seeds_by_dataset(of.grid, datasets)})."
    )


@figure("panels", section="panels", caption=_panels_caption)
def panels(of: Scope, narrow: bool) -> style.Figure:
    """Several sweeps in one figure: a panel per number, each on its own dataset and by its first metric."""
    from matplotlib.ticker import MaxNLocator

    found, columns = _panels_of(of), 1 if narrow else 2
    drawn = style.canvas(narrow, PANEL_INCHES * -(-len(found) // columns) + 0.3)
    all_axes = style.tiled(drawn, len(found), columns)
    for axes, (dataset, panel) in zip(all_axes, found, strict=True):
        at = Scope(of.evidence, of.experiment, dataset)
        metric = at.data.metrics[0]
        colours = line_colours(of.grid, panel)
        for i, (name, line) in enumerate(panel.series.items()):
            draw_line(axes, points_of(at, metric, line), name, i, colours[i], panel.scale)
        scale_axis(axes, panel)
        axes.set(
            title=f"{', '.join(panel.series)}: {at.data.title}", ylabel=short_title(metric) + measure(metric).heading
        )
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
    points = []
    for cell, x in sorted(line.items(), key=lambda item: item[1]):
        ref = find_cell(of.grid, of.experiment, *cell.split("/"))
        if ref is not None and (score := of.mean(ref, metric)) is not None:
            kind = measure(metric)
            points.append(Point(x, shown(score, kind), [kind.factor * v for v in of.scores(ref, metric).values()]))
    return points


def draw_line(
    axes: style.Axes, points: list[Point], name: str, i: int, colour: str, scale: str, slot: int | None = None
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

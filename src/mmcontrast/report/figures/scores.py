"""Dots with intervals: scores of cells, their paired differences to the reference, and contrasts."""

import textwrap
from typing import Any

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.metrics import Measure, measure
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.results import Scores, shown
from mmcontrast.report.tables.contrasts import compared, ref_of
from mmcontrast.report.text import wording
from mmcontrast.report.text.wording import LEVEL_NAME, count

ROW_INCHES, LINE_INCHES = 0.29, 0.14
PANEL_INCHES = 0.55
LEGEND_INCHES = 0.19
MOST_BESIDE = 4  # panels
LEADING = 2  # widths of another
# of all panel titles, and of all labels of x axes, beside one another
TITLE_CHARACTERS, AXIS_CHARACTERS = 66, 84


def _panels(
    of: Scope, labels: list[str], axis: str, shares: str, legend_lines: int, narrow: bool, leading: int = 1
) -> tuple[style.Figure, list[style.Axes]]:
    """One panel per metric with shared rows. `shares`: what the x axis says behind a share. `leading`: width of the
    panel of the dataset's own label where a row is all its tasks, in those of another.
    """
    k = len(of.charted)
    columns = 1 if narrow else min(k, MOST_BESIDE)
    widths = [leading if len(of.data.targets) == columns > 1 else 1] + [1] * (columns - 1)
    lines = max(style.wrapped(label).count("\n") + 1 for label in labels)

    def folded(text: str, characters: int, i: int) -> str:
        return text if narrow else textwrap.fill(text, characters * widths[i % columns] // sum(widths))

    titles = [folded(wording.metric_title(metric, of.data), TITLE_CHARACTERS, i) for i, metric in enumerate(of.charted)]
    axes = [axis + (shares if measure(metric).percent else "") for metric in of.charted]
    axes = [folded(text, AXIS_CHARACTERS, i) for i, text in enumerate(axes)]
    further = sum(max(text.count("\n") for text in texts) for texts in (titles, axes))
    panel = len(labels) * max(ROW_INCHES, lines * LINE_INCHES) + PANEL_INCHES + further * LINE_INCHES
    drawn = style.canvas(narrow, panel * -(-k // columns) + legend_lines * LEGEND_INCHES)
    panels = style.tiled(drawn, k, columns, sharey=not narrow, width_ratios=widths)
    for one, title, text in zip(panels, titles, axes, strict=True):
        style.labelled_rows(one, [style.wrapped(label) for label in labels])
        one.set(title=title, xlabel=text)
        one.margins(x=0.06)
    return drawn, panels


@figure(
    "scores",
    by_default=lambda grid, e, _: grid.experiments[e].kind == "table",
)
def scores(of: Scope, narrow: bool) -> style.Figure:
    """Every cell's test score by metric: selected, optimistic, and published where there is one."""
    handles, labels = _score_legend(of), [of.label(ref) for ref in of.cells]
    lines = len(handles) if narrow else -(-len(handles) // 2)
    drawn, panels = _panels(of, labels, "test score", " (%)", lines, narrow, LEADING)
    for axes, metric in zip(panels, of.charted, strict=True):
        for y, ref in enumerate(of.cells):
            _score_row(axes, of, ref, metric, y)
    style.legend(drawn, handles, 1 if narrow else 2, handlelength=1.8)
    return drawn


def _score_row(axes: style.Axes, of: Scope, ref: CellRef, metric: str, y: int) -> None:
    colour = style.method_colours(of.grid.methods)[ref.method]
    protocol, kind = "selected" if of.mean(ref, metric) else "last", measure(metric)
    if (score := of.mean(ref, metric, protocol)) is not None:
        seeds, marker = of.scores(ref, metric, protocol), "o" if protocol == "selected" else "s"
        _dots(axes, y, kind, score, of.wide(ref, metric, protocol), seeds, colour=colour, marker=marker)
    if (best := of.mean(ref, metric, "optimistic")) is not None:
        axes.scatter(kind.factor * best.mean, y, s=24, facecolor="white", edgecolor=colour, linewidths=1.1, zorder=4.5)
    for p in of.grid.published(of.experiment).rows:
        same = (p.dataset, p.method, p.variant) == (of.dataset, ref.method, ref.variant)
        if same and metric in p.values:
            axes.plot([p.values[metric]] * 2, [y - 0.38, y + 0.38], color=style.INK, linewidth=1.6, zorder=5)


def _dots(
    axes: style.Axes, y: int, of: Measure, found: Interval, wide: Interval | None, seeds: Scores, **look: Any
) -> None:
    """A score or difference with its intervals, where it has them, over its seeds; all as stored."""
    if wide is not None:
        style.interval_line(axes, y, *shown(wide, of)[1:], look["colour"], 0.8)
    style.dot(axes, y, shown(found, of), **look)
    single = {"color": look["colour"], "alpha": 0.4, "linewidths": 0, "zorder": 2}
    axes.scatter([of.factor * v for v in seeds.values()], [y + 0.27] * len(seeds), s=5, **single)


def _score_legend(of: Scope) -> list[style.Line2D]:
    protocols = set(of.summary.filter(dataset=of.dataset)["protocol"])
    first = of.charted[0]
    last_alone = any(of.mean(ref, first, "last") and not of.mean(ref, first) for ref in of.cells)
    chosen = "linear probe" if of.probed else "epoch selected on validation"
    seeds = count(of.n_seeds, "seed")
    mean, single, *interval = style.seed_handles(f"{chosen}, mean of {seeds}", of.n_seeds > 1)
    square: dict[str, Any] = {"marker": "s", "markersize": 5.5, "color": style.SOFT}
    hollow: dict[str, Any] = {"marker": "o", "markersize": 5, "markerfacecolor": "white", "markeredgecolor": style.SOFT}
    bar: dict[str, Any] = {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "color": style.INK}
    wide = f"{LEVEL_NAME} interval over seeds and {of.n_instances} test instances"
    handles = [mean] if "selected" in protocols else []
    if last_alone:
        handles.append(style.handle(f"last epoch (no validation split), mean of {seeds}", linestyle="", **square))
    handles += [single, *interval, style.handle(wide, color=style.SOFT, linewidth=0.8)]
    if "optimistic" in protocols:
        handles.append(style.handle("optimistic: best epoch on the test split", linestyle="", **hollow))
    ours = (p for p in of.grid.published(of.experiment).rows if p.dataset == of.dataset)
    if any(wording.find_cell(of.grid, of.experiment, p.method or "", p.variant) for p in ours):
        handles.append(style.handle("published", linestyle="", **bar))
    return handles


@figure(
    "differences",
    by_default=lambda grid, experiment, dataset: grid.experiments[experiment].kind == "ablation",
    # in a partial report one cell may be all that is left
    possible=lambda grid, experiment, dataset: len(grid.cells_on(experiment, dataset)) > 1,
)
def differences_to_reference(of: Scope, narrow: bool) -> style.Figure:
    """Selected test score of each cell minus the reference's, by seed."""
    reference = of.reference or of.cells[0]
    others = [c for c in of.cells if (c.method, c.variant) != (reference.method, reference.variant)]
    handles = style.seed_handles(f"mean of {count(of.n_seeds, 'seed')}")
    axis, labels = f"difference to {of.label(reference)}", [of.label(ref) for ref in others]
    drawn, panels = _panels(of, labels, axis, " (points)", len(handles) if narrow else 1, narrow)
    colours = style.method_colours(of.grid.methods)
    for axes, metric in zip(panels, of.charted, strict=True):
        compared, against = of.differences(metric, reference), of.scores(reference, metric)
        axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
        for y, ref in enumerate(others):
            if found := compared.get((ref.method, ref.variant)):
                own = of.scores(ref, metric)
                by_seed = {s: own[s] - against[s] for s in sorted(own.keys() & against.keys())}
                _dots(axes, y, measure(metric), Interval(*found[:3]), None, by_seed, colour=colours[ref.method])
                axes.axhline(y + 0.5, color=style.FAINT, linewidth=0.5, zorder=0)
    style.legend(drawn, handles, 1 if narrow else 4, handlelength=1.8)
    return drawn


def _some_contrast(grid: Grid, experiment: str, dataset: str) -> bool:
    """In a partial report no contrast may be left."""
    there = {f"{d}/{c.method}/{c.variant}" for d, c in grid.experiment_cells(experiment)}
    pairs = [{f"{c.dataset}/{x}" for x in (c.cell, c.against)} for c in grid.experiments[experiment].contrasts]
    return not grid.lost or any(pair <= there for pair in pairs)


@figure("contrasts", section="contrasts", possible=_some_contrast)
def contrasts(of: Scope, narrow: bool) -> style.Figure:
    """A panel per dataset and score, a row per contrast."""
    found, colours = compared(of.evidence, of.experiment), style.method_colours(of.grid.methods)
    panels = list(dict.fromkeys((c.contrast.dataset, c.metric) for c in found))
    rows_of = {key: [c for c in found if (c.contrast.dataset, c.metric) == key] for key in panels}
    lines = max(style.wrapped(c.contrast.label).count("\n") + 1 for c in found)
    row_inches = max(1.15 * ROW_INCHES, (lines + 0.5) * LINE_INCHES)
    drawn = style.canvas(narrow, len(found) * row_inches + (PANEL_INCHES + 0.15) * len(panels) + 0.4)
    sizes = [len(rows) for rows in rows_of.values()]
    all_axes = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=sizes).ravel()
    for axes, ((dataset, metric), rows) in zip(all_axes, rows_of.items(), strict=True):
        axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
        for y, row in enumerate(rows):
            difference, colour = Interval(*row.difference[:3]), colours[ref_of(row.contrast.cell).method]
            if row.contrast.protocol == "optimistic":
                difference = Interval(difference.mean, float("nan"), float("nan"))
            _dots(axes, y, row.of, difference, row.wide, row.by_seed, colour=colour)
            axes.axhline(y + 0.5, color=style.FAINT, linewidth=0.5, zorder=0)
            style.beside(axes, y, wording.p_value(row.p_holm), style.SOFT)
        style.labelled_rows(axes, [style.wrapped(c.contrast.label) for c in rows])
        if any(c.contrast.primary for c in rows):
            style.beside(axes, -0.7, "p", style.SOFT)
        axes.margins(x=0.06)
        in_points = " (points)" if measure(metric).percent else ""
        axes.set(title=of.grid.datasets[dataset].title, xlabel=f"{wording.short_title(metric)}: difference{in_points}")
    handles = style.seed_handles("mean over seeds")
    if any(c.wide for c in found):
        handles.append(style.handle(f"{LEVEL_NAME} interval, test instances too", color=style.SOFT, linewidth=0.8))
    if any(c.contrast.primary for c in found):
        handles.append(style.handle("p: primary contrasts, Holm's correction", linestyle=""))
    style.legend(drawn, handles, 1 if narrow else 3, handlelength=1.8)
    return drawn

"""The matrix as dots with intervals, its scores against their cost, gains over untrained networks, and ranks."""

from itertools import cycle
from typing import Any

import numpy as np

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.methods import untrained_twin
from mmcontrast.config.metrics import measure, metric_name
from mmcontrast.evaluation.across import Reversal, rank_agreement, reversals
from mmcontrast.evaluation.columns import ENCODERS, OWN
from mmcontrast.evaluation.probe_predictions import DRAWS
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.results import by_shared_seed, shown
from mmcontrast.report.tables.contrasts import ref_of
from mmcontrast.report.tables.matrix import RAW, READOUTS, Matrix, build_matrix, fewest_seeds, read_costs, shown_columns
from mmcontrast.report.text.wording import LEVEL_NAME, count, short_title

ROW_INCHES, GAIN_INCHES, PANEL_INCHES, LABELS_INCHES = 0.2, 0.24, 0.62, 2.6
LINE_INCHES, BARS_INCHES, TAU_INCHES = 0.14, 0.75, 0.24
MOST_COLUMNS, MOST_GAINS = 4, 3  # of panels beside one another
COST_MARKERS = "os^Dv*PXp<>"
CROSS: dict[str, Any] = {"marker": "x", "markersize": 4.5, "linestyle": ""}
DASHED: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (4, 2))}
RAW_LOOK: dict[str, Any] = {"color": style.INK, "linewidth": 1.6, "linestyle": (0, (4, 2)), "zorder": 5}
SPREAD = 0.3  # of lines at one number of labels, so that their intervals do not hide each other


def _untrained(matrix: Matrix, label: str, column: int) -> float | None:
    if (label, column) not in matrix.headline:
        return None
    before = matrix.gain(label, column, matrix.headline[label, column])
    of, after = matrix.measures[column], matrix.mean(label, column)
    return of.factor * (after.mean - of.sign * before.mean) if before and after else None


def _seeds_told(of: Scope) -> dict[str, str]:
    columns = shown_columns(of.grid, of.experiment)
    return {"seeds": ", ".join(f"{column.title} {fewest_seeds(of.grid, column)}" for column in columns)}


def _panels(matrix: Matrix, labels: list[str]) -> list[tuple[str, str, dict[str, Interval]]]:
    """Title, axis and label -> value: a panel per column, and two for what holds across columns."""
    panels: list[tuple[str, str, dict[str, Interval]]] = []
    for c, (column, of) in enumerate(zip(matrix.columns, matrix.measures, strict=True)):
        found = {label: shown(mean, of) for label in labels if (mean := matrix.mean(label, c)) is not None}
        panels.append((column.title, f"score{of.heading}", found))
    if across := matrix.across():
        if any(chance is not None for chance in matrix.chance):
            skills = {label: shown(across[label][0]) for label in across if label in labels}
            panels.append(("All: skill", "interquartile mean (%)", skills))
        panels.append(("All: rank", "mean rank (1 = best)", {k: across[k][1] for k in matrix.ranked}))
    return panels


@figure("matrix", section="columns", told=_seeds_told)
def matrix_of_scores(of: Scope, narrow: bool) -> style.Figure:
    """A row per method, a panel per column and for skill and rank."""
    from matplotlib.ticker import MaxNLocator

    matrix = build_matrix(of.evidence, of.experiment)
    labels = [label for label in matrix.labels if label not in matrix.twins]
    panels, colours = _panels(matrix, labels), style.method_colours(of.grid.methods)
    columns = 1 if narrow else min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    drawn = style.canvas(narrow, rows * (len(labels) * ROW_INCHES + PANEL_INCHES) + 0.3)
    all_axes = style.tiled(drawn, len(panels), columns, sharey=True)
    for c, (axes, (title, axis, values)) in enumerate(zip(all_axes, panels, strict=True)):
        for y, label in enumerate(labels):
            if label in values:
                colour = style.SOFT if label in matrix.floors else colours[matrix.method_of(label)]
                face = "white" if label in matrix.labelled else colour
                style.dot(axes, y, values[label], colour, 20, 2.6, facecolor=face)
                if (before := _untrained(matrix, label, c)) is not None:
                    axes.plot(before, y, color=style.SOFT, zorder=3.5, **CROSS)
            if matrix.method_of(label) == RAW and label in values:
                axes.axvline(values[label].mean, color=style.SOFT, zorder=1, **DASHED)
            axes.axhline(y + 0.5, color=style.FAINT, linewidth=0.4, zorder=0)
        style.labelled_rows(axes, labels)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(title=title, xlabel=axis)
    look: dict[str, Any] = {"marker": "o", "linestyle": "", "color": style.SOFT, "markersize": 5}
    handles = [
        style.handle("mean", **look),
        style.handle("trained with labels", markerfacecolor="white", **look),
        style.handle(f"{LEVEL_NAME} interval", color=style.SOFT, linewidth=2.6),
        style.handle("the same readout, untrained", color=style.SOFT, **CROSS),
        style.handle("raw inputs", color=style.SOFT, **DASHED),
    ]
    style.legend(drawn, handles, 1 if narrow else 3)
    return drawn


@figure("cost", section="columns", told=_seeds_told)
def scores_by_cost(of: Scope, narrow: bool) -> style.Figure:
    """A pair of panels per column: the score against seconds per seed, and against peak memory."""
    from matplotlib.ticker import MaxNLocator

    matrix = build_matrix(of.evidence, of.experiment)
    costs, k = read_costs(of.evidence, matrix), len(matrix.columns)
    drawn = style.canvas(narrow, 1.75 * k + 1.9 if narrow else 4.6)
    shape = (k, 2) if narrow else (2, k)
    all_axes = drawn.subplots(*shape, squeeze=False, sharey="row" if narrow else "col")
    colours = style.method_colours(of.grid.methods)
    labels = [label for label in matrix.labels if label not in matrix.floors]
    looks = {x: (colours[matrix.method_of(x)], marker) for x, marker in zip(labels, cycle(COST_MARKERS), strict=False)}
    for c, column in enumerate(matrix.columns):
        pair = all_axes[c] if narrow else all_axes[:, c]
        for i, (axes, what) in enumerate(zip(pair, ("seconds per seed", "peak memory (MiB)"), strict=True)):
            values = {label: costs[label, c][i] for label in labels if (label, c) in costs}
            for label, x in values.items():
                if (found := matrix.mean(label, c)) is not None:
                    (mean, low, high), (colour, marker) = shown(found, matrix.measures[c]), looks[label]
                    if np.isfinite([low, high]).all():
                        axes.plot([x, x], [low, high], color=colour, linewidth=1.2, zorder=3)
                    look = {"color": colour, "marker": marker, "edgecolor": style.INK, "linewidths": 0.3}
                    axes.scatter(x, mean, s=24, zorder=4, **look)
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


def counted(grid: Grid, experiment: str, dataset: str) -> list[CellRef]:
    """The cells trained without labels that are probed on a few labels per class; see `Matrix.hidden`."""
    found, named = [], grid.experiments[experiment].reference
    for ref in grid.cells_on(experiment, dataset):
        cell = grid.cell(dataset, ref.method, ref.variant)
        if cell.label_counts and cell.pretrain is not None and cell.finetune is None:
            found.append((ref, bool(cell.pretrain.epochs) or cell.implementation == RAW))
    twin = named and (named.method, untrained_twin(named.variant))
    own = [ref for ref, trained in found if not trained and (ref.method, ref.variant) == twin]
    return [ref for ref, trained in found if trained or ref in own or not own]


@figure("labels", told=lambda of: {"draws": DRAWS}, possible=counted)
def labels(of: Scope, narrow: bool) -> style.Figure:
    """A panel per readout, a line per method over the labels per class that the probe was fitted on."""
    cells, metric = counted(of.grid, of.experiment, of.dataset), of.data.metrics[0]
    counts = of.config(cells[0]).label_counts
    drawn = style.canvas(narrow, LABELS_INCHES * (2 if narrow else 1) + 0.3 * len(cells) / (2 if narrow else 4))
    panels = style.tiled(drawn, 2, 1 if narrow else 2, sharey=True)
    for axes, (readout, title) in zip(panels, READOUTS.items(), strict=True):
        for i, ref in enumerate(cells):
            _label_line(axes, of, ref, readout, SPREAD * ((i + 0.5) / len(cells) - 0.5))
        axes.set_xticks(range(len(counts) + 1), [*map(str, counts), "all"])
        axes.set(title=title, xlabel="labels per class")
    for axes in panels if narrow else panels[:1]:
        axes.set_ylabel(f"test {short_title(metric).lower()}{measure(metric).heading}")
    style.legend(drawn, panels[0].get_legend_handles_labels()[0], 2 if narrow else 4)
    return drawn


def _label_line(axes: style.Axes, of: Scope, ref: CellRef, readout: str, aside: float) -> None:
    """Of a cell that has no fusion the own embedding is its encoders'; raw inputs stand in both panels."""
    raw, metric = of.grid.methods[ref.method].implementation == RAW, of.data.metrics[0]
    fuses = bool(of.scores(ref, metric_name(metric, readout=ENCODERS)))
    if readout == OWN and not fuses and not raw:
        return
    named = readout if fuses else OWN
    counts: list[int | None] = [*of.config(ref).label_counts, None]
    found = [of.mean(ref, metric_name(metric, readout=named, labels=k)) for k in counts]
    points = [(x, shown(score, measure(metric))) for x, score in enumerate(found) if score is not None]
    stage = of.config(ref).pretrain
    untrained = stage is not None and stage.epochs == 0
    colour = style.SOFT if untrained else style.method_colours(of.grid.methods)[ref.method]
    look: dict[str, Any] = RAW_LOOK if raw else {"color": colour, "linestyle": ":" if untrained else "-"}
    place = [x + (0 if raw else aside) for x, _ in points]
    axes.plot(place, [s.mean for _, s in points], marker="o", markersize=3, label=of.label(ref), **look)
    axes.vlines(place, [s.low for _, s in points], [s.high for _, s in points], color=look["color"], linewidth=1.0)


def _some_twin(grid: Grid, experiment: str, dataset: str) -> bool:
    names = {(d, c.method, c.variant) for d, c in grid.experiment_cells(experiment)}
    return any((d, m, untrained_twin(v)) in names for d, m, v in names)


def _gains_told(of: Scope) -> dict[str, str]:
    seeds = sorted({len(of.grid.seeds_of(p.dataset)) for c in shown_columns(of.grid, of.experiment) for p in c.parts})
    return {"seeds": f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"}


@figure("gains", section="columns", told=_gains_told, possible=_some_twin)
def gains(of: Scope, narrow: bool) -> style.Figure:
    """A panel per column, a row per method that has its untrained twin among the cells."""
    matrix = build_matrix(of.evidence, of.experiment)
    there = {at: shown(gain, matrix.measures[at[1]]) for at in matrix.gains if (gain := matrix.gain(*at))}
    rows = [label for label in matrix.labels if any(label == at[0] for at in there)]
    columns = sorted({at[1] for at in there})
    k = 1 if narrow else min(len(columns), MOST_GAINS)
    drawn = style.canvas(narrow, (len(rows) * GAIN_INCHES + PANEL_INCHES) * -(-len(columns) // k) + 0.3)
    colours = style.method_colours(of.grid.methods)
    for axes, c in zip(style.tiled(drawn, len(columns), k, sharey=True), columns, strict=True):
        axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
        for y, label in enumerate(rows):
            colour = colours[matrix.method_of(label)]
            for readout, aside in ((ENCODERS, -0.14), (OWN, 0.14)):
                if gain := there.get((label, c, readout)):
                    face = colour if readout == ENCODERS else "white"
                    style.dot(axes, y + aside, gain, colour, 18, 1.4, facecolor=face)
        style.labelled_rows(axes, rows)
        in_points = " (points)" if matrix.measures[c].percent else ""
        axes.set(title=matrix.columns[c].title, xlabel=f"gain{in_points}")
    look: dict[str, Any] = {"marker": "o", "linestyle": "", "color": style.SOFT, "markersize": 4.5}
    handles = [
        style.handle(READOUTS[ENCODERS], **look),
        style.handle(READOUTS[OWN], markerfacecolor="white", **look),
        style.handle(f"{LEVEL_NAME} interval over seeds", color=style.SOFT, linewidth=1.4),
    ]
    style.legend(drawn, handles, 1 if narrow else 3)
    return drawn


def priced(of: Scope) -> dict[tuple[str, str], Reversal]:
    """(dataset, label of a contrast) -> how often the switch reverses its method's order with another method, on the
    same seeds. Of contrasts of two cells of one method; the others are the experiment's cells of other methods on the
    dataset, as they are: none of a contrast's `cell`.
    """
    found = {}
    for c in of.spec.contrasts:
        refs = [ref_of(c.against), ref_of(c.cell)]
        method = refs[0].method
        if c.protocol != "selected" or refs[1].method != method or c.dataset not in of.grid.dataset_names:
            continue
        at = Scope(of.evidence, of.experiment, c.dataset)
        metric = c.metric or at.data.metrics[0]
        changed = {x.cell for x in of.spec.contrasts if x.protocol == "selected"}
        rivals = [r for r in at.cells if r.method != method and f"{r.method}/{r.variant}" not in changed]
        scores = [at.scores(ref, metric) for ref in [*refs, *rivals]]
        table_SK = by_shared_seed(scores)
        if rivals and len(table_SK):
            sides = table_SK[:, 0], table_SK[:, 1], table_SK[:, 2:]
            found[c.dataset, c.label] = reversals(*sides, measure(metric).sign)
    return found


@figure("reversals", section="contrasts", possible=lambda grid, *_: not grid.lost)
def reversed_pairs(of: Scope, narrow: bool) -> style.Figure:
    """A row per contrast of two cells of one method."""
    found = priced(of)
    labels = [style.wrapped(f"{label}, {of.grid.datasets[d].title}") for d, label in found]
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    drawn = style.canvas(narrow, LINE_INCHES * (lines + 0.7) * len(found) + BARS_INCHES)
    axes = drawn.subplots()
    for y, reversal in enumerate(found.values()):
        axes.barh(y, 100 * reversal.changed, 0.5, color=style.PALETTE[0])
        axes.plot([100 * reversal.seeds] * 2, [y - 0.36, y + 0.36], color=style.INK, linewidth=1.8, zorder=4)
        style.beside(axes, y, count(reversal.pairs, "pair"))
    style.labelled_rows(axes, labels)
    axes.set(xlabel="order of a pair reversed (% of replicates)", xlim=(0, None))
    mark: dict[str, Any] = {"marker": "|", "markersize": 9, "markeredgewidth": 1.8, "linestyle": ""}
    handles = [
        style.handle("by the change", color=style.PALETTE[0], linewidth=5),
        style.handle("by other draws of the seeds alone", color=style.INK, **mark),
    ]
    style.legend(drawn, handles, 1 if narrow else 2)
    return drawn


def agreements(of: Scope) -> dict[str, Interval]:
    """Column -> Kendall's tau of its methods' validation and test means, of the rows pretrained without labels."""
    matrix, found = build_matrix(of.evidence, of.experiment), {}
    for c, column in enumerate(matrix.columns):
        apart = matrix.labelled | matrix.floors
        labels = [x for x in matrix.labels if x not in apart and matrix.on_val.get((x, c))]
        both_SK = by_shared_seed([scores[x, c] for scores in (matrix.on_val, matrix.scores) for x in labels])
        if len(labels) > 1 and len(both_SK):
            found[column.title] = rank_agreement(*np.hsplit(both_SK, 2))
    return found


@figure("agreement", section="columns", possible=lambda grid, *_: not grid.lost)
def agreement(of: Scope, narrow: bool) -> style.Figure:
    """A row per column of the matrix."""
    found = agreements(of)
    drawn = style.canvas(narrow, TAU_INCHES * len(found) + BARS_INCHES)
    axes = drawn.subplots()
    for y, tau in enumerate(found.values()):
        style.dot(axes, y, tau, style.PALETTE[0])
    axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
    style.labelled_rows(axes, list(found))
    axes.set(xlim=(-1.05, 1.05), xlabel="Kendall's tau of validation and test")
    return drawn

"""What pretraining is for: scores by the number of labels, and the gain over the same network untrained, by readout."""

from __future__ import annotations

from typing import Any

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.methods import untrained_twin
from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.columns import ENCODERS, OWN, metric_name
from mmcontrast.evaluation.probe_predictions import DRAWS
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.summary import shown
from mmcontrast.report.tables.matrix import RAW, READOUTS, build_matrix, shown_columns
from mmcontrast.report.text.wording import LEVEL_NAME, count, short_title

LABELS_INCHES, ROW_INCHES, PANEL_INCHES = 2.6, 0.24, 0.62
MOST_COLUMNS = 3
RAW_LOOK: dict[str, Any] = {"color": style.INK, "linewidth": 1.6, "linestyle": (0, (4, 2)), "zorder": 5}
SPREAD = 0.3  # of lines at one number of labels, so that their intervals do not hide each other


def counted(grid: Grid, experiment: str, dataset: str) -> list[CellRef]:
    """The cells trained without labels that are probed on a few labels per class; of untrained ones the first."""
    found, untrained = [], 0
    for ref in grid.cells_on(experiment, dataset):
        cell = grid.cell(dataset, ref.method, ref.variant)
        if cell.label_counts and cell.pretrain is not None and cell.finetune is None:
            untrained += cell.pretrain.epochs == 0 and cell.implementation != RAW
            if cell.pretrain.epochs or cell.implementation == RAW or untrained == 1:
                found.append(ref)
    return found


def _labels_caption(of: Scope) -> str:
    return (
        f"Label efficiency on {of.data.title}, {count(of.n_instances, 'test instance')}: the linear probe fitted on a "
        f"few labels per class (mean over {DRAWS} draws, the same for all rows) and on all, of the encoders' outputs "
        f"side by side and of the fused embedding, where there is one. Marks: mean of {count(of.n_seeds, 'seed')}; "
        f"lines through them: {LEVEL_NAME} t interval. Dashed: raw inputs; dotted: untrained."
    )


@figure("labels", caption=_labels_caption, possible=counted)
def labels(of: Scope, narrow: bool) -> style.Figure:
    """A panel per readout, a line per method over the labels per class that the probe was fitted on."""
    cells, metric = counted(of.grid, of.experiment, of.dataset), of.data.metrics[0]
    counts = of.config(cells[0]).label_counts
    drawn = style.canvas(narrow, LABELS_INCHES * (2 if narrow else 1) + 0.3 * len(cells) / (2 if narrow else 4))
    panels = style.beside(drawn, 2, narrow, sharey=True)
    for axes, (readout, title) in zip(panels, READOUTS.items(), strict=True):
        for i, ref in enumerate(cells):
            _label_line(axes, of, ref, readout, SPREAD * ((i + 0.5) / len(cells) - 0.5))
        axes.set_xticks(range(len(counts) + 1), [*map(str, counts), "all"])
        axes.set(
            title=title,
            xlabel="labels per class",
            ylabel=f"test {short_title(metric).lower()}{measure(metric).heading}",
        )
    panels[1].set_ylabel(panels[1].get_ylabel() if narrow else "")
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


def _gains_caption(of: Scope) -> str:
    seeds = sorted({len(of.grid.seeds_of(p.dataset)) for c in shown_columns(of.grid, of.experiment) for p in c.parts})
    n = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        f"{of.spec.title}: what training adds. Linear-probe test score minus that of the same readout of the same "
        "network, untrained, paired by seed. Filled: encoders side by side; hollow: fused embedding. Marks: mean of "
        f"{n} seeds; lines: {LEVEL_NAME} t interval over seeds."
    )


def _some_twin(grid: Grid, experiment: str, dataset: str) -> bool:
    names = {(d, c.method, c.variant) for d, c in grid.experiment_cells(experiment)}
    return any((d, m, untrained_twin(v)) in names for d, m, v in names)


@figure("gains", section="columns", caption=_gains_caption, possible=_some_twin)
def gains(of: Scope, narrow: bool) -> style.Figure:
    """A panel per column, a row per method that has its untrained twin among the cells."""
    matrix = build_matrix(of.evidence, of.experiment)
    there = {at: gain for at in matrix.gains if (gain := matrix.gain(*at))}
    rows = [label for label in matrix.labels if any(label == at[0] for at in there)]
    columns = sorted({at[1] for at in there})
    k = 1 if narrow else min(len(columns), MOST_COLUMNS)
    drawn = style.canvas(narrow, (len(rows) * ROW_INCHES + PANEL_INCHES) * -(-len(columns) // k) + 0.3)
    colours = style.method_colours(of.grid.methods)
    for axes, c in zip(style.tiled(drawn, len(columns), k, sharey=True), columns, strict=True):
        axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
        for y, label in enumerate(rows):
            colour = colours[matrix.method_of(label)]
            for readout, aside in ((ENCODERS, -0.14), (OWN, 0.14)):
                if (label, c, readout) in there:
                    gain = shown(there[label, c, readout], matrix.measures[c])
                    style.interval_line(axes, y + aside, gain.low, gain.high, colour, 1.4)
                    face = colour if readout == ENCODERS else "white"
                    axes.scatter(gain.mean, y + aside, s=18, facecolor=face, edgecolor=colour, zorder=4)
        style.labelled_rows(axes, rows)
        of_column = matrix.measures[c]
        axes.set(title=matrix.columns[c].title, xlabel=f"gain{' (points)' if of_column.percent else ''}")
    look: dict[str, Any] = {"marker": "o", "linestyle": "", "color": style.SOFT, "markersize": 4.5}
    handles = [
        style.handle(READOUTS[ENCODERS], **look),
        style.handle(READOUTS[OWN], markerfacecolor="white", **look),
        style.handle(f"{LEVEL_NAME} interval over seeds", color=style.SOFT, linewidth=1.4),
    ]
    style.legend(drawn, handles, 1 if narrow else 3)
    return drawn

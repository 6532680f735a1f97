"""What a defect is worth in ranks, and whether validation ranks methods as the test split does."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmcontrast.config import CellRef
from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.across import Reversal, rank_agreement, reversals
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.tables.matrix import build_matrix
from mmcontrast.report.text.wording import LEVEL_NAME, count

LINE_INCHES, PANEL_INCHES, TAU_INCHES = 0.14, 0.75, 0.24


def priced(of: Scope) -> dict[tuple[str, str], Reversal]:
    """(dataset, label of a contrast) -> how often the switch reverses its method's order with another method.

    The methods it is ranked with are the experiment's cells of other methods on the dataset, as they are: none of a
    contrast's `cell`. Of contrasts of two cells of one method, scored on the same seeds.
    """
    found = {}
    for c in of.spec.contrasts:
        method, _, variant = c.against.partition("/")
        if c.protocol != "selected" or not c.cell.startswith(f"{method}/") or c.dataset not in of.grid.dataset_names:
            continue
        at = Scope(of.evidence, of.experiment, c.dataset)
        metric = c.metric or at.data.metrics[0]
        changed = {x.cell for x in of.spec.contrasts if x.protocol == "selected"}
        rivals = [r for r in at.cells if r.method != method and f"{r.method}/{r.variant}" not in changed]
        refs = [CellRef(method=method, variant=variant), CellRef(method=method, variant=c.cell.partition("/")[2])]
        scores = [at.scores(ref, metric) for ref in [*refs, *rivals]]
        seeds = sorted(set.intersection(*(set(s) for s in scores)))
        if rivals and seeds:
            table_SK = np.array([[s[seed] for s in scores] for seed in seeds])
            of_it = reversals(table_SK[:, 0], table_SK[:, 1], table_SK[:, 2:], measure(metric).sign)
            found[c.dataset, c.label] = of_it
    return found


def _reversals_caption(of: Scope) -> str:
    return (
        f"{of.spec.title}, in ranks: share of bootstrap replicates over seeds, and of other methods on the dataset, in "
        "which the change reverses which of the two is better (bars), and in which other draws of the seeds alone "
        "reverse it (black marks). A change whose bar does not pass its mark is worth no more than the choice of seeds."
    )


@figure("reversals", section="contrasts", caption=_reversals_caption, possible=lambda grid, *_: not grid.lost)
def reversed_pairs(of: Scope, narrow: bool) -> style.Figure:
    """A row per contrast of two cells of one method."""
    found = priced(of)
    labels = [style.wrapped(f"{label}, {of.grid.datasets[d].title}") for d, label in found]
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    drawn = style.canvas(narrow, LINE_INCHES * (lines + 0.7) * len(found) + PANEL_INCHES)
    axes = drawn.subplots()
    for y, reversal in enumerate(found.values()):
        axes.barh(y, 100 * reversal.changed, 0.5, color=style.PALETTE[0])
        axes.plot([100 * reversal.seeds] * 2, [y - 0.36, y + 0.36], color=style.INK, linewidth=1.8, zorder=4)
        axes.text(
            1.01, y, count(reversal.pairs, "pair"), transform=axes.get_yaxis_transform(), va="center", fontsize=6.5
        )
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
        sides = [[scores[x, c] for x in labels] for scores in (matrix.on_val, matrix.scores)]
        seeds = sorted(set.intersection(*(set(s) for side in sides for s in side))) if labels else []
        if len(labels) > 1 and seeds:
            val_SK, test_SK = (np.array([[s[seed] for s in side] for seed in seeds]) for side in sides)
            found[column.title] = rank_agreement(val_SK, test_SK)
    return found


def _agreement_caption(of: Scope) -> str:
    return (
        f"{of.spec.title}: does validation rank methods as the test split does? Kendall's tau of the methods' means "
        f"over seeds, rows pretrained without labels; lines: where {LEVEL_NAME} of replicates over seeds lie. "
        "1: the same order; 0: none in common."
    )


@figure("agreement", section="columns", caption=_agreement_caption, possible=lambda grid, *_: not grid.lost)
def agreement(of: Scope, narrow: bool) -> style.Figure:
    """A row per column of the matrix."""
    found = agreements(of)
    drawn = style.canvas(narrow, TAU_INCHES * len(found) + PANEL_INCHES)
    axes = drawn.subplots()
    for y, tau in enumerate(found.values()):
        style.interval_line(axes, y, tau.low, tau.high, style.PALETTE[0])
        axes.scatter(tau.mean, y, s=26, color=style.PALETTE[0], zorder=4)
    axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
    style.labelled_rows(axes, list(found))
    axes.set(xlim=(-1.05, 1.05), xlabel="Kendall's tau of validation and test")
    return drawn

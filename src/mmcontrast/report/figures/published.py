"""Published numbers against ours, with the verdict on each."""

import textwrap
from typing import Any

import numpy as np

from mmcontrast.config import Grid
from mmcontrast.config.metrics import measure
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.tables.published import reproductions
from mmcontrast.report.text.wording import LEVEL_NAME, metric_title

LINE_INCHES, PANEL_INCHES, VERDICT_INCHES = 0.14, 0.6, 0.6
LABEL_CHARACTERS = {False: 40, True: 22}
SHORT = {"selected": "selected", "last": "last epoch", "optimistic": "optimistic"}


def _some_published(grid: Grid, experiment: str, dataset: str) -> bool:
    on_it = {(c.method, c.variant) for c in grid.cells_on(experiment, dataset)}
    return any(p.dataset == dataset and (p.method, p.variant) in on_it for p in grid.published(experiment).rows)


@figure(
    "published",
    by_default=lambda grid, e, d: grid.experiments[e].kind == "table" and grid.experiments[e].information is None,
    possible=_some_published,
)
def published(of: Scope, narrow: bool) -> style.Figure:
    """A panel per metric; a row per number and protocol, with theirs, ours and the verdict."""
    pairs = reproductions(of.evidence, of.experiment)
    lines = [r for pair in pairs for r in pair if r is not None and r.of.dataset == of.dataset]
    rows_of = {metric: [r for r in lines if r.metric == metric] for metric in dict.fromkeys(r.metric for r in lines)}
    said = {id(r): f"{r.row.row} / {r.of.label(r.ref)}, {SHORT[r.protocol]}" for r in lines}
    names = {of_it: textwrap.fill(name, LABEL_CHARACTERS[narrow]) for of_it, name in said.items()}
    row_inches = LINE_INCHES * (1.4 + max(name.count("\n") + 1 for name in names.values()))
    drawn = style.canvas(narrow, row_inches * len(lines) + PANEL_INCHES * len(rows_of) + 0.3)
    drawn.set_layout_engine("constrained", rect=(0, 0, 1 - VERDICT_INCHES / drawn.get_figwidth(), 1))
    sizes = [len(rows) for rows in rows_of.values()]
    panels = drawn.subplots(len(sizes), 1, squeeze=False, height_ratios=sizes).ravel()
    colours = style.method_colours(of.grid.methods)
    for axes, (metric, rows) in zip(panels, rows_of.items(), strict=True):
        for y, r in enumerate(rows):
            colour, sd = colours[r.ref.method], r.row.spread.get(metric, np.nan)
            style.interval_line(axes, y - 0.13, r.published - sd, r.published + sd, style.SOFT, 1.4)
            axes.scatter(r.published, y - 0.13, s=22, marker="D", facecolor="white", edgecolor=style.INK, zorder=4)
            style.dot(axes, y + 0.13, r.ours, colour, 22, 2.2)
            verdict = style.beside(axes, y, r.verdict.replace("cannot be ", "cannot be\n"))
            verdict.set_in_layout(False)  # its room is kept by `rect`
        style.labelled_rows(axes, [names[id(r)] for r in rows])
        axes.set(xlabel=metric_title(metric, of.data) + measure(metric).heading)
        axes.margins(x=0.06)
    diamond: dict[str, Any] = {"marker": "D", "linestyle": "", "markerfacecolor": "white", "markersize": 4.5}
    dot: dict[str, Any] = {"marker": "o", "color": style.SOFT, "markersize": 4.5, "linewidth": 2.2}
    handles = [
        style.handle("theirs, and one standard deviation", color=style.INK, **diamond),
        style.handle(f"ours, mean and {LEVEL_NAME} interval", **dot),
    ]
    style.legend(drawn, handles, 1 if narrow else 2)
    return drawn

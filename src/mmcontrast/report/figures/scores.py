"""Dots with intervals: scores of an experiment's cells, and their paired differences to the reference."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmcontrast.config import CellRef, Grid
from mmcontrast.report.figures.style import FAINT, INK, NARROW, SOFT, WIDE, method_colours
from mmcontrast.report.outputs import is_probed
from mmcontrast.report.summary import differences, lookup, percent, seed_scores, summarise
from mmcontrast.report.text.conclusions import n_test_cases
from mmcontrast.report.text.wording import (
    LEVEL_NAME,
    cell_label,
    charted_metrics,
    count,
    find_cell,
    metric_title,
    p_value,
)

ROW_INCHES, LINE_INCHES = 0.29, 0.14
PANEL_INCHES = 0.55
LEGEND_INCHES = 0.19
LABEL_CHARACTERS = 22
# of all panel titles, and of all labels of x axes, beside one another
TITLE_CHARACTERS, AXIS_CHARACTERS = 66, 84
P_STYLE: dict[str, Any] = {"fontsize": 6.5, "color": SOFT, "va": "center"}
SEED_STYLE: dict[str, Any] = {"s": 5, "alpha": 0.4, "linewidths": 0, "zorder": 2}


@dataclass(frozen=True)
class Data:
    """What a figure of one experiment and dataset is drawn from.

    Attributes:
        summary: of this experiment. intervals: over seeds and test cases, of all cells.
    """

    grid: Grid
    experiment: str
    dataset: str
    results: pl.DataFrame
    summary: pl.DataFrame
    intervals: pl.DataFrame

    @classmethod
    def of(cls, grid: Grid, experiment: str, dataset: str, results: pl.DataFrame, intervals: pl.DataFrame) -> Data:
        """With the summary worked out."""
        summary = summarise(results.filter(experiment=experiment, dataset=dataset))
        return cls(grid, experiment, dataset, results, summary, intervals)

    @property
    def cells(self) -> list[CellRef]:
        """The experiment's cells on the dataset, in its order."""
        return self.grid.cells_on(self.experiment, self.dataset)

    @property
    def metrics(self) -> list[str]:
        """What there is a panel for, the selecting metric first."""
        return charted_metrics(self.grid.datasets[self.dataset], self.grid.experiments[self.experiment].views)

    @property
    def n_seeds(self) -> int:
        """Seeds of every cell."""
        return len(self.grid.seeds_of(self.dataset))

    @property
    def n_cases(self) -> int:
        """Size of the test split."""
        return n_test_cases(self.summary, self.dataset)

    def colour(self, ref: CellRef) -> str:
        """The colour of a cell's method."""
        return method_colours(self.grid.methods)[ref.method]


def wrapped(label: str) -> str:
    """A row label over as many lines as it takes."""
    return textwrap.fill(label, LABEL_CHARACTERS)


def _panels(data: Data, labels: list[str], axis: str, legend_lines: int, narrow: bool) -> tuple[Figure, list[Axes]]:
    """One panel a metric: side by side with shared rows, or one below the other on a narrow page.

    Args:
        axis: label of the x axis, `_title` of the panels likewise in as many lines as they take.
    """
    k = len(data.metrics)
    lines = max(wrapped(label).count("\n") + 1 for label in labels)
    further = max(_title(data, metric, narrow).count("\n") for metric in data.metrics) + axis.count("\n")
    panel = len(labels) * max(ROW_INCHES, lines * LINE_INCHES) + PANEL_INCHES + further * LINE_INCHES
    height = panel * (k if narrow else 1) + legend_lines * LEGEND_INCHES
    figure = Figure(figsize=(NARROW if narrow else WIDE, height))
    grid = figure.subplots(k, 1, squeeze=False) if narrow else figure.subplots(1, k, squeeze=False, sharey=True)
    return figure, list(grid.ravel())


def _title(data: Data, metric: str, narrow: bool) -> str:
    """A panel's title, in as many lines as its width asks for."""
    title = metric_title(metric, data.grid.datasets[data.dataset])
    return title if narrow else textwrap.fill(title, TITLE_CHARACTERS // len(data.metrics))


def _rows(axes: Axes, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), [wrapped(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _line(axes: Axes, y: float, low: float, high: float, colour: str, width: float) -> None:
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [y, y], color=colour, linewidth=width, solid_capstyle="butt", zorder=3)


def score_chart(data: Data, narrow: bool = False) -> Figure:
    """Every cell's test score by metric: selected, optimistic, and published where there is one."""
    handles = _score_legend(data)
    labels = [cell_label(data.grid, ref) for ref in data.cells]
    axis = "test score (%)"
    figure, panels = _panels(data, labels, axis, len(handles) if narrow else -(-len(handles) // 2), narrow)
    for axes, metric in zip(panels, data.metrics, strict=True):
        for y, ref in enumerate(data.cells):
            _score_row(axes, data, ref, metric, y)
        _rows(axes, labels)
        axes.set_title(_title(data, metric, narrow))
        axes.set_xlabel(axis)
        axes.margins(x=0.06)
    figure.legend(handles=handles, loc="outside lower left", ncols=1 if narrow else 2, handlelength=1.8)
    return figure


def _score_row(axes: Axes, data: Data, ref: CellRef, metric: str, y: int) -> None:
    colour = data.colour(ref)
    protocol = "selected" if lookup(data.summary, data.dataset, ref, "selected", metric) else "last"
    score = lookup(data.summary, data.dataset, ref, protocol, metric)
    wide = lookup(data.intervals, data.dataset, ref, protocol, metric)
    best = lookup(data.summary, data.dataset, ref, "optimistic", metric)
    if score is not None:
        mean, low, high = percent(score)
        if wide is not None:
            _line(axes, y, *percent(wide)[1:], colour, 0.8)
        _line(axes, y, low, high, colour, 3.2)
        axes.scatter(mean, y, s=26, marker="o" if protocol == "selected" else "s", color=colour, zorder=4)
        seeds = seed_scores(data.results, data.experiment, data.dataset, ref, metric, protocol)
        axes.scatter([100 * v for v in seeds.values()], [y + 0.27] * len(seeds), color=colour, **SEED_STYLE)
    if best is not None:
        axes.scatter(100 * best.mean, y, s=24, facecolor="white", edgecolor=colour, linewidths=1.1, zorder=4.5)
    for printed in data.grid.experiments[data.experiment].published:
        same = (printed.dataset, printed.method, printed.variant) == (data.dataset, ref.method, ref.variant)
        if same and metric in printed.values:
            value = printed.values[metric]
            axes.plot([value, value], [y - 0.38, y + 0.38], color=INK, linewidth=1.6, zorder=5)


def _score_legend(data: Data) -> list[Line2D]:
    grid, spec = data.grid, data.grid.experiments[data.experiment]
    protocols = set(data.summary["protocol"])
    last_alone = any(
        lookup(data.summary, data.dataset, ref, "last", data.metrics[0])
        and not lookup(data.summary, data.dataset, ref, "selected", data.metrics[0])
        for ref in data.cells
    )
    probed = all(is_probed(grid, data.dataset, ref) for ref in data.cells)
    chosen = "linear probe" if probed else "epoch selected on validation"
    seeds = count(data.n_seeds, "seed")
    dot: dict[str, Any] = {"linestyle": "", "color": SOFT, "markersize": 5.5}
    handles = []
    if "selected" in protocols:
        handles.append(Line2D([], [], marker="o", label=f"{chosen}, mean of {seeds}", **dot))
    if last_alone:
        handles.append(Line2D([], [], marker="s", label=f"last epoch (no validation split), mean of {seeds}", **dot))
    handles.append(Line2D([], [], marker=".", linestyle="", color=SOFT, alpha=0.5, label="single seeds"))
    if data.n_seeds > 1:
        handles.append(Line2D([], [], color=SOFT, linewidth=3.2, label=f"{LEVEL_NAME} interval over seeds"))
    handles.append(
        Line2D(
            [], [], color=SOFT, linewidth=0.8, label=f"{LEVEL_NAME} interval over seeds and {data.n_cases} test cases"
        )
    )
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": SOFT, "linestyle": "", "markersize": 5}
    if "optimistic" in protocols:
        handles.append(Line2D([], [], marker="o", label="optimistic: best epoch on the test split", **hollow))
    if any(
        p.dataset == data.dataset and find_cell(grid, data.experiment, p.method or "", p.variant)
        for p in spec.published
    ):
        handles.append(
            Line2D([], [], marker="|", markersize=9, markeredgewidth=1.6, linestyle="", color=INK, label="published")
        )
    return handles


def difference_chart(data: Data, narrow: bool = False) -> Figure:
    """Selected test score of each cell minus the reference's, by seed."""
    reference = data.grid.experiments[data.experiment].reference or data.cells[0]
    others = [c for c in data.cells if (c.method, c.variant) != (reference.method, reference.variant)]
    name = cell_label(
        data.grid, find_cell(data.grid, data.experiment, reference.method, reference.variant) or reference
    )
    handles = [
        Line2D(
            [], [], marker="o", linestyle="", color=SOFT, markersize=5.5, label=f"mean of {count(data.n_seeds, 'seed')}"
        ),
        Line2D([], [], marker=".", linestyle="", color=SOFT, alpha=0.5, label="single seeds"),
        Line2D([], [], color=SOFT, linewidth=3.2, label=f"{LEVEL_NAME} interval over seeds"),
        Line2D([], [], linestyle="", label="p: paired t-test, Holm's correction"),
    ]
    labels = [cell_label(data.grid, ref) for ref in others]
    axis = f"difference to {name} (points)"
    if not narrow:
        axis = textwrap.fill(axis, AXIS_CHARACTERS // len(data.metrics))
    figure, panels = _panels(data, labels, axis, len(handles) if narrow else 1, narrow)
    for axes, metric in zip(panels, data.metrics, strict=True):
        frame = differences(data.results, data.experiment, data.dataset, metric, data.cells, reference)
        against = seed_scores(data.results, data.experiment, data.dataset, reference, metric)
        axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        for y, ref in enumerate(others):
            scores = seed_scores(data.results, data.experiment, data.dataset, ref, metric)
            _difference_row(
                axes, frame.filter(method=ref.method, variant=ref.variant), scores, against, data.colour(ref), y
            )
        _rows(axes, labels)
        axes.set_title(_title(data, metric, narrow))
        axes.set_xlabel(axis)
        axes.text(1.01, -0.62, "p", transform=axes.get_yaxis_transform(), **P_STYLE)
        axes.margins(x=0.06)
    figure.legend(handles=handles, loc="outside lower left", ncols=1 if narrow else 4, handlelength=1.8)
    return figure


def _difference_row(
    axes: Axes, row: pl.DataFrame, scores: dict[int, float], against: dict[int, float], colour: str, y: int
) -> None:
    if not len(row):
        return
    mean, low, high = percent(row.select("mean", "low", "high").row(0))
    _line(axes, y, low, high, colour, 3.2)
    axes.scatter(mean, y, s=26, color=colour, zorder=4)
    common = sorted(scores.keys() & against.keys())
    axes.scatter([100 * (scores[s] - against[s]) for s in common], [y + 0.27] * len(common), color=colour, **SEED_STYLE)
    axes.text(1.01, y, p_value(row["p_holm"][0]), transform=axes.get_yaxis_transform(), **P_STYLE)
    axes.axhline(y + 0.5, color=FAINT, linewidth=0.5, zorder=0)

"""Figures on negative sampling: what alpha does, how a search went, and what each modality is worth to an embedding."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmcontrast.config import CellRef, Grid
from mmcontrast.errors import ConfigError
from mmcontrast.evaluation.reward_study import study_reward
from mmcontrast.evaluation.statistics import over_seeds
from mmcontrast.evaluation.views import metric_name, without
from mmcontrast.report.figures.style import CLASS_COLOURS, INK, NARROW, SOFT, WIDE
from mmcontrast.report.summary import seed_scores
from mmcontrast.report.text.wording import cell_label, charted_metrics, metric_title

PANEL_INCHES, LEGEND_INCHES, ROW_INCHES = 2.0, 0.35, 0.32


@dataclass(frozen=True)
class Sampling:
    """What a figure of one experiment and dataset is drawn from. history: of a cell, as training logged it."""

    grid: Grid
    experiment: str
    dataset: str
    results: pl.DataFrame
    history: Callable[[CellRef], pl.DataFrame]

    @property
    def cells(self) -> list[CellRef]:
        """The experiment's cells on the dataset, in its order."""
        return self.grid.cells_on(self.experiment, self.dataset)

    @property
    def colours(self) -> dict[str, str]:
        """Modality -> colour."""
        return dict(zip(self.grid.datasets[self.dataset].modalities, CLASS_COLOURS, strict=False))

    def objective(self, ref: CellRef) -> dict[str, Any]:
        """What a cell minimises."""
        return self.grid.cell(self.dataset, ref.method, ref.variant).objective

    def scores(self, ref: CellRef, metric: str) -> list[float]:
        """Test scores of a cell's seeds, in percent, in the order of the seeds."""
        found = seed_scores(self.results, self.experiment, self.dataset, ref, metric)
        return [100 * found[s] for s in sorted(found)]

    def swept(self) -> dict[float, CellRef]:
        """alpha -> the cell that was trained with it for all modalities, ascending."""
        found: dict[float, CellRef] = {}
        for ref in self.cells:
            spec = self.objective(ref)
            alpha = spec.get("alpha")
            if isinstance(alpha, (int, float)) and spec.get("search") is None and not spec.get("dropping"):
                found.setdefault(float(alpha), ref)
        return dict(sorted(found.items()))

    def searched(self, kind: str) -> CellRef | None:
        """The first cell with a search of that kind."""
        return next((c for c in self.cells if (self.objective(c).get("search") or {}).get("kind") == kind), None)

    def searched_strength(self) -> CellRef | None:
        """The first cell whose search is over the augmentations too."""
        return next((c for c in self.cells if (self.objective(c).get("search") or {}).get("beta")), None)


def panels(n: int, narrow: bool) -> tuple[Figure, list[Axes]]:
    """Side by side, or below one another on a narrow page."""
    size = (NARROW, n * PANEL_INCHES + LEGEND_INCHES) if narrow else (WIDE, PANEL_INCHES + 0.4 + LEGEND_INCHES)
    figure = Figure(figsize=size)
    grid = figure.subplots(n, 1, squeeze=False) if narrow else figure.subplots(1, n, squeeze=False)
    return figure, list(grid.ravel())


def trial_rewards(history: pl.DataFrame, modality: str) -> dict[float, list[float]]:
    """alpha of a modality -> rewards by seed, of a grid search's first round."""
    first = history.filter(epoch=0)
    out: dict[float, list[float]] = {}
    for _, part in first.group_by("seed", maintain_order=True):
        values = dict(zip(part["name"], part["value"], strict=True))
        i = 0
        while f"search/trial{i}/reward" in values:
            alpha = values[f"search/trial{i}/alpha_{modality}"]
            out.setdefault(alpha, []).append(values[f"search/trial{i}/reward"])
            i += 1
    return dict(sorted(out.items()))


def alpha_figure(data: Sampling, narrow: bool) -> Figure:
    """Probe accuracy of every factor against alpha, and the search's reward against alpha."""
    swept, grid = data.swept(), data.searched("grid")
    figure, axes = panels(2 if grid else 1, narrow)
    alphas = list(swept)
    for metric, colour in zip(charted_metrics(data.grid.datasets[data.dataset]), CLASS_COLOURS, strict=False):
        estimates = [over_seeds(np.array(data.scores(ref, metric))) for ref in swept.values()]
        _line(axes[0], alphas, estimates, colour, metric_title(metric))
    axes[0].set_title("linear probe")
    axes[0].set_ylabel("test accuracy (%)")
    if grid:
        name = next(iter(data.grid.datasets[data.dataset].modalities))
        rewards = trial_rewards(data.history(grid), name)
        by_seed = np.array(list(rewards.values()))
        axes[1].plot(by_seed, color=INK, alpha=0.3, linewidth=0.7)
        axes[1].plot(by_seed.mean(1), color=INK, marker="o", markersize=3.5)
        axes[1].set_xticks(range(len(rewards)), [f"{v:g}" for v in rewards])
        axes[1].margins(y=0.2)
        axes[1].set_title("reward of the search")
        axes[1].set_ylabel("sum of crossmodal accuracies")
        common = [a for a in alphas if a in rewards]
        if len(common) > 1 and len(data.grid.seeds_of(data.dataset)) > 1:
            _agreement(axes[1], data, [rewards[a] for a in common], [swept[a] for a in common])
    for one in axes:
        one.set_xlabel("alpha, the same for every modality")
    figure.legend(handles=axes[0].get_legend_handles_labels()[0], loc="outside lower left", ncols=2 if narrow else 4)
    return figure


def _line(axes: Axes, x: list[float], estimates: list[Any], colour: str, label: str) -> None:
    """Means with intervals, at places evenly spaced whatever the numbers are."""
    place = np.arange(len(x))
    mean, low, high = (np.array([e[i] for e in estimates]) for i in range(3))
    axes.vlines(place, low, high, color=colour, linewidth=1.0)
    axes.plot(place, mean, color=colour, marker="o", markersize=3.5, label=label)
    axes.set_xticks(place, [f"{v:g}" for v in x])


def _agreement(axes: Axes, data: Sampling, rewards: list[list[float]], cells: list[CellRef]) -> None:
    metric = data.grid.datasets[data.dataset].metrics[0]
    found = study_reward(np.array(rewards), np.array([data.scores(ref, metric) for ref in cells]))
    text = (
        f"rank correlation with accuracy {found.rank_correlation:+.2f}; "
        f"sd of means over alpha {found.between:.3f}, of one seed {found.within:.3f}"
    )
    axes.text(0.02, 0.97, textwrap.fill(text, 46), transform=axes.transAxes, va="top", fontsize=6.5, color=SOFT)


def search_figure(data: Sampling, narrow: bool) -> Figure:
    """The path of alpha by modality, and the reward of the trials, over the rounds of a search.

    And the path of the augmentations' strength, where a cell of the experiment searches that too.
    """
    ref = data.searched("reinforce")
    if ref is None:
        raise ConfigError(f"params/experiments/{data.experiment}.yaml: figures: search: no cell searches by reinforce")
    both = data.searched_strength()
    figure, axes = panels(3 if both else 2, narrow)
    history = data.history(ref)
    for modality, colour in data.colours.items():
        path = history.filter(name=f"search/alpha_{modality}")
        for _, part in path.group_by("seed", maintain_order=True):
            axes[0].plot(part["epoch"], part["value"], color=colour, alpha=0.3, linewidth=0.7)
        mean = path.group_by("epoch").agg(pl.col("value").mean()).sort("epoch")
        axes[0].plot(mean["epoch"], mean["value"], color=colour, label=modality)
    by_name = {
        end: history.filter(name=f"search/reward{end}").group_by("epoch").agg(pl.col("value").mean()).sort("epoch")
        for end in ("", "_low", "_high")
    }
    axes[1].fill_between(
        by_name[""]["epoch"], by_name["_low"]["value"], by_name["_high"]["value"], color=INK, alpha=0.2, linewidth=0
    )
    axes[1].plot(by_name[""]["epoch"], by_name[""]["value"], color=INK)
    if both:
        path = data.history(both).filter(name="search/beta")
        for _, part in path.group_by("seed", maintain_order=True):
            axes[2].plot(part["epoch"], part["value"], color=INK, alpha=0.3, linewidth=0.7)
        mean = path.group_by("epoch").agg(pl.col("value").mean()).sort("epoch")
        axes[2].plot(mean["epoch"], mean["value"], color=INK)
    titles = ("path of the search", "reward", "strength of augmentations")
    for one, title, what in zip(
        axes, titles, ("alpha", "sum of crossmodal accuracies", "beta, factor on the noise"), strict=False
    ):
        one.set_title(title)
        one.set_xlabel("round")
        one.set_ylabel(what)
    figure.legend(handles=axes[0].get_legend_handles_labels()[0], loc="outside lower left", ncols=3 if narrow else 6)
    return figure


def similarity_figure(data: Sampling, narrow: bool) -> Figure:
    """Cosine of the anchor with its positive and with its own disturbed tuples, by epoch, a panel a cell."""
    cells = [c for c in data.cells if len(data.history(c).filter(name="train/positive_similarity"))]
    figure, axes = panels(max(1, len(cells)), narrow)
    lines = {"positive_similarity": (INK, "positive")}
    lines |= {f"own_similarity_{m}": (c, f"{m} of another row") for m, c in data.colours.items()}
    for ref, one in zip(cells, axes, strict=False):
        history = data.history(ref)
        for name, (colour, label) in lines.items():
            part = history.filter(name=f"train/{name}").group_by("epoch").agg(pl.col("value").mean()).sort("epoch")
            one.plot(part["epoch"], part["value"], color=colour, label=label)
        one.set_title(cell_label(data.grid, ref), fontsize=7.5)
        one.set_xlabel("epoch")
        one.sharey(axes[0])
    axes[0].set_ylabel("cosine with the anchor")
    figure.legend(handles=axes[0].get_legend_handles_labels()[0], loc="outside lower left", ncols=2 if narrow else 4)
    return figure


def removed_figure(data: Sampling, narrow: bool) -> Figure:
    """Accuracy of the whole embedding and of what is left without each modality, a row a cell."""
    metric = data.grid.datasets[data.dataset].metrics[0]
    cells = [c for c in data.cells if data.scores(c, metric)]
    figure = Figure(figsize=(NARROW if narrow else WIDE, ROW_INCHES * len(cells) + 0.7 + LEGEND_INCHES))
    axes = figure.subplots()
    for y, ref in enumerate(cells):
        axes.scatter(np.mean(data.scores(ref, metric)), y, color=INK, s=26, zorder=3)
        for i, (modality, colour) in enumerate(data.colours.items()):
            found = data.scores(ref, metric_name(metric, view=without(modality)))
            if found:
                mean, low, high = over_seeds(np.array(found))
                at = y + 0.12 + 0.1 * i * 3 / len(data.colours)
                axes.plot([low, high], [at, at], color=colour, linewidth=1.2)
                axes.scatter(mean, at, color=colour, s=12, zorder=3)
    axes.set_yticks(range(len(cells)), [cell_label(data.grid, c) for c in cells], fontsize=7)
    axes.set_ylim(len(cells) - 0.4, -0.5)
    axes.set_xlabel(f"test {metric_title(metric).lower()} (%)")
    handles = [Line2D([], [], marker="o", linestyle="", color=INK, label="all modalities")]
    handles += [
        Line2D([], [], marker="o", markersize=3.5, color=c, label=f"without {m}") for m, c in data.colours.items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2 if narrow else 4)
    return figure


FIGURES: dict[str, Callable[[Sampling, bool], Figure]] = {
    "alpha": alpha_figure,
    "search": search_figure,
    "similarity": similarity_figure,
    "removed": removed_figure,
}

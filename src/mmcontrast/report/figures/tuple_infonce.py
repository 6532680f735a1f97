"""Figures on negative sampling: the effect of alpha, the course of a search, the weight of each modality."""

import textwrap
from typing import Any

import numpy as np
import polars as pl

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.metrics import metric_name
from mmcontrast.errors import ConfigError
from mmcontrast.evaluation.across import study_reward
from mmcontrast.evaluation.columns import without
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.cells import over_seeds_by_epoch
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.results import shown
from mmcontrast.report.text.wording import charted_metrics, metric_title

PANEL_INCHES, LEGEND_INCHES, ROW_INCHES = 2.0, 0.35, 0.32
REWARD_AXIS = "sum of crossmodal accuracies"


def _colours(of: Scope) -> dict[str, str]:
    return dict(zip(of.data.modalities, style.CLASS_COLOURS, strict=False))


def _percents(of: Scope, ref: CellRef, metric: str) -> list[float]:
    return [100 * value for _, value in sorted(of.scores(ref, metric).items())]


def swept(of: Scope) -> dict[float, CellRef]:
    """alpha -> the cell that was trained with it for all modalities, ascending."""
    found: dict[float, CellRef] = {}
    for ref in of.cells:
        objective = of.config(ref).objective
        alpha = objective.get("alpha")
        if isinstance(alpha, (int, float)) and objective.get("search") is None and not objective.get("dropping"):
            found.setdefault(float(alpha), ref)
    return dict(sorted(found.items()))


def _searched(of: Scope, key: str, values: tuple[Any, ...] = ()) -> CellRef | None:
    """The first cell whose search has one of these values, or any, under the key."""
    for ref in of.cells:
        found = (of.config(ref).objective.get("search") or {}).get(key)
        if found and (not values or found in values):
            return ref
    return None


def _panels(n: int, narrow: bool) -> tuple[style.Figure, list[style.Axes]]:
    drawn = style.canvas(narrow, n * PANEL_INCHES + LEGEND_INCHES if narrow else PANEL_INCHES + 0.4 + LEGEND_INCHES)
    return drawn, style.tiled(drawn, n, 1 if narrow else n)


def _paths(axes: style.Axes, history: pl.DataFrame, name: str, colour: str, label: str | None = None) -> None:
    logged = history.filter(name=name)
    for _, part in logged.group_by("seed", maintain_order=True):
        axes.plot(part["epoch"], part["value"], color=colour, alpha=0.3, linewidth=0.7)
    mean = over_seeds_by_epoch(logged)
    axes.plot(mean["epoch"], mean["mean"], color=colour, label=label)


def trial_rewards(history: pl.DataFrame, modality: str) -> dict[float, list[float]]:
    """alpha of a modality -> rewards by seed, of a grid search's first round."""
    out: dict[float, list[float]] = {}
    for _, part in history.filter(epoch=0).group_by("seed", maintain_order=True):
        values = dict(zip(part["name"], part["value"], strict=True))
        i = 0
        while f"search/trial{i}/reward" in values:
            alpha = values[f"search/trial{i}/alpha_{modality}"]
            out.setdefault(alpha, []).append(values[f"search/trial{i}/reward"])
            i += 1
    return dict(sorted(out.items()))


@figure("alpha")
def alpha(of: Scope, narrow: bool) -> style.Figure:
    """Probe accuracy of every factor against alpha, and the search's reward against alpha."""
    cells, searching = swept(of), _searched(of, "kind", ("grid",))
    drawn, axes = _panels(2 if searching else 1, narrow)
    place = np.arange(len(cells))
    for metric, colour in zip(charted_metrics(of.data), style.CLASS_COLOURS, strict=False):
        estimates = [shown(found) for ref in cells.values() if (found := of.mean(ref, metric)) is not None]
        mean, low, high = np.array(estimates).T
        axes[0].vlines(place, low, high, color=colour, linewidth=1.0)
        axes[0].plot(place, mean, color=colour, marker="o", markersize=3.5, label=metric_title(metric))
    axes[0].set_xticks(place, [f"{v:g}" for v in cells])
    axes[0].set(title="linear probe", ylabel="test accuracy (%)")
    if searching:
        rewards = trial_rewards(of.history(searching), next(iter(of.data.modalities)))
        by_seed = np.array(list(rewards.values()))
        axes[1].plot(by_seed, color=style.INK, alpha=0.3, linewidth=0.7)
        axes[1].plot(by_seed.mean(1), color=style.INK, marker="o", markersize=3.5)
        axes[1].set_xticks(range(len(rewards)), [f"{v:g}" for v in rewards])
        axes[1].margins(y=0.2)
        axes[1].set(title="reward of the search", ylabel=REWARD_AXIS)
        common = [a for a in cells if a in rewards]
        if len(common) > 1 and of.n_seeds > 1:
            _agreement(axes[1], of, [rewards[a] for a in common], [cells[a] for a in common])
    for one in axes:
        one.set_xlabel("alpha, the same for every modality")
    style.legend(drawn, axes[0].get_legend_handles_labels()[0], 2 if narrow else 4)
    return drawn


def _agreement(axes: style.Axes, of: Scope, rewards: list[list[float]], cells: list[CellRef]) -> None:
    metric = of.data.metrics[0]
    found = study_reward(np.array(rewards), np.array([_percents(of, ref, metric) for ref in cells]))
    text = (
        f"rank correlation with accuracy {found.rank_correlation:+.2f}; "
        f"sd of means over alpha {found.between:.3f}, of one seed {found.within:.3f}"
    )
    axes.text(0.02, 0.97, textwrap.fill(text, 46), transform=axes.transAxes, va="top", fontsize=6.5, color=style.SOFT)


def _some_search(grid: Grid, experiment: str, dataset: str) -> bool:
    """In a partial report no cell with a search may be left."""
    there = (grid.cell(dataset, c.method, c.variant) for c in grid.cells_on(experiment, dataset))
    return not grid.lost or any(cell.objective.get("search") for cell in there)


@figure("search", possible=_some_search)
def search(of: Scope, narrow: bool) -> style.Figure:
    """Alpha by modality and the trials' reward over a search's rounds, and the augmentations' strength if searched."""
    ref, both = _searched(of, "kind", ("reinforce",)), _searched(of, "beta")
    if ref is None:
        raise ConfigError(f"params/experiments/{of.experiment}.yaml: figures: search: no cell searches by reinforce")
    drawn, axes = _panels(3 if both else 2, narrow)
    history = of.history(ref)
    for modality, colour in _colours(of).items():
        _paths(axes[0], history, f"search/alpha_{modality}", colour, modality)
    terms = (over_seeds_by_epoch(history.filter(name=f"search/reward{end}")) for end in ("", "_low", "_high"))
    (epochs, mean), (_, low), (_, high) = (term.select("epoch", "mean") for term in terms)
    axes[1].fill_between(epochs, low, high, color=style.INK, alpha=0.2, linewidth=0)
    axes[1].plot(epochs, mean, color=style.INK)
    if both:
        _paths(axes[2], of.history(both), "search/beta", style.INK)
    titles = ("path of the search", "reward", "strength of augmentations")
    for one, title, what in zip(axes, titles, ("alpha", REWARD_AXIS, "beta, factor on the noise"), strict=False):
        one.set(title=title, xlabel="round", ylabel=what)
    style.legend(drawn, axes[0].get_legend_handles_labels()[0], 3 if narrow else 6)
    return drawn


@figure("similarity")
def similarity(of: Scope, narrow: bool) -> style.Figure:
    """Cosine of the anchor with its positive and with its own disturbed tuples, by epoch, a panel per cell."""
    histories = {c: of.history(c) for c in of.cells}
    histories = {c: h for c, h in histories.items() if len(h.filter(name="train/positive_similarity"))}
    drawn, axes = _panels(max(1, len(histories)), narrow)
    lines = {"positive_similarity": (style.INK, "positive")}
    lines |= {f"own_similarity_{m}": (c, f"{m} of another instance") for m, c in _colours(of).items()}
    for (ref, history), one in zip(histories.items(), axes, strict=False):
        for name, (colour, label) in lines.items():
            part = over_seeds_by_epoch(history.filter(name=f"train/{name}"))
            one.plot(part["epoch"], part["mean"], color=colour, label=label)
        one.set_title(of.label(ref), fontsize=7.5)
        one.set_xlabel("epoch")
        one.sharey(axes[0])
    axes[0].set_ylabel("cosine with the anchor")
    style.legend(drawn, axes[0].get_legend_handles_labels()[0], 2 if narrow else 4)
    return drawn


@figure("removed")
def removed(of: Scope, narrow: bool) -> style.Figure:
    """Accuracy of the whole embedding and of what is left without each modality, a row per cell."""
    metric, colours = of.data.metrics[0], _colours(of)
    cells = [c for c in of.cells if of.scores(c, metric)]
    drawn = style.canvas(narrow, ROW_INCHES * len(cells) + 0.7 + LEGEND_INCHES)
    axes = drawn.subplots()
    for y, ref in enumerate(cells):
        axes.scatter(np.mean(_percents(of, ref, metric)), y, color=style.INK, s=26, zorder=3)
        for i, (modality, colour) in enumerate(colours.items()):
            found = of.mean(ref, metric_name(metric, readout=without(modality)))
            if found is not None:
                mean, low, high = shown(found)
                at = y + 0.12 + 0.1 * i * 3 / len(colours)
                axes.plot([low, high], [at, at], color=colour, linewidth=1.2)
                axes.scatter(mean, at, color=colour, s=12, zorder=3)
    axes.set_yticks(range(len(cells)), [of.label(c) for c in cells], fontsize=7)
    axes.set(ylim=(len(cells) - 0.4, -0.5), xlabel=f"test {metric_title(metric).lower()} (%)")
    handles = [style.handle("all modalities", marker="o", linestyle="", color=style.INK)]
    handles += [style.handle(f"without {m}", marker="o", markersize=3.5, color=c) for m, c in colours.items()]
    style.legend(drawn, handles, 2 if narrow else 4)
    return drawn

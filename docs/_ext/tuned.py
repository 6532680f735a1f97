"""Trials of learning rates on the pages, read from params/tuning/ when the site is built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from written import Written

from mmcontrast.config import Grid
from mmcontrast.config.methods import Choice
from mmcontrast.config.metrics import measure
from mmcontrast.errors import nearest

ROOT = Path(__file__).parents[2]


class Tuning(Written):
    """Every trial of a recipe, a table per dataset."""

    required_arguments = 1

    def markdown(self) -> Iterator[str]:
        self.env.note_dependency(str(ROOT / f"params/tuning/{self.arguments[0]}.yaml"))
        yield from trials(Grid(ROOT), self.arguments[0])


def trials(grid: Grid, recipe: str) -> Iterator[str]:
    """Mean validation score of each rate, the chosen one in bold, and two spreads: over the rates and over seeds.

    Raises:
        ExtensionError: there are no trials of such a recipe.
    """
    if recipe not in grid.tunings:
        raise ExtensionError(f"params/tuning/: no '{recipe}'; {nearest(recipe, grid.tunings)}")
    for dataset, choices in grid.tunings[recipe].choices.items():
        rates = sorted({t.lr for choice in choices.values() for t in choice.trials})
        of = measure(next(iter(choices.values())).metric)
        seeds = max(len(t.validation) for choice in choices.values() for t in choice.trials)
        yield f"\n## {grid.datasets[dataset].title}\n\n{of.title} on validation{of.heading}, {seeds} tuning seeds.\n"
        yield f"| | {' | '.join(f'{lr:g}' for lr in rates)} | sd over rates | sd over seeds |"
        yield "|:---|" + "---:|" * (len(rates) + 2)
        for method, choice in choices.items():
            yield f"| {grid.methods[method].title} | {' | '.join(_row(choice, rates))} |"
        yield ""
        for method, choice in choices.items():
            if choice.reason is not None:
                yield f"- {grid.methods[method].title}, {choice.lr:g}: {choice.reason}."


def _row(choice: Choice, rates: list[float]) -> Iterator[str]:
    factor, found = measure(choice.metric).factor, {t.lr: t.validation for t in choice.trials}
    means = {lr: factor * fmean(scores) for lr, scores in found.items() if scores}
    for lr in rates:
        text = f"{means[lr]:.1f}" if lr in means else "diverged" if lr in found else ""
        yield f"**{text}**" if lr == choice.lr else text
    yield f"{stdev(means.values()):.1f}" if len(means) > 1 else ""
    of_chosen = found[choice.lr]
    yield f"{factor * stdev(of_chosen):.1f}" if len(of_chosen) > 1 else ""


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("tuning", Tuning)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

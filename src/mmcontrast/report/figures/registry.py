"""The kinds of figures: of each a function that draws it, its caption, and which experiments have it. `@figure("kind")`
over a function in this folder, and a macro of that name in `templates/captions.txt`, are all that a new kind takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mmcontrast.config import Grid
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import ALL, experiment_datasets
from mmcontrast.report.text.wording import told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Scope, bool], "Figure"]
Told = Callable[[Scope], dict[str, Any]]
Applies = Callable[[Grid, str, str], object]  # grid, experiment, dataset -> something true where it does


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        section: of a figure of all datasets together: the experiment's section that it shows.
        told: what its caption says that is not in the scope itself.
        by_default: which experiments have it that do not say what is drawn. possible: where there is something to draw.
        always: which experiments have it, whatever they say.
    """

    draw: Draw
    section: str
    told: Told = lambda of: {}
    by_default: Applies = lambda *_: False
    possible: Applies = lambda *_: True
    always: Applies = lambda *_: False


class FigureSpec(NamedTuple):
    """A figure of an experiment on one dataset, or on ALL; `name` is its file name without suffix."""

    name: str
    kind: str
    experiment: str
    dataset: str


KINDS: dict[str, Kind] = {}


def figure(kind: str, section: str = "", **of: Any) -> Callable[[Draw], Draw]:
    """Register what draws a kind of `figures:`; `config.experiments` parses `kind` and `section`. `of`: see `Kind`."""

    def register(draw: Draw) -> Draw:
        KINDS[kind] = Kind(draw, section, **of)
        return draw

    return register


def figures(grid: Grid, experiment: str) -> list[FigureSpec]:
    """The figures of an experiment: of all datasets together, then dataset by dataset."""
    asked = grid.experiments[experiment].figures
    together = [k for k in asked or [] if KINDS[k].section and KINDS[k].possible(grid, experiment, ALL)]
    return [FigureSpec(f"{experiment}_{kind}", kind, experiment, ALL) for kind in together] + [
        FigureSpec(f"{experiment}_{dataset}_{kind}", kind, experiment, dataset)
        for dataset in experiment_datasets(grid, experiment)
        for kind in _on(grid, experiment, dataset, asked)
    ]


def _on(grid: Grid, experiment: str, dataset: str, asked: list[str] | None) -> list[str]:
    at = (grid, experiment, dataset)
    kinds = [k for k, of in KINDS.items() if of.by_default(*at)] if asked is None else asked
    shown = [k for k in kinds if not KINDS[k].section and KINDS[k].possible(*at)]
    return list(dict.fromkeys([*(k for k, of in KINDS.items() if of.always(*at)), *shown]))


def draw(evidence: Evidence, spec: FigureSpec, narrow: bool) -> Figure:
    """One figure, in the wide or the narrow layout."""
    return KINDS[spec.kind].draw(Scope(evidence, spec.experiment, spec.dataset), narrow)


def caption(evidence: Evidence, spec: FigureSpec) -> str:
    """What a figure shows, with its interval's name and n."""
    of = Scope(evidence, spec.experiment, spec.dataset)
    return told("captions", spec.kind, of, KINDS[spec.kind].told(of))

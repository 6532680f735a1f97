"""What each paper printed: beside ours where it is run here, and with the reason where it is not."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mmcontrast.config import Experiment, Grid, Published
from mmcontrast.report.outputs import active_arms, experiment_datasets
from mmcontrast.report.results import cell_name
from mmcontrast.report.summary import lookup, percent
from mmcontrast.report.text.conclusions import Reproduction, reproductions, verdict_on
from mmcontrast.report.text.wording import (
    PROTOCOL_SHORT,
    as_given,
    cell_label,
    count,
    estimate,
    find_cell,
    interval,
    metric_title,
)

VERIFIED = {
    "read": "read in the paper, or on a page or in a repository of its authors",
    "digitised": "read off a curve of its authors",
    "second_hand": "as another source quotes it",
}
OTHER_SUITE = "the suite '{suite}' does not have this experiment"
OTHER_DATASET = "not among the datasets of the suite '{suite}'"


@dataclass(frozen=True)
class Line:
    """One printed number of a cell that was run here, as text.

    Attributes:
        cell: name of ours. verdict: reproduced, within interval, not reproduced, or why there is none.
        optimistic, optimistic_verdict: of the epoch that is best on the test split; empty without such a protocol.
    """

    row: str
    dataset: str
    metric: str
    published: str
    cell: str
    label: str
    ours: str
    protocol: str
    verdict: str
    optimistic: str
    optimistic_verdict: str


@dataclass(frozen=True)
class Listed:
    """Printed rows of one dataset that are not run here, as text.

    Attributes:
        rows: name, values in the order of `columns`, and how sure they are. mark: that, where it is the same of all.
    """

    dataset: str
    reason: str
    columns: list[str]
    rows: list[tuple[str, list[str], str]]
    mark: str


@dataclass(frozen=True)
class Unrun:
    """An experiment of a paper, or part of one, that this selection does not run.

    Attributes:
        brief: it prints no numbers and can be run, so that its name is enough.
    """

    name: str
    title: str
    caption: str
    parts: list[Listed]
    source: str
    brief: bool


@dataclass(frozen=True)
class PaperPart:
    """A paper's section of the page. experiments: those that are run, by name."""

    key: str
    title: str
    experiments: list[str]
    lines: list[Line]
    unrun: list[Unrun]

    @property
    def verdicts(self) -> str:
        """How many printed numbers came out, in one sentence."""
        if not self.lines:
            return "No number printed in the paper is of a dataset and method that are run here."
        by = {v: sum(line.verdict.startswith(v) for line in self.lines) for v in ("reproduced", "within", "not")}
        n, rest = len(self.lines), len(self.lines) - sum(by.values())
        said = (
            f"Of {count(n, 'printed number')} of what is run here, {by['reproduced']} reproduced, {by['within']} "
            f"within the interval over test cases, {by['not']} not reproduced"
        )
        return said + (f", {rest} without a verdict." if rest else ".")


def paper_parts(grid: Grid, summary: pl.DataFrame, intervals: pl.DataFrame) -> list[PaperPart]:
    """Every paper that an experiment is after, in the order of params/papers.yaml."""
    parts = []
    for key, paper in grid.papers.items():
        of_it = [name for name, spec in grid.experiments.items() if spec.paper == key]
        run = [e for e in grid.active_experiments if e in of_it]
        silent = bool(grid.suite.overrides.given())
        lines = [] if silent else [line for e in run for line in _lines(grid, summary, intervals, e)]
        unrun = [found for e in of_it if (found := _unrun(grid, e, run))]
        if of_it:
            title = grid.methods[key].title if key in grid.methods else paper.title
            parts.append(
                PaperPart(
                    key, title, run, list({(x.row, x.dataset, x.metric, x.cell): x for x in lines}.values()), unrun
                )
            )
    return parts


def studies(grid: Grid) -> list[str]:
    """Experiments that are run and are after no paper."""
    return [e for e in grid.active_experiments if grid.experiments[e].paper is None]


def _lines(grid: Grid, summary: pl.DataFrame, intervals: pl.DataFrame, experiment: str) -> list[Line]:
    own = summary.filter(experiment=experiment)
    found: dict[tuple[int, str], dict[str, Reproduction]] = {}
    printed = {id(p): p for p in grid.experiments[experiment].published}
    for r in reproductions(grid, own, experiment):
        kind = "optimistic" if r.protocol == "optimistic" else "fair"
        found.setdefault((id(r.printed), r.metric), {})[kind] = r
    out = []
    for (key, metric), by_kind in found.items():
        p, fair, best = printed[key], by_kind["fair"], by_kind.get("optimistic")
        ref = find_cell(grid, experiment, p.method or "", p.variant)
        if ref is None:
            continue
        wide = lookup(intervals, p.dataset, ref, fair.protocol, metric)
        out.append(
            Line(
                row=p.row,
                dataset=grid.datasets[p.dataset].title,
                metric=metric_title(metric, grid.datasets[p.dataset]),
                published=_printed(p, metric),
                cell=cell_name(p.dataset, ref),
                label=cell_label(grid, ref),
                ours=estimate(*fair.ours),
                protocol=PROTOCOL_SHORT[fair.protocol],
                verdict=plain_verdict(fair, percent(wide) if wide else None),
                optimistic=estimate(*best.ours) if best else "",
                optimistic_verdict=plain_verdict(best, None) if best else "",
            )
        )
    return out


def plain_verdict(r: Reproduction, wide: tuple[float, float, float] | None) -> str:
    """The verdict in plain words.

    Args:
        wide: mean and interval over seeds and test cases, in percent; it may hold a number that the interval over
            seeds does not, which is then neither reproduced nor ruled out.
    """
    if r.reached is None or r.reached == "reproduced":
        return verdict_on(r)
    if wide is not None and wide[1] <= r.published <= wide[2]:
        return f"within interval {interval(wide[1], wide[2])} over seeds and test cases"
    return f"not reproduced: {'ours is lower' if r.reached == 'not reached' else 'ours is higher'}"


def _unrun(grid: Grid, experiment: str, run: list[str]) -> Unrun | None:
    """The part of an experiment that has no rows of ours, or None where all of it is run."""
    spec = grid.experiments[experiment]
    datasets = experiment_datasets(grid, experiment) if experiment in run else []
    names = dict.fromkeys([*(p.dataset for p in spec.published), *spec.not_run])
    if experiment not in run:
        names |= dict.fromkeys(spec.datasets)
    sized = spec.information is not None and bool(active_arms(grid, experiment))
    missing = [name for name in names if name not in datasets and not (sized and name in grid.datasets)]
    parts = [_listed(grid, spec, name, experiment in run) for name in missing]
    if not parts:
        return None
    brief = bool(spec.cells) and not spec.not_run and not any(part.rows for part in parts)
    return Unrun(experiment, spec.title, spec.caption, parts, " ".join((spec.source or "").split()), brief)


def _listed(grid: Grid, spec: Experiment, name: str, active: bool) -> Listed:
    rows = [p for p in spec.published if p.dataset == name]
    data = grid.datasets.get(name)
    metrics = list(dict.fromkeys(m for p in rows for m in p.values)) or (list(spec.titles) if rows else [])
    titles = [spec.titles.get(m) or f"{metric_title(m, data)} (%)" for m in metrics]
    template = OTHER_DATASET if active else OTHER_SUITE
    reason = spec.not_run.get(name) or template.format(suite=grid.suite_name)
    marks = {_mark(p) for p in rows if p.values}
    return Listed(
        dataset=data.title if data else name,
        reason=" ".join(reason.split()),
        columns=titles,
        rows=[(p.row, [_printed(p, m) for m in metrics], _mark(p)) for p in rows],
        mark=marks.pop() if len(marks) == 1 else "",
    )


def _printed(p: Published, metric: str) -> str:
    if metric not in p.values:
        return ""
    return as_given(p.values[metric]) + (f" ± {p.spread[metric]:g}" if metric in p.spread else "")


def _mark(p: Published) -> str:
    """How sure the numbers are and, where it is its own, their source."""
    if not p.values:
        return "not found"
    return VERIFIED[p.verified] + (f": {' '.join(p.source.split())}" if p.source else "")

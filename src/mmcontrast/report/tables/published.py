"""What each paper published: beside ours where it is run here, and with the reason where it is not."""

from __future__ import annotations

from dataclasses import dataclass

from mmcontrast.config import Dataset, Grid, Published
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import active_arms, experiment_datasets
from mmcontrast.report.summary import percent
from mmcontrast.report.text.conclusions import Reproduction, reproductions, verdict_on
from mmcontrast.report.text.wording import (
    PROTOCOL_SHORT,
    count,
    estimate,
    find_cell,
    interval,
    metric_title,
    published_text,
)

VERIFIED = {
    "read": "read in the paper, or on a page or in a repository of its authors",
    "digitised": "read off a curve of its authors",
    "second_hand": "as quoted by another source",
}
OTHER_SUITE = "the suite '{suite}' does not have this experiment"
OTHER_DATASET = "not among the datasets of the suite '{suite}'"


@dataclass(frozen=True)
class Line:
    """One published number of a cell that was run here, as text.

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
    """Published rows of one dataset that are not run here, as text.

    Attributes:
        rows: name, values in the order of `columns`, and how sure they are. mark: that, where it is the same for all.
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
        file: where it is kept. brief: it has no published numbers and can be run, so that its name is enough.
    """

    name: str
    title: str
    caption: str
    parts: list[Listed]
    source: str
    file: str
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
        """How many published numbers were reproduced, in one sentence."""
        if not self.lines:
            return "The paper publishes no number for a dataset and method that are run here."
        by = {v: sum(line.verdict.startswith(v) for line in self.lines) for v in ("reproduced", "within", "not")}
        n, rest = len(self.lines), len(self.lines) - sum(by.values())
        said = (
            f"Of {count(n, 'published number')} for what is run here, {by['reproduced']} reproduced, {by['within']} "
            f"within the interval over seeds and test instances, {by['not']} not reproduced"
        )
        return said + (f", {rest} without a verdict." if rest else ".")


def paper_parts(evidence: Evidence) -> list[PaperPart]:
    """Every paper that has an experiment, by its key."""
    parts, grid = [], evidence.grid
    for key, paper in grid.papers.items():
        of_it = [name for name, spec in grid.experiments.items() if spec.paper == key]
        run = [e for e in grid.active_experiments if e in of_it]
        silent = bool(grid.suite.overrides.given())
        lines = [] if silent else [line for e in run for line in _lines(evidence, e)]
        unrun = [found for e in of_it if (found := _unrun(grid, e, run))]
        unrun += [_not_run(grid, key, name) for name in paper.not_run]
        if of_it:
            title = grid.methods[key].title if key in grid.methods else paper.title
            parts.append(
                PaperPart(
                    key, title, run, list({(x.row, x.dataset, x.metric, x.cell): x for x in lines}.values()), unrun
                )
            )
    return parts


def studies(grid: Grid) -> list[str]:
    """Experiments that are run and belong to no paper."""
    return [e for e in grid.active_experiments if grid.experiments[e].paper is None]


def _lines(evidence: Evidence, experiment: str) -> list[Line]:
    grid = evidence.grid
    found: dict[tuple[int, str], dict[str, Reproduction]] = {}
    for r in reproductions(evidence, experiment):
        kind = "optimistic" if r.protocol == "optimistic" else "fair"
        found.setdefault((id(r.row), r.metric), {})[kind] = r
    out = []
    for (_, metric), by_kind in found.items():
        fair, best = by_kind["fair"], by_kind.get("optimistic")
        p, of = fair.row, Scope(evidence, experiment, fair.row.dataset)
        ref = find_cell(grid, experiment, p.method or "", p.variant)
        if ref is None:
            continue
        wide = of.wide(ref, metric, fair.protocol)
        out.append(
            Line(
                row=p.row,
                dataset=of.data.title,
                metric=metric_title(metric, of.data),
                published=published_text(p, metric),
                cell=of.name(ref),
                label=of.label(ref),
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
        wide: mean and interval over seeds and test instances, in percent; it may contain a number that the interval
            over seeds does not, which is then neither reproduced nor ruled out.
    """
    if r.reached is None or r.reached == "reproduced":
        return verdict_on(r)
    if wide is not None and wide[1] <= r.published <= wide[2]:
        return f"within interval {interval(wide[1], wide[2])} over seeds and test instances"
    return f"not reproduced: {'ours is lower' if r.reached == 'not reached' else 'ours is higher'}"


def _unrun(grid: Grid, experiment: str, run: list[str]) -> Unrun | None:
    """The part of an experiment that has no rows of ours, or None where all of it is run."""
    spec, table = grid.experiments[experiment], grid.published(experiment)
    datasets = experiment_datasets(grid, experiment) if experiment in run else []
    names = dict.fromkeys([*(p.dataset for p in table.rows), *spec.not_run])
    if experiment not in run:
        names |= dict.fromkeys(spec.datasets)
    sized = spec.information is not None and bool(active_arms(grid, experiment))
    missing = [name for name in names if name not in datasets and not (sized and name in grid.datasets)]
    reason = (OTHER_DATASET if experiment in run else OTHER_SUITE).format(suite=grid.suite_name)
    parts = [_listed(table.rows, grid.datasets.get(n), n, spec.not_run.get(n, reason), {}) for n in missing]
    if not parts:
        return None
    brief = not spec.not_run and not any(part.rows for part in parts)
    file = grid.files.where("experiments", experiment)
    return Unrun(experiment, spec.title, spec.caption, parts, " ".join((table.source or "").split()), file, brief)


def _not_run(grid: Grid, paper: str, name: str) -> Unrun:
    """A table or figures of a paper, with the rows that it has there."""
    spec, file = grid.papers[paper].not_run[name], grid.files.where("papers", paper)
    names = dict.fromkeys([*(p.dataset for p in spec.rows), *spec.why])
    parts = [_listed(spec.rows, None, n, spec.why[n], spec.titles) for n in names]
    source = " ".join((spec.source or "").split())
    return Unrun(f"{paper}-{name}", spec.title, spec.caption, parts, source, file, brief=False)


def _listed(published: list[Published], data: Dataset | None, name: str, reason: str, titles: dict[str, str]) -> Listed:
    rows = [p for p in published if p.dataset == name]
    metrics = list(dict.fromkeys(m for p in rows for m in p.values)) or (list(titles) if rows else [])
    marks = {_mark(p) for p in rows if p.values}
    return Listed(
        dataset=data.title if data else name,
        reason=" ".join(reason.split()),
        columns=[titles.get(m) or f"{metric_title(m, data)} (%)" for m in metrics],
        rows=[(p.row, [published_text(p, m) for m in metrics], _mark(p)) for p in rows],
        mark=marks.pop() if len(marks) == 1 else "",
    )


def _mark(p: Published) -> str:
    """How sure the numbers are and, where it is its own, their source."""
    if not p.values:
        return "not found"
    return VERIFIED[p.verified] + (f": {' '.join(p.source.split())}" if p.source else "")

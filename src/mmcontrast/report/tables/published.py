"""What each paper published: beside ours where it is run here, and with the reason where it is not. Every sentence
follows from the results by rule and claims no more than its interval allows. What is compared here was not declared
before the run: it has intervals, and no p values but those of `tables.contrasts`.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np

from mmcontrast.config import CellRef, Dataset, Grid, Published
from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.statistics import Difference, Interval, Sample, welch
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import active_arms, experiment_datasets
from mmcontrast.report.results import shown
from mmcontrast.report.text import wording
from mmcontrast.report.text.wording import metric_title, published_text

MIN_RUNS = 3  # on each side, of what was published and of ours
SIGNIFICANT = 0.05

Agreement = Literal["agrees", "differs", "cannot be judged"]
VERIFIED = {
    "read": "read in the paper, or on a page or in a repository of its authors",
    "digitised": "read off a curve of its authors",
    "second_hand": "as quoted by another source",
    "run": "not printed: found by running their code",
}


@dataclass(frozen=True)
class Reproduction:
    """A published number beside ours (`scores` by seed) under one protocol, as shown."""

    of: Scope
    ref: CellRef
    row: Published
    metric: str
    protocol: str
    ours: Interval
    scores: list[float]

    @property
    def published(self) -> float:
        """The published number."""
        return self.row.values[self.metric]

    @property
    def difference(self) -> Difference | None:
        """Ours minus the published, by Welch's test; None where either is of too few runs, or of an unknown number."""
        sd, n = self.row.spread.get(self.metric), self.row.seeds
        if sd is None or n is None or min(n, len(self.scores)) < MIN_RUNS:
            return None
        return welch(np.array(self.scores), Sample(self.published, sd, n))

    @property
    def verdict(self) -> Agreement:
        """Whether the two differ by more than the chance of their runs."""
        found = self.difference
        if found is None:
            return "cannot be judged"
        return "differs" if found.p < SIGNIFICANT else "agrees"

    @property
    def text(self) -> str:
        """Ours, with its interval."""
        return wording.estimate(*self.ours, digits=measure(self.metric).decimals)


def reproductions(evidence: Evidence, experiment: str) -> list[tuple[Reproduction, Reproduction | None]]:
    """Every published number of a cell that was run, by `selected` (`last` without one) and by `optimistic`, if any."""
    out, grid = [], evidence.grid
    for row in grid.published(experiment).rows:
        ref = wording.find_cell(grid, experiment, row.method, row.variant) if row.method else None
        if ref is None or row.dataset not in grid.dataset_names:
            continue
        of = Scope(evidence, experiment, row.dataset)
        for metric in row.values:
            fair, kind = "selected" if of.mean(ref, metric) else "last", measure(metric)
            found = []
            for protocol in (fair, "optimistic"):
                scores = [kind.factor * v for v in of.scores(ref, metric, protocol).values()]
                if scores and (ours := of.mean(ref, metric, protocol)):
                    found.append(Reproduction(of, ref, row, metric, protocol, shown(ours, kind), scores))
            if found:
                out.append((found[0], found[1] if len(found) > 1 else None))
    return out


def verdict_on(r: Reproduction) -> str:
    """'agrees', 'differs' or 'cannot be judged', with the interval and both numbers of runs, or the reason."""
    found, of, ours = r.difference, measure(r.metric), len(r.scores)
    if found is not None:
        apart = wording.estimate(*found[:3], sign=True, digits=of.decimals)
        return f"{r.verdict}: {apart}{of.unit_of_difference}, {ours} runs of ours and {r.row.seeds} of theirs"
    if ours < MIN_RUNS:
        return f"{r.verdict}: {wording.count(ours, 'run')} of ours, and it takes {MIN_RUNS}"
    lacks = "no standard deviation is" if r.metric not in r.row.spread else "the number of runs is not"
    return f"{r.verdict}: {lacks} printed; {ours} runs of ours"


def reproduction_sentences(found: list[tuple[Reproduction, Reproduction | None]]) -> list[str]:
    """One sentence per published number, with our score under each protocol."""
    out, cells = [], Counter((one.row.dataset, one.row.row, one.metric) for one, _ in found)
    for one, best in found:
        found_in = [f"{wording.PROTOCOL_SHORT[r.protocol]} {r.text}: {verdict_on(r)}" for r in (one, best) if r]
        data, printed = one.of.data, wording.published_text(one.row, one.metric)
        title = f"{data.title}, {metric_title(one.metric, data)}{measure(one.metric).heading}"
        whose = f" ({one.of.label(one.ref)})" if cells[one.row.dataset, one.row.row, one.metric] > 1 else ""
        how = "was run with" if one.row.verified == "run" else "is published as"
        out.append(f"{title}: {one.row.row} {how} {printed}. Ours{whose}, {'; '.join(found_in)}.")
    return out


def paper_parts(evidence: Evidence) -> list[dict[str, Any]]:
    """Of every paper with an experiment what its section of the page shows: key, title; experiments that are run, by
    name; lines: every published number of a cell that was run here, and the same by the epoch that is best on the test
    split, where there is that protocol; unrun: what this selection leaves out, as `name, title, caption, source, file`,
    parts by dataset, and whether its name is enough (brief).
    """
    parts, grid = [], evidence.grid
    for key, paper in grid.papers.items():
        if not (of_it := [name for name, spec in grid.experiments.items() if spec.paper == key]):
            continue
        run = [e for e in grid.active_experiments if e in of_it]
        found = [] if grid.suite.overrides.given() else chain.from_iterable(reproductions(evidence, e) for e in run)
        # one number may stand in several experiments
        lines = {(one.row.row, one.of.name(one.ref), one.metric): (one, best) for one, best in found}
        unrun = [left for e in of_it if (left := _unrun(grid, e, run))]
        unrun += [_not_run(grid, key, name) for name in paper.not_run]
        title = grid.methods[key].title if key in grid.methods else paper.title
        parts.append({"key": key, "title": title, "experiments": run, "lines": [*lines.values()], "unrun": unrun})
    return parts


def _unrun(grid: Grid, experiment: str, run: list[str]) -> dict[str, Any] | None:
    spec, table = grid.experiments[experiment], grid.published(experiment)
    datasets = experiment_datasets(grid, experiment) if experiment in run else []
    names = dict.fromkeys([*(p.dataset for p in table.rows), *spec.not_run])
    if experiment not in run:
        names |= dict.fromkeys(spec.datasets)
    sized = spec.information is not None and bool(active_arms(grid, experiment))
    missing = [name for name in names if name not in datasets and not (sized and name in grid.datasets)]
    suite = f"the suite '{grid.suite_name}'"
    reason = f"not among the datasets of {suite}" if experiment in run else f"{suite} does not have this experiment"
    parts = [_listed(table.rows, grid.datasets.get(n), n, spec.not_run.get(n, reason), {}) for n in missing]
    if not parts:
        return None
    # without published numbers, and where it can be run, its name is enough
    brief = not spec.not_run and not any(part["rows"] for part in parts)
    about = {"name": experiment, "title": spec.title, "caption": spec.caption, "brief": brief, "parts": parts}
    return about | {"source": table.source, "file": grid.files.where("experiments", experiment)}


def _not_run(grid: Grid, paper: str, name: str) -> dict[str, Any]:
    spec = grid.papers[paper].not_run[name]
    names = dict.fromkeys([*(p.dataset for p in spec.rows), *spec.why])
    parts = [_listed(spec.rows, None, n, spec.why[n], spec.titles) for n in names]
    about = {"name": f"{paper}-{name}", "title": spec.title, "caption": spec.caption, "brief": False, "parts": parts}
    return about | {"source": spec.source, "file": grid.files.where("papers", paper)}


def _listed(
    published: list[Published], data: Dataset | None, name: str, reason: str, titles: dict[str, str]
) -> dict[str, Any]:
    """Published rows of one dataset as text, and how sure they are: each, and together where it is the same for all."""
    rows = [p for p in published if p.dataset == name]
    metrics = list(dict.fromkeys(m for p in rows for m in p.values)) or (list(titles) if rows else [])
    marks = {_mark(p) for p in rows if p.values}
    return {
        "dataset": data.title if data else name,
        "reason": " ".join(reason.split()),
        "columns": [titles.get(m) or f"{metric_title(m, data)}{measure(m).heading}" for m in metrics],
        "rows": [(p.row, [published_text(p, m) for m in metrics], _mark(p)) for p in rows],
        "mark": marks.pop() if len(marks) == 1 else "",
    }


def _mark(p: Published) -> str:
    if not p.values:
        return "not found"
    return VERIFIED[p.verified] + (f": {' '.join(p.source.split())}" if p.source else "")

"""What may be said of an interval, and of published numbers beside ours.

Every sentence follows from the results by rule, and none claims more than its interval allows. What is compared
here was not declared before the run: it has intervals, and no p values but those of `tables.contrasts`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from mmcontrast.config import CellRef, Published
from mmcontrast.config.metrics import measure
from mmcontrast.evaluation.statistics import Difference, Interval, Sample, welch
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.summary import shown
from mmcontrast.report.text import wording

MIN_RUNS = 3  # on each side, of what was published and of ours
SIGNIFICANT = 0.05

Agreement = Literal["agrees", "differs", "cannot be judged"]


def against_zero(difference: Difference) -> str:
    """'includes' or 'excludes': what its interval does with 0."""
    return "includes" if difference.low <= 0 <= difference.high else "excludes"


@dataclass(frozen=True)
class Reproduction:
    """A published number beside ours under one protocol, as shown.

    Attributes:
        scores: ours by seed.
    """

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
            found = [
                Reproduction(
                    of, ref, row, metric, protocol, shown(ours, kind), [kind.factor * v for v in by_seed.values()]
                )
                for protocol in (fair, "optimistic")
                if (ours := of.mean(ref, metric, protocol)) and (by_seed := of.scores(ref, metric, protocol))
            ]
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
        verdicts = "; ".join(
            f"{wording.PROTOCOL_SHORT[r.protocol]} {r.text}: {verdict_on(r)}" for r in (one, best) if r
        )
        data, printed = one.of.data, wording.published_text(one.row, one.metric)
        title = f"{data.title}, {wording.metric_title(one.metric, data)}{measure(one.metric).heading}"
        whose = f" ({one.of.label(one.ref)})" if cells[one.row.dataset, one.row.row, one.metric] > 1 else ""
        how = "was run with" if one.row.verified == "run" else "is published as"
        out.append(f"{title}: {one.row.row} {how} {printed}. Ours{whose}, {verdicts}.")
    return out


def headline(evidence: Evidence, experiment: str, findings: list[str]) -> str:
    """One sentence on an experiment: what holds across a matrix, the first finding, or who scores best.

    Empty where the suite changes every cell, so that nothing follows, and where there is no score.
    """
    grid = evidence.grid
    if grid.suite.overrides.given():
        return ""
    if findings:
        return findings[-1 if grid.experiments[experiment].kind == "matrix" else 0]
    of = evidence.scopes(experiment)[0]
    metric = of.charted[0]
    kind, means = measure(metric), {}
    for ref in of.cells:
        if found := of.mean(ref, metric) or of.mean(ref, metric, "last"):
            means[of.label(ref)] = shown(found, kind)
    if not means:
        return ""
    best = max(means, key=lambda label: kind.sign * means[label].mean)
    score = wording.estimate(*means[best], digits=kind.decimals)
    return (
        f"{of.data.title}, {wording.metric_title(metric, of.data)}: the best of {wording.count(len(means), 'row')} is "
        f"{best}, {score}{kind.unit}; {wording.count(of.n_seeds, 'seed')}."
    )


def optimism(summary: pl.DataFrame, metric_by_dataset: dict[str, str]) -> tuple[float, float, int] | None:
    """Gain in points of `optimistic` over `selected` in the selecting metric: mean and spread, and over how many cells.

    Only of metrics that are shares.
    """
    gains = []
    keys = ["dataset", "method", "variant", "metric"]
    for (dataset, _, _, metric), part in summary.group_by(keys):
        means = dict(zip(part["protocol"], part["mean"], strict=True))
        counts = metric == metric_by_dataset[str(dataset)] and measure(str(metric)).percent
        if counts and {"selected", "optimistic"} <= means.keys():
            gains.append(100 * (means["optimistic"] - means["selected"]))
    return (float(np.mean(gains)), float(np.std(gains)), len(gains)) if gains else None

"""What may be concluded: does the paper's method beat its baselines here, and are the published numbers reproduced.

Every sentence follows from the results by rule, and none claims more than its interval allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from mmcontrast.config import Grid, Published
from mmcontrast.evaluation.statistics import Difference, Interval, holm, paired_difference
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import own_cells
from mmcontrast.report.summary import percent
from mmcontrast.report.text.wording import (
    PROTOCOL_SHORT,
    count,
    estimate,
    find_cell,
    interval,
    metric_title,
    p_value,
    published_text,
)

MIN_SEEDS = 5
SIGNIFICANT = 0.05

Verdict = Literal["better", "worse", "undecided", "unjudged"]
Reached = Literal["reproduced", "not reached", "exceeded"]
VERDICT_WORDS: dict[Verdict, str] = {
    "better": "{ours} is better than {baseline}",
    "worse": "{ours} is worse than {baseline}",
    "undecided": "No significant difference between {ours} and {baseline}",
    "unjudged": "Too few seeds to judge {ours} against {baseline}",
}


@dataclass(frozen=True)
class Comparison:
    """The paper's own method against its baselines on one dataset and metric, selected epochs, scores as fractions.

    Attributes:
        label, score, wide: the own cell's name, its mean with the interval over seeds, and with that over seeds and
            test instances.
        baseline, baseline_score: the baseline of the highest mean.
        difference: own cell minus that baseline, by seed. p_holm: its p value corrected for all baselines.
        verdicts: on every baseline.
    """

    dataset: str
    metric: str
    n_instances: int
    label: str
    score: Interval
    wide: Interval | None
    baseline: str
    baseline_score: Interval
    difference: Difference
    p_holm: float
    verdicts: tuple[Verdict, ...]

    @property
    def verdict(self) -> Verdict:
        """On the strongest baseline."""
        return judge(self.difference, self.p_holm)


def judge(difference: Difference, p_holm: float) -> Verdict:
    """Better or worse only with five seeds or more, an interval on one side of zero and a corrected p below 0.05."""
    if difference.n < MIN_SEEDS:
        return "unjudged"
    if p_holm < SIGNIFICANT:
        if difference.low > 0:
            return "better"
        if difference.high < 0:
            return "worse"
    return "undecided"


def few_seeds(n: int) -> list[str]:
    """A sentence where n seeds are too few to judge."""
    if n >= MIN_SEEDS:
        return []
    return [f"{MIN_SEEDS} seeds are required to call a method better or worse; there {'is' if n == 1 else 'are'} {n}."]


def compare(of: Scope, metric: str) -> Comparison | None:
    """The comparison, or None where the experiment has no own method, no baseline, or no selected scores of them."""
    own = own_cells(of.grid, of.experiment)
    scored = [(ref, score, of.scores(ref, metric)) for ref in of.cells if (score := of.mean(ref, metric))]
    ours = next((s for s in scored if s[0] in own[:1]), None)
    baselines = [s for s in scored if s[0] not in own]
    if ours is None or not baselines:
        return None
    found = [paired_difference(ours[2], seeds) for _, _, seeds in baselines]
    p_holm = holm(np.array([d.p for d in found]))
    best = max(range(len(baselines)), key=lambda i: baselines[i][1].mean)
    return Comparison(
        dataset=of.dataset,
        metric=metric,
        n_instances=of.n_instances,
        label=of.label(ours[0]),
        score=ours[1],
        wide=of.wide(ours[0], metric),
        baseline=of.label(baselines[best][0]),
        baseline_score=baselines[best][1],
        difference=found[best],
        p_holm=float(p_holm[best]),
        verdicts=tuple(judge(d, float(p)) for d, p in zip(found, p_holm, strict=True)),
    )


def p_in_words(p_holm: float, lead: str = ", ") -> str:
    """', p = 0.012 after Holm's correction'; empty where there is no p."""
    return f"{lead}p = {p} after Holm's correction".replace("= <", "< ") if (p := p_value(p_holm)) else ""


def comparison_sentences(grid: Grid, c: Comparison) -> list[str]:
    """The comparison in words, the verdict first."""
    data, d = grid.datasets[c.dataset], c.difference
    out = [
        VERDICT_WORDS[c.verdict].format(ours=c.label, baseline=f"its strongest baseline, {c.baseline},")
        + f" on {data.title}.",
        f"{metric_title(c.metric, data)} {estimate(*percent(c.score))} % against "
        f"{estimate(*percent(c.baseline_score))} %; paired difference {estimate(*percent(d), sign=True)} points"
        f"{p_in_words(c.p_holm)}; {count(d.n, 'seed')}, {count(c.n_instances, 'test instance')}.",
    ]
    if len(c.verdicts) > 1 and c.verdict != "unjudged":
        out.append(
            f"It is better than {c.verdicts.count('better')} and worse than {c.verdicts.count('worse')} of its "
            f"{len(c.verdicts)} baselines, with no significant difference to {c.verdicts.count('undecided')}."
        )
    out += few_seeds(d.n)
    if c.wide is not None:
        out.append(
            "Resampling test instances as well as seeds widens the interval of its score to "
            f"{interval(*percent(c.wide)[1:])} %."
        )
    return out


@dataclass(frozen=True)
class Reproduction:
    """A published number beside ours, in percent. `reached` is None without an interval of at least five seeds."""

    row: Published
    metric: str
    protocol: str
    ours: Interval
    reached: Reached | None

    @property
    def published(self) -> float:
        """The published number."""
        return self.row.values[self.metric]


def reproductions(evidence: Evidence, experiment: str) -> list[Reproduction]:
    """Every published number of a cell that was run: under `selected` (`last` without one) and under `optimistic`."""
    out, grid = [], evidence.grid
    for row in grid.published(experiment).rows:
        ref = find_cell(grid, experiment, row.method, row.variant) if row.method else None
        if ref is None or row.dataset not in grid.dataset_names:
            continue
        of = Scope(evidence, experiment, row.dataset)
        for metric, value in row.values.items():
            fair = "selected" if of.mean(ref, metric) else "last"
            for protocol in (fair, "optimistic"):
                if (ours := of.mean(ref, metric, protocol)) is not None:
                    scaled = percent(ours)
                    reached = reach(value, scaled) if of.n_seeds >= MIN_SEEDS else None
                    out.append(Reproduction(row, metric, protocol, scaled, reached))
    return out


def reach(published: float, ours: Interval) -> Reached:
    """Is a published number inside our interval, above it or below it?"""
    if published > ours.high:
        return "not reached"
    return "exceeded" if published < ours.low else "reproduced"


def verdict_on(r: Reproduction) -> str:
    """'reproduced', 'not reached', 'exceeded', or why there is no verdict."""
    return r.reached or f"no verdict with fewer than {MIN_SEEDS} seeds"


def reproduction_sentences(grid: Grid, found: list[Reproduction]) -> list[str]:
    """One sentence per published number, with our score under each protocol."""
    by_number: dict[tuple[str, str, str], list[Reproduction]] = {}
    for r in found:
        by_number.setdefault((r.row.dataset, r.row.row, r.metric), []).append(r)
    out = []
    for (dataset, row, metric), group in by_number.items():
        verdicts = "; ".join(f"{PROTOCOL_SHORT[r.protocol]} {estimate(*r.ours)}: {verdict_on(r)}" for r in group)
        title = f"{grid.datasets[dataset].title}, {metric_title(metric, grid.datasets[dataset])} (%)"
        out.append(f"{title}: {row} is published as {published_text(group[0].row, metric)}. Ours, {verdicts}.")
    return out


def optimism(summary: pl.DataFrame, metric_by_dataset: dict[str, str]) -> tuple[float, int] | None:
    """Mean gain in points of `optimistic` over `selected` in the selecting metric, and over how many cells."""
    gains = []
    keys = ["dataset", "method", "variant", "metric"]
    for (dataset, _, _, metric), part in summary.group_by(keys):
        means = dict(zip(part["protocol"], part["mean"], strict=True))
        if metric == metric_by_dataset[str(dataset)] and {"selected", "optimistic"} <= means.keys():
            gains.append(100 * (means["optimistic"] - means["selected"]))
    return (float(np.mean(gains)), len(gains)) if gains else None

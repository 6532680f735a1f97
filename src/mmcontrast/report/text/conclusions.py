"""What may be said: does the paper's method beat its baselines here, and are the printed numbers reached.

Every sentence follows from the results by rule, and none is kinder than its interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from mmcontrast.config import Grid
from mmcontrast.config import Published as PublishedRow
from mmcontrast.evaluation.statistics import Difference, Interval, holm, paired_difference
from mmcontrast.report.outputs import own_cells
from mmcontrast.report.summary import lookup, percent, seed_scores
from mmcontrast.report.text.wording import (
    PROTOCOL_SHORT,
    as_given,
    cell_label,
    count,
    estimate,
    find_cell,
    interval,
    metric_title,
    p_value,
)

MIN_SEEDS = 5
SIGNIFICANT = 0.05

Verdict = Literal["better", "worse", "undecided", "unjudged"]
Reached = Literal["reproduced", "not reached", "exceeded"]
VERDICT_WORDS: dict[Verdict, str] = {
    "better": "{ours} is better than {baseline}",
    "worse": "{ours} is worse than {baseline}",
    "undecided": "{ours} and {baseline} cannot be told apart",
    "unjudged": "{ours} and {baseline} are not judged by so few seeds",
}


@dataclass(frozen=True)
class Comparison:
    """The paper's own method against its baselines on one dataset and metric, selected epochs, scores as fractions.

    Attributes:
        label, score, cases: the own cell's name, its mean with the interval over seeds, and that over seeds and cases.
        baseline, baseline_score: the baseline of the highest mean.
        difference: own cell minus that baseline, by seed. p_holm: its p value corrected for all baselines.
        verdicts: on every baseline.
    """

    dataset: str
    metric: str
    n_cases: int
    label: str
    score: Interval
    cases: Interval | None
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
    return [f"With {count(n, 'seed')} nothing is called better or worse; that takes {MIN_SEEDS}."]


def compare(
    grid: Grid,
    results: pl.DataFrame,
    summary: pl.DataFrame,
    intervals: pl.DataFrame,
    experiment: str,
    dataset: str,
    metric: str,
) -> Comparison | None:
    """The comparison, or None where the experiment has no own method, no baseline, or no selected scores of them.

    Args:
        summary: of this experiment. intervals: over seeds and test cases.
    """
    own = own_cells(grid, experiment)
    scored = [
        (ref, score, seed_scores(results, experiment, dataset, ref, metric))
        for ref in grid.cells_on(experiment, dataset)
        if (score := lookup(summary, dataset, ref, "selected", metric))
    ]
    ours = next((s for s in scored if s[0] in own[:1]), None)
    baselines = [s for s in scored if s[0] not in own]
    if ours is None or not baselines:
        return None
    found = [paired_difference(ours[2], seeds) for _, _, seeds in baselines]
    p_holm = holm(np.array([d.p for d in found]))
    best = max(range(len(baselines)), key=lambda i: baselines[i][1].mean)
    return Comparison(
        dataset=dataset,
        metric=metric,
        n_cases=n_test_cases(summary, dataset),
        label=cell_label(grid, ours[0]),
        score=ours[1],
        cases=lookup(intervals, dataset, ours[0], "selected", metric),
        baseline=cell_label(grid, baselines[best][0]),
        baseline_score=baselines[best][1],
        difference=found[best],
        p_holm=float(p_holm[best]),
        verdicts=tuple(judge(d, float(p)) for d, p in zip(found, p_holm, strict=True)),
    )


def n_test_cases(summary: pl.DataFrame, dataset: str) -> int:
    """Size of a dataset's test split."""
    return int(summary.filter(dataset=dataset)["n_cases"][0])


def comparison_sentences(grid: Grid, c: Comparison) -> list[str]:
    """The comparison in words, the verdict first."""
    data, d = grid.datasets[c.dataset], c.difference
    p = f", p = {p_value(c.p_holm)} after Holm's correction".replace("= <", "< ") if p_value(c.p_holm) else ""
    out = [
        VERDICT_WORDS[c.verdict].format(ours=c.label, baseline=f"its strongest baseline, {c.baseline},")
        + f" on {data.title}.",
        f"{metric_title(c.metric, data)} {estimate(*percent(c.score))} % against "
        f"{estimate(*percent(c.baseline_score))} %; difference by seed {estimate(*percent(d), sign=True)} points{p}; "
        f"{count(d.n, 'seed')}, {count(c.n_cases, 'test case')}.",
    ]
    if len(c.verdicts) > 1 and c.verdict != "unjudged":
        out.append(
            f"Of its {len(c.verdicts)} baselines it is better than {c.verdicts.count('better')}, worse than "
            f"{c.verdicts.count('worse')}, and cannot be told apart from {c.verdicts.count('undecided')}."
        )
    out += few_seeds(d.n)
    if c.cases is not None:
        out.append(
            f"The difference is one on these {c.n_cases} test cases: over seeds and test cases together {c.label}'s "
            f"own score is known only to within {interval(*percent(c.cases)[1:])} %."
        )
    return out


@dataclass(frozen=True)
class Reproduction:
    """A printed number beside ours, in percent. `reached` is None without an interval of at least five seeds."""

    printed: PublishedRow
    dataset: str
    row: str
    metric: str
    protocol: str
    published: float
    spread: float | None
    ours: Interval
    reached: Reached | None


def reproductions(grid: Grid, summary: pl.DataFrame, experiment: str) -> list[Reproduction]:
    """Every published number of a cell that was run: under `selected` (`last` without one) and under `optimistic`."""
    out = []
    for printed in grid.experiments[experiment].published:
        ref = find_cell(grid, experiment, printed.method, printed.variant) if printed.method else None
        if ref is None or printed.dataset not in grid.dataset_names:
            continue
        for metric, value in printed.values.items():
            fair = "selected" if lookup(summary, printed.dataset, ref, "selected", metric) else "last"
            for protocol in (fair, "optimistic"):
                ours = lookup(summary, printed.dataset, ref, protocol, metric)
                if ours is not None:
                    scaled = percent(ours)
                    reached = reach(value, scaled) if len(grid.seeds_of(printed.dataset)) >= MIN_SEEDS else None
                    spread = printed.spread.get(metric)
                    out.append(
                        Reproduction(
                            printed, printed.dataset, printed.row, metric, protocol, value, spread, scaled, reached
                        )
                    )
    return out


def reach(published: float, ours: Interval) -> Reached:
    """Is a printed number inside our interval, above it or below it?"""
    if published > ours.high:
        return "not reached"
    return "exceeded" if published < ours.low else "reproduced"


def verdict_on(r: Reproduction) -> str:
    """'reproduced', 'not reached', 'exceeded', or why there is no verdict."""
    return r.reached or f"no verdict below {MIN_SEEDS} seeds"


def reproduction_sentences(grid: Grid, found: list[Reproduction]) -> list[str]:
    """One sentence a printed number, with what each protocol makes of it."""
    by_number: dict[tuple[str, str, str], list[Reproduction]] = {}
    for r in found:
        by_number.setdefault((r.dataset, r.row, r.metric), []).append(r)
    out = []
    for (dataset, row, metric), group in by_number.items():
        spread = f" ± {group[0].spread:g}" if group[0].spread is not None else ""
        verdicts = "; ".join(f"{PROTOCOL_SHORT[r.protocol]} {estimate(*r.ours)}: {verdict_on(r)}" for r in group)
        title = f"{grid.datasets[dataset].title}, {metric_title(metric, grid.datasets[dataset])} (%)"
        out.append(f"{title}: {row} is printed as {as_given(group[0].published)}{spread}. Ours, {verdicts}.")
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

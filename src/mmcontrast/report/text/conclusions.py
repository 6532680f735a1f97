"""What may be concluded: does the paper's method beat its baselines here, and are the published numbers reproduced.

Every sentence follows from the results by rule, and none claims more than its interval allows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from mmcontrast.config import CellRef, Published
from mmcontrast.config.metrics import SHARE, Measure, measure
from mmcontrast.evaluation.statistics import Difference, Interval, paired_difference
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import own_cells
from mmcontrast.report.summary import corrected, shown
from mmcontrast.report.text import wording

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


Scored = tuple[str, Interval, dict[int, float]]  # name, mean as shown, score by seed as stored


@dataclass(frozen=True)
class Against:
    """A score compared with another by seed.

    Attributes:
        what: metric, or what is scored. own, other: as shown; name: the other's. difference: own minus other by
            seed, as stored. p_holm: its p value, corrected for all that were compared. of: how the scores are read.
    """

    what: str
    own: Interval
    other: Interval
    name: str
    difference: Difference
    p_holm: float
    of: Measure = SHARE

    @property
    def verdict(self) -> Verdict:
        """On the difference."""
        return judge(self.difference, self.p_holm, self.of)

    def texts(self) -> tuple[str, str, str]:
        """Own score, the other's and the difference, with their intervals."""
        d = shown(self.difference, self.of)
        own, other = (wording.estimate(*scores, digits=self.of.decimals) for scores in (self.own, self.other))
        return own, other, wording.estimate(*d, sign=True, digits=self.of.decimals)


@dataclass(frozen=True)
class Comparison:
    """The paper's own method against its baselines on one dataset and metric, selected epochs.

    Attributes:
        label, wide: the own cell's name, and its mean with the interval over seeds and test instances.
        strongest: it against the baseline of the best mean. verdicts: on every baseline.
    """

    of: Scope
    label: str
    wide: Interval | None
    strongest: Against
    verdicts: tuple[Verdict, ...]


def judge(difference: Difference, p_holm: float, of: Measure = SHARE) -> Verdict:
    """Better or worse only with five seeds or more, an interval on one side of zero and a corrected p below 0.05."""
    if difference.n < MIN_SEEDS:
        return "unjudged"
    if p_holm < SIGNIFICANT and (difference.low > 0 or difference.high < 0):
        return "better" if (difference.low > 0) == (of.better == "higher") else "worse"
    return "undecided"


def few_seeds(n: int) -> list[str]:
    """A sentence where n seeds are too few to judge."""
    if n >= MIN_SEEDS:
        return []
    return [f"{MIN_SEEDS} seeds are required to call a method better or worse; there {'is' if n == 1 else 'are'} {n}."]


def compare(of: Scope, metric: str) -> Comparison | None:
    """The comparison, or None where the experiment has no own method, no baseline, or no selected scores of them."""
    own = own_cells(of.grid, of.experiment)
    means = {ref: mean for ref in of.cells if (mean := of.mean(ref, metric))}
    scored = {ref: (of.label(ref), shown(mean, measure(metric)), of.scores(ref, metric)) for ref, mean in means.items()}
    ours, baselines = own[:1], [s for ref, s in scored.items() if ref not in own]
    if not ours or ours[0] not in scored or not baselines:
        return None
    compared = against_each(wording.metric_title(metric, of.data), scored[ours[0]], baselines, measure(metric))
    return Comparison(
        of=of,
        label=of.label(ours[0]),
        wide=of.wide(ours[0], metric),
        strongest=strongest(compared),
        verdicts=tuple(a.verdict for a in compared),
    )


def strongest(compared: list[Against]) -> Against:
    """The one whose other score is the best."""
    return max(compared, key=lambda a: a.of.sign * a.other.mean)


def against_each(what: str, own: Scored, others: list[Scored], of: Measure = SHARE) -> list[Against]:
    """One score against each of the others, p corrected for all of these."""
    found = [paired_difference(own[2], seeds) for _, _, seeds in others]
    return [
        Against(what, own[1], mean, name, difference, p, of)
        for (name, mean, _), difference, p in zip(others, found, corrected(found), strict=True)
    ]


def against_zero(difference: Difference) -> str:
    """'includes' or 'excludes': what its interval does with 0."""
    return "includes" if difference.low <= 0 <= difference.high else "excludes"


def p_in_words(p_holm: float, lead: str = ", ") -> str:
    """', p = 0.012 after Holm's correction'; empty where there is no p."""
    return f"{lead}p = {p} after Holm's correction".replace("= <", "< ") if (p := wording.p_value(p_holm)) else ""


def comparison_sentences(c: Comparison) -> list[str]:
    """The comparison in words, the verdict first."""
    best, d, of = c.strongest, c.strongest.difference, c.strongest.of
    own, other, difference = best.texts()
    out = [
        VERDICT_WORDS[best.verdict].format(ours=c.label, baseline=f"its strongest baseline, {best.name},")
        + f" on {c.of.data.title}.",
        f"{best.what} {own}{of.unit} against {other}{of.unit}; paired difference {difference}{of.unit_of_difference}"
        f"{p_in_words(best.p_holm)}; {wording.count(d.n, 'seed')}, {wording.count(c.of.n_instances, 'test instance')}.",
    ]
    if len(c.verdicts) > 1 and best.verdict != "unjudged":
        out.append(
            f"It is better than {c.verdicts.count('better')} and worse than {c.verdicts.count('worse')} of its "
            f"{len(c.verdicts)} baselines, with no significant difference to {c.verdicts.count('undecided')}."
        )
    out += few_seeds(d.n)
    if c.wide is not None:
        out.append(
            "Resampling test instances as well as seeds widens the interval of its score to "
            f"{wording.interval(*shown(c.wide, of)[1:], digits=of.decimals)}{of.unit}."
        )
    return out


@dataclass(frozen=True)
class Reproduction:
    """A published number beside ours under one protocol, as shown."""

    of: Scope
    ref: CellRef
    row: Published
    metric: str
    protocol: str
    ours: Interval

    @property
    def published(self) -> float:
        """The published number."""
        return self.row.values[self.metric]

    @property
    def reached(self) -> Reached | None:
        """Whether it was; None without an interval of at least five seeds."""
        return reach(self.published, self.ours, measure(self.metric)) if self.of.n_seeds >= MIN_SEEDS else None

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
            fair = "selected" if of.mean(ref, metric) else "last"
            found = [
                Reproduction(of, ref, row, metric, protocol, shown(ours, measure(metric)))
                for protocol in (fair, "optimistic")
                if (ours := of.mean(ref, metric, protocol)) is not None
            ]
            if found:
                out.append((found[0], found[1] if len(found) > 1 else None))
    return out


def reach(published: float, ours: Interval, of: Measure = SHARE) -> Reached:
    """Is a published number inside our interval, better than that or worse?"""
    if ours.low <= published <= ours.high:
        return "reproduced"
    return "not reached" if (published > ours.high) == (of.better == "higher") else "exceeded"


def verdict_on(r: Reproduction) -> str:
    """'reproduced', 'not reached', 'exceeded', or why there is no verdict."""
    return r.reached or f"no verdict with fewer than {MIN_SEEDS} seeds"


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
        out.append(f"{title}: {one.row.row} is published as {printed}. Ours{whose}, {verdicts}.")
    return out


def optimism(summary: pl.DataFrame, metric_by_dataset: dict[str, str]) -> tuple[float, int] | None:
    """Mean gain in points of `optimistic` over `selected` in the selecting metric, and over how many cells.

    Only of metrics that are shares.
    """
    gains = []
    keys = ["dataset", "method", "variant", "metric"]
    for (dataset, _, _, metric), part in summary.group_by(keys):
        means = dict(zip(part["protocol"], part["mean"], strict=True))
        counts = metric == metric_by_dataset[str(dataset)] and measure(str(metric)).percent
        if counts and {"selected", "optimistic"} <= means.keys():
            gains.append(100 * (means["optimistic"] - means["selected"]))
    return (float(np.mean(gains)), len(gains)) if gains else None

"""What may be said: the paper's method beside its baselines here, and published numbers beside ours.

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
from mmcontrast.config.metrics import SHARE, Measure, measure
from mmcontrast.evaluation.statistics import Difference, Interval, Sample, paired_difference, welch
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import own_cells
from mmcontrast.report.summary import shown
from mmcontrast.report.text import wording

MIN_SEEDS = 5
MIN_RUNS = 3  # on each side, of what was published and of ours
SIGNIFICANT = 0.05

Verdict = Literal["better", "worse", "undecided", "unjudged"]
Agreement = Literal["agrees", "differs", "cannot be judged"]
VERDICT_WORDS: dict[Verdict, str] = {
    "better": "{ours} scored better than {baseline}",
    "worse": "{ours} scored worse than {baseline}",
    "undecided": "Scores do not tell {ours} from {baseline}",
    "unjudged": "Too few seeds to judge {ours} against {baseline}",
}


Scored = tuple[str, Interval, dict[int, float]]  # name, mean as shown, score by seed as stored


@dataclass(frozen=True)
class Against:
    """A score compared with another by seed.

    Attributes:
        what: metric, or what is scored. own, other: as shown; name: the other's. difference: own minus other by
            seed, as stored. of: how the scores are read.
    """

    what: str
    own: Interval
    other: Interval
    name: str
    difference: Difference
    of: Measure = SHARE

    @property
    def verdict(self) -> Verdict:
        """On the difference."""
        return judge(self.difference, self.of)

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


def judge(difference: Difference, of: Measure = SHARE) -> Verdict:
    """Better or worse only with five seeds or more and an interval on one side of zero."""
    if difference.n < MIN_SEEDS:
        return "unjudged"
    if difference.low > 0 or difference.high < 0:
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
    what, overlap = wording.metric_title(metric, of.data), of.data.overlap
    compared = against_each(what, scored[ours[0]], baselines, measure(metric), overlap)
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


def against_each(
    what: str, own: Scored, others: list[Scored], of: Measure = SHARE, overlap: float = 0.0
) -> list[Against]:
    """One score against each of the others. overlap: see `statistics.over_seeds`."""
    return [
        Against(what, own[1], mean, name, paired_difference(own[2], seeds, overlap), of) for name, mean, seeds in others
    ]


def against_zero(difference: Difference) -> str:
    """'includes' or 'excludes': what its interval does with 0."""
    return "includes" if difference.low <= 0 <= difference.high else "excludes"


def comparison_sentences(c: Comparison) -> list[str]:
    """The comparison in words, the verdict first."""
    best, d, of = c.strongest, c.strongest.difference, c.strongest.of
    own, other, difference = best.texts()
    out = [
        VERDICT_WORDS[best.verdict].format(ours=c.label, baseline=f"its strongest baseline, {best.name},")
        + f" on {c.of.data.title}.",
        f"{best.what} {own}{of.unit} against {other}{of.unit}; paired difference {difference}{of.unit_of_difference}; "
        f"{wording.count(d.n, 'seed')}, {wording.count(c.of.n_instances, 'test instance')}; exploratory.",
    ]
    if len(c.verdicts) > 1 and best.verdict != "unjudged":
        out.append(
            f"It scored better than {c.verdicts.count('better')} and worse than {c.verdicts.count('worse')} of its "
            f"{len(c.verdicts)} baselines; for {c.verdicts.count('undecided')} the interval includes 0."
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

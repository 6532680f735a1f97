"""Differences that are themselves the result: declared before the run and tested, or exploratory with intervals alone.
Only here is a p value made: one per comparison, for its experiment's block of primary contrasts, figure and sentences.
"""

from dataclasses import dataclass, replace

import numpy as np

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.experiments import Contrast
from mmcontrast.config.metrics import Measure, measure
from mmcontrast.evaluation.statistics import Difference, Interval, holm, paired_difference
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import ALL
from mmcontrast.report.results import shown
from mmcontrast.report.tables.formats import SEEDS, Block, Column, Row, Value
from mmcontrast.report.text.wording import (
    against_zero,
    count,
    estimate,
    interval,
    listed,
    p_value,
    points,
    short_title,
)

WIDE = Column("wide", "Over seeds and test instances", "interval")


@dataclass(frozen=True)
class Compared:
    """A contrast with its difference by seed, as stored, whose p is NaN unless it is primary. `wide`: over seeds and
    test instances, where known. `p_holm`: corrected in its family, of which `family` is the size.
    """

    contrast: Contrast
    metric: str
    by_seed: dict[int, float]
    difference: Difference
    wide: Interval | None
    of: Measure
    p_holm: float = float("nan")
    family: int = 0

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; NaN for one."""
        return float(np.std(list(self.by_seed.values()), ddof=1)) if len(self.by_seed) > 1 else float("nan")


def compared(evidence: Evidence, experiment: str) -> list[Compared]:
    """Every contrast of an experiment that has scores in this selection, in its order."""
    found = []
    for c in evidence.grid.experiments[experiment].contrasts:
        if c.dataset not in evidence.grid.dataset_names:
            continue
        of = Scope(evidence, experiment, c.dataset)
        one, other, metric = ref_of(c.cell), ref_of(c.against), c.metric or of.data.metrics[0]
        a, b = of.scores(one, metric, c.protocol), of.scores(other, metric)
        if by_seed := {s: a[s] - b[s] for s in sorted(a.keys() & b.keys())}:
            difference = paired_difference(a, b)
            if not c.primary:
                difference = difference._replace(p=float("nan"))
            wide = of.wide_difference(one, other, metric) if c.protocol == "selected" else None
            found.append(Compared(c, metric, by_seed, difference, wide, measure(metric)))
    return _corrected(found)


def _corrected(found: list[Compared]) -> list[Compared]:
    """With p by Holm's method within each family: the primary contrasts of one dataset and score."""
    out = list(found)
    for key in dict.fromkeys((c.contrast.dataset, c.metric) for c in found):
        family = [i for i, c in enumerate(found) if c.contrast.primary and (c.contrast.dataset, c.metric) == key]
        for i, p in zip(family, holm(np.array([found[i].difference.p for i in family])), strict=True):
            out[i] = replace(found[i], p_holm=float(p), family=len(family))
    return out


def ref_of(cell: str) -> CellRef:
    """Of what a contrast names, method/variant."""
    method, _, variant = cell.partition("/")
    return CellRef(method=method, variant=variant)


def named(grid: Grid, c: Compared) -> str:
    """Dataset and score of a contrast."""
    data = grid.datasets[c.contrast.dataset]
    return f"{data.title}, {short_title(c.metric)}"


def contrast_blocks(evidence: Evidence, experiment: str) -> list[Block]:
    """A block of the primary contrasts with their p values, and one of the exploratory ones; each where there are."""
    found = compared(evidence, experiment)
    primary, others = ([c for c in found if c.contrast.primary == wanted] for wanted in (True, False))
    first = _block(evidence.grid, primary, "Primary contrasts, declared before the run", "primary")
    return first + _block(evidence.grid, others, "Differences by seed", "contrast")


def _block(grid: Grid, found: list[Compared], title: str, metric: str) -> list[Block]:
    if not found:
        return []
    in_points = " (points)" if all(c.of.percent for c in found) else ""
    columns = [
        Column("where", "Dataset and metric", "score"),
        Column("difference", f"Difference{in_points}", "difference"),
    ]
    if any(c.wide for c in found):
        columns.append(WIDE)
    if any(c.contrast.protocol == "optimistic" for c in found):
        columns.append(Column("spread", "sd over seeds", "score"))
    if metric == "primary":
        columns += [
            Column("p", "p", "p"),
            Column("p_holm", "p (Holm)", "p"),
            Column("family", "Tests in its family", "count"),
        ]
    rows = [Row(c.contrast.label, _values(grid, c)) for c in found]
    return [Block(title + in_points, [*columns, SEEDS], rows, {"dataset": ALL, "metric": metric})]


def _values(grid: Grid, c: Compared) -> dict[str, Value]:
    values = {"where": Value(word=named(grid, c)), "seeds": Value(float(c.difference.n))}
    if c.contrast.protocol == "optimistic":
        shown = {"difference": c.difference.mean, "spread": c.spread}
        return values | {key: Value(c.of.factor * x, digits=c.of.decimals) for key, x in shown.items()}
    values |= {"difference": Value.of(c.difference, c.of), "wide": Value.of(c.wide, c.of)}
    tests = {"p": Value(c.difference.p), "p_holm": Value(c.p_holm), "family": Value(float(c.family))}
    return values | (tests if c.contrast.primary else {})


def sentence(grid: Grid, c: Compared) -> str:
    """A contrast in words."""
    d, of, seeds = c.difference, c.of, count(c.difference.n, "seed")
    start = f"{c.contrast.label}, {named(grid, c)}: "
    if c.contrast.protocol == "optimistic":
        spread = f", standard deviation {points(of.factor * c.spread, digits=of.decimals)}" if d.n > 1 else ""
        gain = points(of.factor * d.mean, sign=True, digits=of.decimals)
        return f"{start}mean gain {gain}{of.unit_of_difference}{spread}; {seeds}; a maximum is not tested."
    said = f"{start}{estimate(*shown(d, of), sign=True, digits=of.decimals)}{of.unit_of_difference}"
    if c.wide is not None:
        said += f", over seeds and test instances {interval(*shown(c.wide, of)[1:], sign=True, digits=of.decimals)}"
    if c.contrast.primary and p_value(d.p):
        return (
            f"{said}; p = {p_value(d.p)}, after Holm's correction over {count(c.family, 'primary contrast')} "
            f"{p_value(c.p_holm)}; {seeds}."
        ).replace("p = <", "p < ")
    against = f"; the interval {against_zero(d)} 0" if d.n > 1 else ""
    return f"{said}{against}; {seeds}."


def contrast_findings(evidence: Evidence, experiment: str) -> list[str]:
    """One sentence per contrast; none where the suite changes every cell."""
    grid = evidence.grid
    return [] if grid.suite.overrides.given() else [sentence(grid, c) for c in compared(evidence, experiment)]


def contrast_notes(grid: Grid, experiment: str) -> list[str]:
    """How the differences were made."""
    contrasts = grid.experiments[experiment].contrasts
    said = dict.fromkeys(f"{c.label}: {c.cell} ({c.protocol}) minus {c.against}" for c in contrasts)
    return listed("notes", "contrasts", contrasts, said)

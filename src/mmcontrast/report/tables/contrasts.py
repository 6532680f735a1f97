"""Differences that are themselves the result: of a cell with and without a defect, or of two protocols of one cell."""

from __future__ import annotations

from dataclasses import dataclass

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.experiments import Contrast
from mmcontrast.config.metrics import Measure, measure
from mmcontrast.evaluation.statistics import Difference, paired_difference
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import ALL
from mmcontrast.report.summary import corrected, shown
from mmcontrast.report.tables.formats import SEEDS, Block, Column, Row, Value, difference_columns, difference_values
from mmcontrast.report.text.conclusions import against_zero, p_in_words
from mmcontrast.report.text.wording import LEVEL_NAME, count, estimate, short_title


@dataclass(frozen=True)
class Compared:
    """A contrast with its difference by seed, as stored, and its p by Holm over the experiment's contrasts."""

    contrast: Contrast
    by_seed: dict[int, float]
    difference: Difference
    p_holm: float
    of: Measure


def compared(evidence: Evidence, experiment: str) -> list[Compared]:
    """Every contrast of an experiment that has scores in this selection, in its order."""
    found = []
    for c in evidence.grid.experiments[experiment].contrasts:
        if c.dataset not in evidence.grid.dataset_names:
            continue
        of = Scope(evidence, experiment, c.dataset)
        one = of.scores(_ref(c.cell), of.data.metrics[0], c.protocol)
        other = of.scores(_ref(c.against), of.data.metrics[0])
        if one and other:
            by_seed = {s: one[s] - other[s] for s in sorted(one.keys() & other.keys())}
            found.append((c, by_seed, paired_difference(one, other), measure(of.data.metrics[0])))
    p_values = corrected(difference for _, _, difference, _ in found)
    return [Compared(c, by_seed, d, p, of_it) for (c, by_seed, d, of_it), p in zip(found, p_values, strict=True)]


def _ref(cell: str) -> CellRef:
    method, _, variant = cell.partition("/")
    return CellRef(method=method, variant=variant)


def contrast_blocks(evidence: Evidence, experiment: str) -> list[Block]:
    """One block: a row per contrast."""
    found = compared(evidence, experiment)
    in_points = " (points)" if all(c.of.percent for c in found) else ""
    columns = [Column("where", "Dataset and metric", "score"), *difference_columns(f"Difference{in_points}"), SEEDS]
    rows = []
    for c in found:
        data = evidence.grid.datasets[c.contrast.dataset]
        values = {
            "where": Value(word=f"{data.title}, {short_title(data.metrics[0])}"),
            "seeds": Value(float(c.difference.n)),
        }
        rows.append(Row(c.contrast.label, values | difference_values(c.difference, c.p_holm, of=c.of)))
    keys = {"dataset": ALL, "metric": "contrast"}
    return [Block(f"Differences by seed{in_points}", columns, rows, keys)] if rows else []


def contrast_findings(evidence: Evidence, experiment: str) -> list[str]:
    """One sentence per contrast; none where the suite changes every cell."""
    grid = evidence.grid
    if grid.suite.overrides.given():
        return []
    out = []
    for c in compared(evidence, experiment):
        interval = f", whose interval {against_zero(c.difference)} 0" if c.difference.n > 1 else ""
        difference = estimate(*shown(c.difference, c.of), sign=True, digits=c.of.decimals)
        out.append(
            f"{c.contrast.label}, {grid.datasets[c.contrast.dataset].title}: "
            f"{difference}{c.of.unit_of_difference}{interval}{p_in_words(c.p_holm, '; ')}; "
            f"{count(c.difference.n, 'seed')}."
        )
    return out


def contrast_notes(grid: Grid, experiment: str) -> list[str]:
    """How the differences were made."""
    spec = grid.experiments[experiment]
    if not spec.contrasts:
        return []
    said = [f"{c.label}: {c.cell} ({c.protocol}) minus {c.against}" for c in spec.contrasts]
    return [
        f"Differences by seed: of the test score of the selected epoch, or of the probe; brackets: {LEVEL_NAME} "
        "bootstrap interval over seeds; p: paired t-test, corrected by Holm's method over all of these; empty where "
        "they do not vary. " + "; ".join(said) + "."
    ]

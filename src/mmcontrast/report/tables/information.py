"""Redundant, unique and synergistic information in an embedding: R, U and S of an experiment with `information`. R and
U are probed after pretraining on unbiased pairs, S after biased ones; S after unbiased pretraining is the control: a
linear probe gains from unique features too, so synergy is what the biased pairs add to it.
"""

from dataclasses import dataclass

import numpy as np

from mmcontrast.config import BASE_VARIANT, Arms, CellRef, Grid, Information, Published
from mmcontrast.evaluation.statistics import Difference, Interval, over_seeds, paired_difference
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.outputs import active_arms, cell_name
from mmcontrast.report.results import shown
from mmcontrast.report.tables.formats import SEEDS, Block, Column, Row, Value
from mmcontrast.report.text.wording import against_zero, cell_label, count, estimate, published_text, told

LETTERS = ("R", "U", "S")
NAMES = ("R: redundant", "U: unique", "S: synergistic")


@dataclass(frozen=True)
class Kept:
    """Scores of one cell as fractions, by seed: R and U after unbiased pretraining, S after biased, `control`: S after
    unbiased. `gain`: S minus control. `as_it_is`: it is no variant of its method, but what a recipe may make of it.
    """

    ref: CellRef
    scores: dict[str, dict[int, float]]
    gain: Difference
    as_it_is: bool

    def estimates(self) -> dict[str, Interval]:
        """R, U, S and control in percent, with their intervals over seeds."""
        return {name: shown(over_seeds(np.array(list(of.values())), share=True)) for name, of in self.scores.items()}

    def sentences(self, name: str, chance: dict[str, float]) -> list[str]:
        """R, U and S beside chance, and S against its control. name: the cell's, as the sentence begins."""
        found, gain = self.estimates(), shown(self.gain)
        said = ", ".join(f"{x} {estimate(*found[x])} % (chance {chance[x]:g})" for x in LETTERS)
        return [
            f"{name}: {said}.",
            f"S against its control, {estimate(*found['control'])} % after unbiased pretraining: paired difference "
            f"{estimate(*gain, sign=True)} points, whose interval {against_zero(self.gain)} 0; "
            f"{count(self.gain.n, 'seed')}.",
        ]


def chances(grid: Grid, asked: Information, arms: Arms) -> dict[str, float]:
    """R, U and S at chance, in percent: balanced accuracy of one over the number of classes."""
    data = grid.datasets[arms.unbiased]
    tasks = ("", asked.unique[0], asked.synergistic)
    return {letter: 100 / data.targets[task].width for letter, task in zip(LETTERS, tasks, strict=True)}


def kept_by_cell(evidence: Evidence, experiment: str, asked: Information, arms: Arms) -> list[Kept]:
    """Every cell of the experiment, in its order; one without scores in both arms is left out."""
    unbiased, biased = (Scope(evidence, experiment, d) for d in (arms.unbiased, arms.biased))
    metric = unbiased.data.metrics[0]
    found = []
    for ref in unbiased.spec.cells:
        uniques = [unbiased.scores(ref, f"{task}/{metric}") for task in asked.unique]
        synergistic, control = (of.scores(ref, f"{asked.synergistic}/{metric}") for of in (biased, unbiased))
        if not synergistic or not control:
            continue
        unique = {seed: float(np.mean([of[seed] for of in uniques])) for seed in uniques[0]}
        scores = {"R": unbiased.scores(ref, metric), "U": unique, "S": synergistic, "control": control}
        as_it_is = ref.variant in (BASE_VARIANT, unbiased.config(ref).recipe)
        found.append(Kept(ref, scores, paired_difference(synergistic, control), as_it_is))
    return found


def published(grid: Grid, experiment: str) -> dict[str, Published]:
    """Row -> published R, U and S, of whatever size they are."""
    asked = grid.experiments[experiment].information
    return {p.row: p for p in grid.published(experiment).rows if asked and p.dataset == asked.published}


def published_beside(theirs: dict[str, Published], kept: Kept) -> Published | None:
    """The row of a cell. A method by a recipe stands beside what its paper prints for the method."""
    cell = kept.ref.method, BASE_VARIANT if kept.as_it_is else kept.ref.variant
    return next((p for p in theirs.values() if (p.method, p.variant) == cell), None)


def information_blocks(evidence: Evidence, experiment: str) -> list[Block]:
    """A block for each size of the data: R, U, S and the control of every cell, beside the published values."""
    return [_block(evidence, experiment, *found) for found in active_arms(evidence.grid, experiment)]


def _block(evidence: Evidence, experiment: str, asked: Information, arms: Arms) -> Block:
    grid, theirs = evidence.grid, published(evidence.grid, experiment)
    where = "Published" if asked.published == arms.unbiased else "Published at full size"
    columns = [Column(f"published_{x}", f"{where}, {x}", "published") for x in LETTERS] if theirs else []
    columns += [Column(x, f"Ours, {name}", "score") for x, name in zip(LETTERS, NAMES, strict=True)]
    columns.append(Column("control", "Ours, S after unbiased pretraining (control)", "score"))
    columns += [Column("difference", "S, difference to its control", "difference"), SEEDS]
    rows, seen = [], set()
    for kept in kept_by_cell(evidence, experiment, asked, arms):
        values = {name: Value(*e) for name, e in kept.estimates().items()}
        values |= {"difference": Value.of(kept.gain), "seeds": Value(float(kept.gain.n))}
        if (p := published_beside(theirs, kept)) is not None:
            values |= _values(p)
            seen.add(p.row)
        rows.append(Row(cell_label(grid, kept.ref), values, cell_name(arms.biased, kept.ref)))
    first = [Row(p.row, _values(p)) for row, p in theirs.items() if row not in seen]
    title = f"{grid.datasets[arms.unbiased].title}: redundant, unique and synergistic information (%)"
    return Block(title, columns, first + rows, {"dataset": arms.unbiased, "metric": "information"})


def _values(p: Published) -> dict[str, Value]:
    return {f"published_{x}": Value.published(p, x) for x in LETTERS if x in p.values}


def information_findings(evidence: Evidence, experiment: str) -> list[str]:
    """One sentence per cell on R, U, S and its control, the largest difference between these two first."""
    out, grid = [], evidence.grid
    for asked, arms in active_arms(grid, experiment):
        title, chance = grid.datasets[arms.unbiased].title, chances(grid, asked, arms)
        for kept in sorted(kept_by_cell(evidence, experiment, asked, arms), key=lambda k: -k.gain.mean):
            # with a floor or a ceiling no method is compared
            if grid.methods[kept.ref.method].implementation != "oracle":
                out.append(" ".join(kept.sentences(f"{title}, {cell_label(grid, kept.ref)}", chance)))
    return out


def information_notes(grid: Grid, experiment: str) -> list[str]:
    """What R, U, S and the control are, and whether the size of the published values was run."""
    asked = grid.experiments[experiment].information
    if asked is None:
        return []
    data = grid.datasets[asked.arms[0].unbiased]
    out = [told("notes", "information", data, asked)]
    if asked.published is not None and asked.published not in [a.unbiased for _, a in active_arms(grid, experiment)]:
        printed = published(grid, experiment).items()
        said = {row: [f"{x} {published_text(p, x)}" for x in LETTERS if x in p.values] for row, p in printed}
        rows = "; ".join(f"{row} {', '.join(numbers)}" for row, numbers in said.items())
        full = grid.datasets[asked.published].title
        why = "Size, classes and hence chance differ here, so that whether ours agree cannot be judged."
        out.append(f"{full}, the published size: not run. Published: {rows}. {why}")
    source = grid.published(experiment).source
    if source and published(grid, experiment):
        out.append(f"Published numbers: {' '.join(source.split())}.")
    return out

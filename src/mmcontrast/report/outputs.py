"""Which files the report consists of, known from params/ alone. The workflow imports this at each start."""

from __future__ import annotations

from typing import NamedTuple

from mmcontrast.config import BASE_VARIANT, Arms, CellConfig, CellRef, Grid
from mmcontrast.config.experiments import OVERALL, FigureKind
from mmcontrast.paths import FIGURE_FORMATS, TABLE_FORMATS, Layout

NARROW = "narrow.svg"
PLAIN_FUSION = "concat"

KINDS: dict[str, tuple[FigureKind, ...]] = {
    "table": ("scores", "curves", "projection"),
    "ablation": ("differences", "curves"),
    "matrix": (),
}
# where retrieval scores, there are observations to look at, and no classes to colour
RETRIEVAL_KINDS: dict[str, tuple[FigureKind, ...]] = {
    "table": ("scores", "curves", "neighbours", "similarities", "observations"),
    "ablation": ("differences", "curves"),
    "matrix": (),
}
# what stands for the dataset of a figure or block of all of them
ALL = "all"


class FigureSpec(NamedTuple):
    """A figure of an experiment on one dataset, or on ALL; `name` is its file name without suffix."""

    name: str
    kind: FigureKind
    experiment: str
    dataset: str


def results_outputs(layout: Layout) -> dict[str, str]:
    """The results table and its extracts, by what they are."""
    return {
        "results": layout.report("results.parquet"),
        "intervals": layout.report("intervals.parquet"),
        "metrics": layout.report("metrics.json"),
        "scores": layout.report("plots/scores.csv"),
        "curves": layout.report("plots/curves.csv"),
    }


def experiment_datasets(grid: Grid, experiment: str) -> list[str]:
    """The datasets of an experiment that this selection runs, in the experiment's order."""
    datasets = grid.experiments[experiment].datasets
    return [d for d in datasets if d in grid.dataset_names and grid.cells_on(experiment, d)]


def active_arms(grid: Grid, experiment: str) -> list[Arms]:
    """The pairs of datasets of an experiment on information that this selection runs both of."""
    asked = grid.experiments[experiment].information
    chosen = experiment_datasets(grid, experiment)
    return [arms for arms in asked.arms if {arms.unbiased, arms.biased} <= set(chosen)] if asked else []


def own_cells(grid: Grid, experiment: str) -> list[CellRef]:
    """The cells of the paper's own method, as opposed to its baselines; the method as it is comes first.

    A variant of it that the experiment takes for its reference is a baseline.
    """
    spec = grid.experiments[experiment]
    reference = spec.reference and (spec.reference.method, spec.reference.variant)
    own = [
        c
        for c in spec.cells
        if spec.paper is not None
        and grid.methods[c.method].paper == spec.paper
        and (c.variant == BASE_VARIANT or (c.method, c.variant) != reference)
    ]
    return sorted(own, key=lambda c: c.variant != BASE_VARIANT)


def projected_cells(grid: Grid, experiment: str, dataset: str) -> list[CellRef]:
    """What the embedding figure shows side by side: plain fusion, or else the first baseline, and the own method."""
    there = grid.cells_on(experiment, dataset)
    own = [c for c in own_cells(grid, experiment) if c in there]
    baselines = [c for c in there if c not in own]
    plain = [c for c in baselines if grid.methods[c.method].implementation == PLAIN_FUSION]
    return (plain or baselines)[:1] + own[:1]


def curve_cells(grid: Grid, experiment: str, dataset: str) -> list[CellRef]:
    """What the training curves show: every cell of an ablation; of a table one multimodal cell a method."""
    cells = grid.cells_on(experiment, dataset)
    if grid.experiments[experiment].kind == "ablation":
        return cells
    out: dict[str, CellRef] = {}
    for ref in sorted(cells, key=lambda c: c.variant != BASE_VARIANT):
        if grid.cell(dataset, ref.method, ref.variant).objective.get("modality") is None:
            out.setdefault(ref.method, ref)
    return [c for c in cells if c in out.values()]


def is_probed(grid: Grid, dataset: str, ref: CellRef) -> bool:
    """Does a probe score the cell?"""
    return grid.cell(dataset, ref.method, ref.variant).scored_by == "probe"


def figures(grid: Grid, experiment: str) -> list[FigureSpec]:
    """The figures of an experiment, dataset by dataset."""
    spec = grid.experiments[experiment]
    there = {f"{d}/{c.method}/{c.variant}" for d, c in grid.experiment_cells(experiment)}
    whole = [c for c in spec.contrasts if {f"{c.dataset}/{c.cell}", f"{c.dataset}/{c.against}"} <= there]
    together = [k for k in spec.figures or [] if k in OVERALL and (k != "contrasts" or whole or not grid.lost)]
    overall = [FigureSpec(f"{experiment}_{kind}", kind, experiment, ALL) for kind in together]
    of_both = {arms.unbiased: ("information",) for arms in active_arms(grid, experiment)}
    return overall + [
        FigureSpec(f"{experiment}_{dataset}_{kind}", kind, experiment, dataset)
        for dataset in experiment_datasets(grid, experiment)
        for kind in (*of_both.get(dataset, ()), *_kinds(grid, experiment, dataset))
    ]


def _kinds(grid: Grid, experiment: str, dataset: str) -> list[FigureKind]:
    """What the experiment asks for, else what its kind has on such data."""
    spec = grid.experiments[experiment]
    by_kind = KINDS if grid.datasets[dataset].retrieval is None else RETRIEVAL_KINDS
    # where information is asked for, its figure has the sweep
    informed = {d for arms in active_arms(grid, experiment) for d in (arms.unbiased, arms.biased)}
    sweep: list[FigureKind] = ["sweep"] if spec.sweep and dataset not in informed else []
    kinds = [*sweep, *by_kind[spec.kind]] if spec.figures is None else [k for k in spec.figures if k not in OVERALL]
    of_cells = ("projection", "neighbours", "similarities")
    some = bool(projected_cells(grid, experiment, dataset))
    there = grid.cells_on(experiment, dataset)
    # without a lost cell there may be nothing to draw
    compared = len(there) > 1
    searched = not grid.lost or any(grid.cell(dataset, c.method, c.variant).objective.get("search") for c in there)
    possible = {"differences": compared, "search": searched, **dict.fromkeys(of_cells, some)}
    return [k for k in kinds if possible.get(k, True)]


def figure_outputs(grid: Grid, layout: Layout, experiment: str) -> list[str]:
    """Every figure as png, pdf and svg, and as a narrow svg for small screens."""
    suffixes = (*FIGURE_FORMATS, NARROW)
    return [layout.figure(experiment, f.name, suffix) for f in figures(grid, experiment) for suffix in suffixes]


def table_outputs(layout: Layout, experiment: str) -> list[str]:
    """The experiment's table as md, tex and csv."""
    return [layout.table(experiment, suffix) for suffix in TABLE_FORMATS]


def experiment_outputs(grid: Grid, layout: Layout, experiment: str) -> list[str]:
    """Every file that `write_experiment` makes."""
    return table_outputs(layout, experiment) + figure_outputs(grid, layout, experiment)


def switch_epoch(cell: CellConfig) -> int | None:
    """First epoch of MultiSClip in M3CoL's schedule, or None where a run has but one contrastive term, or none."""
    fraction, stage = cell.objective.get("schedule_fraction"), cell.finetune
    if fraction is None or stage is None or cell.objective.get("beta") == 0:
        return None
    epoch = int(fraction * stage.epochs)
    return epoch if 0 < epoch < stage.epochs else None

"""What is written under each figure on the page, and read out in its place."""

from __future__ import annotations

from collections.abc import Callable

from mmcontrast.config import Grid
from mmcontrast.config.experiments import OVERALL
from mmcontrast.report.outputs import FigureSpec, active_arms, curve_cells, is_probed, projected_cells, switch_epoch
from mmcontrast.report.sampling_captions import CAPTIONS, caption
from mmcontrast.report.study_captions import overall_caption
from mmcontrast.report.text.wording import LEVEL_NAME, cell_label, count, find_cell, metric_title

RETRIEVAL_CAPTIONS = {
    "neighbours": (
        "Queries on {data} and the five items nearest to them among those of all {cases}, nearest first: {own}, seed "
        "{seed}, selected epoch. Right answers are framed or printed in green. Of an instance its first drawing is "
        "shown. The queries are drawn at random by a fixed seed, not picked."
    ),
    "similarities": (
        "Cosine similarity of drawings and texts of a few of {cases} on {data}, ordered by instance (thin lines): "
        "{names}, seed {seed}, selected epoch. Instances are drawn at random by a fixed seed; a perfect model has dark "
        "red blocks on the diagonal alone. Scales of similarity do not compare between losses."
    ),
    "observations": "What {data} holds: every drawing and text of a few of {cases}, drawn at random by a fixed seed.",
}


def figure_caption(grid: Grid, spec: FigureSpec, n_cases: int) -> str:
    """What a figure shows, with its interval's name and n."""
    if spec.kind in OVERALL:
        return overall_caption(grid, spec.experiment, spec.kind)
    if spec.kind in CAPTIONS:
        return caption(grid, spec.kind, spec.dataset, n_cases)
    if spec.kind in RETRIEVAL_CAPTIONS:
        return _retrieval(grid, spec, n_cases)
    seeds, cases = count(len(grid.seeds_of(spec.dataset)), "seed"), count(n_cases, "test case")
    return OF_A_DATASET[spec.kind](grid, spec, seeds, cases)


def _retrieval(grid: Grid, spec: FigureSpec, n_cases: int) -> str:
    cells = projected_cells(grid, spec.experiment, spec.dataset)
    labels = [cell_label(grid, c) for c in cells]
    return RETRIEVAL_CAPTIONS[spec.kind].format(
        data=grid.datasets[spec.dataset].title,
        cases=count(n_cases, "test case"),
        seed=grid.seeds_of(spec.dataset)[0],
        own=labels[-1] if labels else "",
        names=" and ".join(labels),
    )


def _information(grid: Grid, spec: FigureSpec, seeds: str, cases: str) -> str:
    title = grid.datasets[spec.dataset].title
    biased = next(a.biased for a in active_arms(grid, spec.experiment) if a.unbiased == spec.dataset)
    what = (
        f"Redundant (R), unique (U) and synergistic (S) information in frozen embeddings, {cases}: balanced "
        f"accuracy of linear probes. R and U after pretraining on {title}, S after {grid.datasets[biased].title}; "
    )
    if grid.experiments[spec.experiment].sweep:
        return what + (
            f"hollow marks: its control, S after {title}. Marks: mean of {seeds}; small dots: single seeds; thick "
            f"lines: {LEVEL_NAME} bootstrap interval over seeds; level dashes: chance."
        )
    return what + (
        f"hatched: its control, S after {title}. Bars: mean of {seeds}; dots: single seeds; lines: {LEVEL_NAME} "
        "bootstrap interval over seeds; dashed: chance; diamonds, where there are any: published at the full size, "
        "with other classes."
    )


def _scores(grid: Grid, spec: FigureSpec, seeds: str, cases: str) -> str:
    probed = all(is_probed(grid, spec.dataset, c) for c in grid.cells_on(spec.experiment, spec.dataset))
    chosen = "epoch selected on validation (squares: last epoch, where no validation split exists)"
    optimistic = (
        " Hollow dots: best epoch on the test split, which is optimistic. Black bar, where there is one: the "
        "published number."
    )
    return (
        f"Test scores on {grid.datasets[spec.dataset].title}. Filled dots: {'linear probe' if probed else chosen}, "
        f"mean of {seeds}; small dots: single seeds. Thick lines: {LEVEL_NAME} bootstrap interval over seeds; thin "
        f"lines: over seeds and {cases}." + ("" if probed else optimistic)
    )


def _differences(grid: Grid, spec: FigureSpec, seeds: str, cases: str) -> str:
    reference = grid.experiments[spec.experiment].reference
    ref = reference and (find_cell(grid, spec.experiment, reference.method, reference.variant) or reference)
    name = cell_label(grid, ref) if ref else "the first cell"
    return (
        f"Differences to {name} on {grid.datasets[spec.dataset].title}, {cases}: selected epoch, paired by seed. "
        f"Dots: mean of {seeds}; small dots: single seeds; lines: {LEVEL_NAME} bootstrap interval over seeds; p: "
        "paired t-test, corrected by Holm's method."
    )


def _sweep(grid: Grid, spec: FigureSpec, seeds: str, cases: str) -> str:
    return (
        f"Test scores on {grid.datasets[spec.dataset].title}, {cases}, epoch selected on validation. Marks: mean of "
        f"{seeds}; small dots: single seeds; thick lines: {LEVEL_NAME} bootstrap interval over seeds."
    )


def _curves(grid: Grid, spec: FigureSpec, seeds: str, cases: str) -> str:
    del cases  # no test case is in them
    dataset, shown = grid.datasets[spec.dataset], curve_cells(grid, spec.experiment, spec.dataset)
    names = ", ".join(cell_label(grid, c) for c in shown)
    cells = [grid.cell(spec.dataset, c.method, c.variant) for c in shown]
    above = f"Above: validation {metric_title(dataset.metrics[0]).lower()}; below: training loss"
    drawn = above if any(cell.scored_by != "probe" for cell in cells) else "Training loss"
    dotted = " Dotted: where a schedule changes from M3Co to MultiSClip." if any(map(switch_epoch, cells)) else ""
    return (
        f"Training on {dataset.title}: {names}. {drawn}, whose terms differ between methods. Lines: mean of "
        f"{seeds}; bands: lowest to highest seed.{dotted}"
    )


def _projection(grid: Grid, spec: FigureSpec, seeds: str, cases: str) -> str:
    del seeds  # one of them is shown
    names = " and ".join(cell_label(grid, c) for c in projected_cells(grid, spec.experiment, spec.dataset))
    return (
        f"Test embeddings of {names} on {grid.datasets[spec.dataset].title}, {cases}, seed "
        f"{grid.seeds_of(spec.dataset)[0]}, by class. Each panel has principal components of its own; distances do "
        "not compare between panels."
    )


OF_A_DATASET: dict[str, Callable[[Grid, FigureSpec, str, str], str]] = {
    "information": _information,
    "scores": _scores,
    "differences": _differences,
    "sweep": _sweep,
    "curves": _curves,
    "projection": _projection,
}

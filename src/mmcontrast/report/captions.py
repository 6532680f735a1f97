"""What is written under each figure on the page, and read out in its place."""

from __future__ import annotations

from mmcontrast.config import Study
from mmcontrast.config.experiments import OVERALL
from mmcontrast.report.outputs import FigureSpec, active_arms, curve_cells, is_probed, projected_cells, switch_epoch
from mmcontrast.report.sampling_captions import CAPTIONS, caption
from mmcontrast.report.study_captions import overall_caption
from mmcontrast.report.wording import LEVEL_NAME, cell_label, count, find_cell, metric_title

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


def figure_caption(study: Study, spec: FigureSpec, n_cases: int) -> str:
    """What a figure shows, with its interval's name and n."""
    if spec.kind in OVERALL:
        return overall_caption(study, spec.experiment, spec.kind)
    dataset = study.datasets[spec.dataset]
    if spec.kind == "observations":
        return RETRIEVAL_CAPTIONS["observations"].format(data=dataset.title, cases=count(n_cases, "test case"))
    seeds, cases = count(len(study.seeds_of(spec.dataset)), "seed"), count(n_cases, "test case")
    if spec.kind == "information":
        biased = next(a.biased for a in active_arms(study, spec.experiment) if a.unbiased == spec.dataset)
        return (
            f"Redundant (R), unique (U) and synergistic (S) information in frozen embeddings, {cases}: balanced "
            f"accuracy of linear probes. R and U after pretraining on {dataset.title}, S after "
            f"{study.datasets[biased].title}; hatched: its control, S after {dataset.title}. Bars: mean of {seeds}; "
            f"dots: single seeds; lines: {LEVEL_NAME} bootstrap interval over seeds; dashed: chance; "
            "diamonds, where there are any: published at the full size, with other classes."
        )
    if spec.kind == "scores":
        probed = [is_probed(study, spec.dataset, c) for c in study.cells_on(spec.experiment, spec.dataset)]
        chosen = "epoch selected on validation (squares: last epoch, where no validation split exists)"
        optimistic = (
            " Hollow dots: best epoch on the test split, which is optimistic. Black bar, where there is one: the "
            "published number."
        )
        return (
            f"Test scores on {dataset.title}. Filled dots: {'linear probe' if all(probed) else chosen}, mean of "
            f"{seeds}; small dots: single seeds. Thick lines: {LEVEL_NAME} bootstrap interval over seeds; thin lines: "
            f"over seeds and {cases}." + ("" if all(probed) else optimistic)
        )
    if spec.kind in CAPTIONS:
        return caption(study, spec.kind, spec.dataset, n_cases)
    if spec.kind == "differences":
        reference = study.experiments[spec.experiment].reference
        ref = reference and (find_cell(study, spec.experiment, reference.method, reference.variant) or reference)
        name = cell_label(study, ref) if ref else "the first cell"
        return (
            f"Differences to {name} on {dataset.title}, {cases}: selected epoch, paired by seed. Dots: mean of "
            f"{seeds}; small dots: single seeds; lines: {LEVEL_NAME} bootstrap interval over seeds; p: paired t-test, "
            f"corrected by Holm's method."
        )
    if spec.kind == "sweep":
        return (
            f"Test scores on {dataset.title}, {cases}, epoch selected on validation. Marks: mean of {seeds}; small "
            f"dots: single seeds; thick lines: {LEVEL_NAME} bootstrap interval over seeds."
        )
    if spec.kind == "curves":
        shown = curve_cells(study, spec.experiment, spec.dataset)
        names = ", ".join(cell_label(study, c) for c in shown)
        drawn_cells = [study.cell(spec.dataset, c.method, c.variant) for c in shown]
        above = f"Above: validation {metric_title(dataset.metrics[0]).lower()}; below: training loss"
        drawn = above if any(cell.scored_by != "probe" for cell in drawn_cells) else "Training loss"
        dotted = (
            " Dotted: where a schedule changes from M3Co to MultiSClip." if any(map(switch_epoch, drawn_cells)) else ""
        )
        return (
            f"Training on {dataset.title}: {names}. {drawn}, whose terms differ between methods. Lines: mean of "
            f"{seeds}; bands: lowest to highest seed.{dotted}"
        )
    first_seed = study.seeds_of(spec.dataset)[0]
    if spec.kind in RETRIEVAL_CAPTIONS:
        cells = projected_cells(study, spec.experiment, spec.dataset)
        names = " and ".join(cell_label(study, c) for c in cells)
        return RETRIEVAL_CAPTIONS[spec.kind].format(
            data=dataset.title,
            cases=cases,
            seed=first_seed,
            own=cell_label(study, cells[-1]),
            names=names,
        )
    names = " and ".join(cell_label(study, c) for c in projected_cells(study, spec.experiment, spec.dataset))
    return (
        f"Test embeddings of {names} on {dataset.title}, {cases}, seed {first_seed}, by class. Each panel "
        f"has principal components of its own; distances do not compare between panels."
    )

"""What is written under each figure on the page, and read out in its place."""

from __future__ import annotations

from mmcontrast.config import Study
from mmcontrast.report.outputs import FigureSpec, curve_cells, is_probed, projected_cells, switch_epoch
from mmcontrast.report.sampling_captions import CAPTIONS, caption
from mmcontrast.report.wording import LEVEL_NAME, cell_label, count, find_cell, metric_title


def figure_caption(study: Study, spec: FigureSpec, n_cases: int) -> str:
    """What a figure shows, with its interval's name and n."""
    dataset = study.datasets[spec.dataset]
    seeds, cases = count(len(study.profile.seeds), "seed"), count(n_cases, "test case")
    if spec.kind == "scores":
        probed = [is_probed(study, spec.dataset, c) for c in study.experiments[spec.experiment].cells]
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
    if spec.kind == "curves":
        names = ", ".join(cell_label(study, c) for c in curve_cells(study, spec.experiment))
        cells = [study.cell(spec.dataset, c.method, c.variant) for c in curve_cells(study, spec.experiment)]
        above = f"Above: validation {metric_title(dataset.metrics[0]).lower()}; below: training loss"
        drawn = above if any(cell.finetune for cell in cells) else "Training loss"
        dotted = " Dotted: where a schedule changes from M3Co to MultiSClip." if any(map(switch_epoch, cells)) else ""
        return (
            f"Training on {dataset.title}: {names}. {drawn}, whose terms differ between methods. Lines: mean of "
            f"{seeds}; bands: lowest to highest seed.{dotted}"
        )
    names = " and ".join(cell_label(study, c) for c in projected_cells(study, spec.experiment))
    return (
        f"Test embeddings of {names} on {dataset.title}, {cases}, seed {study.profile.seeds[0]}, by class. Each panel "
        f"has principal components of its own; distances do not compare between panels."
    )

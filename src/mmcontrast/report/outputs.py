"""Which files the report consists of, known from params/ alone. The workflow imports this at each start."""

from __future__ import annotations

from typing import Literal, NamedTuple

from mmcontrast.config import CellRef, Study
from mmcontrast.paths import FIGURE_FORMATS, TABLE_FORMATS, Layout

NARROW = "narrow.svg"
PLAIN_FUSION = "concat"

FigureKind = Literal["scores", "differences", "curves", "projection"]
KINDS: dict[str, tuple[FigureKind, ...]] = {
    "table": ("scores", "curves", "projection"),
    "ablation": ("differences", "curves"),
}


class FigureSpec(NamedTuple):
    """A figure of an experiment on one dataset; `name` is its file name without suffix."""

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


def experiment_datasets(study: Study, experiment: str) -> list[str]:
    """The datasets of an experiment that this selection runs, in the experiment's order."""
    return [d for d in study.experiments[experiment].datasets if d in study.dataset_names]


def own_cells(study: Study, experiment: str) -> list[CellRef]:
    """The cells whose method is the experiment's paper's own, as opposed to its baselines."""
    spec = study.experiments[experiment]
    return [c for c in spec.cells if spec.paper is not None and study.methods[c.method].paper == spec.paper]


def projected_cells(study: Study, experiment: str) -> list[CellRef]:
    """What the embedding figure shows side by side: plain fusion and the paper's own method, the first cell of each."""
    plain = [c for c in study.experiments[experiment].cells if study.methods[c.method].implementation == PLAIN_FUSION]
    return plain[:1] + own_cells(study, experiment)[:1]


def curve_cells(study: Study, experiment: str) -> list[CellRef]:
    """What the training curves show: every cell of an ablation, the first multimodal cell of each method of a table."""
    spec = study.experiments[experiment]
    if spec.kind == "ablation":
        return list(spec.cells)
    dataset = experiment_datasets(study, experiment)[0]
    out: dict[str, CellRef] = {}
    for ref in spec.cells:
        if study.cell(dataset, ref.method, ref.variant).objective.get("modality") is None:
            out.setdefault(ref.method, ref)
    return list(out.values())


def figures(study: Study, experiment: str) -> list[FigureSpec]:
    """The figures of an experiment, dataset by dataset."""
    kinds = [
        k for k in KINDS[study.experiments[experiment].kind] if k != "projection" or projected_cells(study, experiment)
    ]
    return [
        FigureSpec(f"{experiment}_{dataset}_{kind}", kind, experiment, dataset)
        for dataset in experiment_datasets(study, experiment)
        for kind in kinds
    ]


def figure_outputs(study: Study, layout: Layout, experiment: str) -> list[str]:
    """Every figure as png, pdf and svg, and as a narrow svg for small screens."""
    suffixes = (*FIGURE_FORMATS, NARROW)
    return [layout.figure(f.name, suffix) for f in figures(study, experiment) for suffix in suffixes]


def table_outputs(layout: Layout, experiment: str) -> list[str]:
    """The experiment's table as md, tex and csv."""
    return [layout.table(experiment, suffix) for suffix in TABLE_FORMATS]


def experiment_outputs(study: Study, layout: Layout, experiment: str) -> list[str]:
    """Every file that `write_experiment` makes."""
    return table_outputs(layout, experiment) + figure_outputs(study, layout, experiment)

"""Names and definitions that tables, figures and the page share. Numbers come from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from mmcontrast.config import CellRef, Dataset, Grid, Published
from mmcontrast.evaluation.ranking import reported as ranked_metrics
from mmcontrast.evaluation.readouts import ENCODERS, OWN, metric_name, without
from mmcontrast.evaluation.statistics import LEVEL, REPLICATES

LEVEL_NAME = f"{LEVEL:.0%}".replace("%", " %")
MINUS = "−"

METRIC_TITLES = {
    "acc": "Accuracy",
    "f1": "F1",
    "auc": "AUC",
    "weighted_f1": "Weighted F1",
    "macro_f1": "Macro F1",
    "balanced_acc": "Balanced accuracy",
    "cross_entropy": "Cross-entropy",
    "rsum": "Rsum (recall at 1, 5 and 10, summed over both directions)",
    "rr1": "Recall at 1",
    "rr5": "Recall at 5",
    "rr10": "Recall at 10",
    "ndcg5": "NDCG at 5",
    "mrr": "Mean reciprocal rank",
}

PROTOCOL_TITLES = {
    "selected": "Ours, selected",
    "last": "Ours, last epoch",
    "optimistic": "Optimistic: best epoch on the test split",
}

PROTOCOL_SHORT = {
    "selected": "epoch selected on validation",
    "last": "last epoch",
    "optimistic": "best epoch on the test split (optimistic)",
}

PROTOCOL_DEFINITIONS = {
    "selected": (
        "the epoch with the best validation score on the first metric, one epoch for all metrics; ties go to the lower "
        "validation cross-entropy (for retrieval: the higher mean reciprocal rank), then to the earlier epoch. This is "
        "the headline number."
    ),
    "last": "the final epoch.",
    "optimistic": (
        "for each metric the epoch that was best on the test split itself, as some released code reports. It "
        "overestimates performance on new data and is never the headline number."
    ),
}


PROBE_DEFINITION = (
    "a linear probe (logistic regression) on the frozen embeddings of the last epoch, fitted on train; its "
    "regularisation strength is the one with the best validation score on the first metric"
)


def definitions(protocols: Container[str], probed: list[bool]) -> list[tuple[str, str]]:
    """Title and definition of each of these protocols, and of a probe's score.

    Args:
        probed: of every cell, whether a probe scores it.
    """
    out = [(PROTOCOL_TITLES[p], PROTOCOL_DEFINITIONS[p]) for p in PROTOCOL_TITLES if p in protocols and not all(probed)]
    if any(probed):
        who = PROTOCOL_TITLES["selected"] if all(probed) else "Cells without a classifier"
        out.append((who, f"{PROBE_DEFINITION}."))
    return out


def metric_title(metric: str, dataset: Dataset | None = None) -> str:
    """A metric's name; that of a task or direction (task/metric) says so, and F1's names its class if it can."""
    metric, _, readout = metric.partition("@")
    task, _, name = metric.rpartition("/")
    title = METRIC_TITLES.get(name, name)
    if name == "f1" and dataset is not None:
        title += f" of class {(dataset.tasks[task] if task else dataset.classes)[1]}"
    what = f"task {task}" if task else dataset.label if dataset is not None else None
    if dataset is not None and dataset.retrieval is not None and task:
        what = task.replace("_", " ")
    parts = (title, what, readout and readout.replace(ENCODERS, "from encoders").replace("_", " "))
    return ", ".join(part for part in parts if part)


def short_title(metric: str, dataset: Dataset | None = None) -> str:
    """The same without what it says in brackets."""
    return metric_title(metric, dataset).partition(" (")[0]


def reported_metrics(dataset: Dataset, readouts: Sequence[str] = ("own",)) -> list[str]:
    """The dataset's metrics, the selecting one first, then those of its further tasks, readout by readout.

    Without a modality only the selecting metric of the dataset's own label is reported; of retrieval every metric by
    direction.
    """
    if dataset.retrieval is not None:
        return ranked_metrics(dataset.metrics, dataset.retrieval)
    out = []
    for readout in readouts:
        if readout == "removed":
            out += [metric_name(dataset.metrics[0], readout=without(m)) for m in dataset.modalities]
        else:
            named = OWN if readout == "own" else readout
            out += [metric_name(metric, task, named) for task in ("", *dataset.tasks) for metric in dataset.metrics]
    return out


def charted_metrics(dataset: Dataset, readouts: Sequence[str] = ("own",)) -> list[str]:
    """What a chart has a panel for: every metric, or the selecting one of every task where there are several tasks.

    Of retrieval the selecting one, and the one after it in both directions.
    """
    if dataset.retrieval is not None:
        return ranked_metrics(dataset.metrics[:2], dataset.retrieval)
    found = reported_metrics(dataset, readouts)
    if not dataset.tasks:
        return found
    return [m for m in found if m.partition("@")[0].rpartition("/")[2] == dataset.metrics[0]]


def cell_label(grid: Grid, ref: CellRef) -> str:
    """The row label of a cell."""
    if ref.label is not None:
        return ref.label
    title = grid.methods[ref.method].title
    return title if ref.variant == "base" else f"{title}, {ref.variant.replace('_', ' ')}"


def find_cell(grid: Grid, experiment: str, method: str, variant: str) -> CellRef | None:
    """The experiment's cell of that method and variant, with its label."""
    return next((c for c in grid.experiments[experiment].cells if (c.method, c.variant) == (method, variant)), None)


def seeds_interval_name(n_seeds: int) -> str:
    """What [low, high] is."""
    return f"{LEVEL_NAME} percentile bootstrap interval of the mean over {count(n_seeds, 'seed')}"


def wide_interval_name(n_seeds: int, n_instances: int) -> str:
    """What the wider interval is."""
    return (
        f"{LEVEL_NAME} percentile bootstrap interval over {count(n_seeds, 'seed')} and "
        f"{count(n_instances, 'test instance')}, instances resampled within each class, the same for all seeds "
        f"({REPLICATES:,} replicates)"
    )


def seeds_by_dataset(grid: Grid, datasets: Sequence[str]) -> str:
    """'ROSMAP 5 seeds, Trifeature 3 seeds'."""
    return ", ".join(f"{grid.datasets[d].title} {count(len(grid.seeds_of(d)), 'seed')}" for d in datasets)


def count(n: int, noun: str) -> str:
    """'1 seed', '5 seeds'."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def points(value: float | None, sign: bool = False, digits: int = 1) -> str:
    """A percentage or a difference of percentages, with a true minus sign; empty where there is no value."""
    if value is None or math.isnan(value):
        return ""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", MINUS)


def interval(low: float | None, high: float | None, sign: bool = False) -> str:
    """'[83.9, 86.3]'; empty where there is none."""
    return f"[{points(low, sign)}, {points(high, sign)}]" if points(low) and points(high) else ""


def estimate(mean: float | None, low: float | None, high: float | None, sign: bool = False) -> str:
    """'85.1 [83.9, 86.3]', in percent or points."""
    return f"{points(mean, sign)} {interval(low, high, sign)}".strip()


def p_value(p: float | None) -> str:
    """'0.032', '<0.001'; empty where there is none."""
    if p is None or math.isnan(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def published_text(row: Published, metric: str) -> str:
    """'88.7 ± 0.5'; empty where the row has no such number."""
    if metric not in row.values:
        return ""
    return as_given(row.values[metric]) + (f" ± {row.spread[metric]:g}" if metric in row.spread else "")


def as_given(value: float) -> str:
    """A published number with its own digits, at least one decimal."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:g}"

"""Names and definitions that tables, figures and the page share. Numbers come from elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcontrast.config import CellRef, Dataset, Grid, Published
from mmcontrast.config.metrics import measure, metric_name, parse_metric_name
from mmcontrast.evaluation.columns import ENCODERS, OWN, without
from mmcontrast.evaluation.retrieval import reported as ranked_metrics
from mmcontrast.evaluation.scores import THRESHOLD
from mmcontrast.evaluation.statistics import LEVEL, Difference

if TYPE_CHECKING:
    from jinja2 import Environment

LEVEL_NAME = f"{LEVEL:.0%}".replace("%", " %")
MINUS = "−"
FOLDERS = (Path(__file__).parent, Path(__file__).parents[1] / "templates")

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

PROBES = {
    "classes": "logistic regression",
    "multilabel": "a logistic regression for each of several labels",
    "regression": "ridge regression of numbers",
}


@cache
def templates() -> Environment:
    """Of pages, in which what is filled in is escaped, and of cards, captions and notes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    env = Environment(loader=FileSystemLoader(FOLDERS), autoescape=select_autoescape(), undefined=StrictUndefined)
    env.trim_blocks = env.lstrip_blocks = True
    env.filters["count"] = count
    env.globals |= {"LEVEL_NAME": LEVEL_NAME, "points": points, "metric_title": metric_title}
    return env


def told(file: str, macro: str, *about: Any) -> str:
    """A text of `notes.txt` or `captions.txt`, filled in, on one line."""
    text = getattr(templates().get_template(f"{file}.txt").module, macro)(*about)
    return re.sub("[ \n]+", " ", text).strip()


def listed(file: str, macro: str, *about: Any) -> list[str]:
    """The items of such a text, which begin with a dash on a line of their own, each on one line."""
    text = getattr(templates().get_template(f"{file}.txt").module, macro)(*about)
    items = (re.sub("[ \n]+", " ", item).strip() for item in re.split("^- ", text, flags=re.MULTILINE))
    return [item for item in items if item]


def probe_definition(datasets: Iterable[Dataset]) -> str:
    """What a probe is, of every kind of label that the datasets have."""
    kinds = {target.kind for data in datasets for target in data.targets.values()}
    return told("notes", "probe", "; ".join(name for kind, name in PROBES.items() if kind in kinds))


def definitions(protocols: Container[str], cells: Iterable[tuple[Dataset, bool]]) -> list[tuple[str, str]]:
    """Title and definition of each protocol, and of a probe's score. `cells`: dataset, whether a probe scores it."""
    cells = list(cells)
    probed = [data for data, by_probe in cells if by_probe]
    scored = len(probed) < len(cells)
    out = [(PROTOCOL_TITLES[p], told("notes", p)) for p in PROTOCOL_TITLES if p in protocols and scored]
    if probed:
        who = "Cells without a classifier" if scored else PROTOCOL_TITLES["selected"]
        out.append((who, f"{probe_definition(probed)}."))
    return out


def metric_title(metric: str, dataset: Dataset | None = None) -> str:
    """A metric's name; that of a task or direction (task/metric) says so, and F1's names its class if it can."""
    name, task, readout, labels = parse_metric_name(metric)
    title = measure(name).title
    if name == "f1" and dataset is not None:
        title += f" of class {dataset.targets[task].names[1]}"
    if name.endswith("_f1") and dataset is not None and dataset.targets[task].kind == "multilabel":
        title += f" (threshold {THRESHOLD:g})"
    what = f"task {task}" if task else dataset.label if dataset is not None else None
    if dataset is not None and dataset.retrieval is not None and task:
        what = task.replace("_", " ")
    of_labels = f"{count(labels, 'label')} per class" if labels else None
    parts = (title, what, readout and readout.replace(ENCODERS, "from encoders").replace("_", " "), of_labels)
    return ", ".join(part for part in parts if part)


def short_title(metric: str, dataset: Dataset | None = None) -> str:
    """The same without what it says in brackets."""
    return metric_title(metric, dataset).partition(" (")[0]


def reported_metrics(dataset: Dataset, readouts: Sequence[str] = ("own",)) -> list[str]:
    """The dataset's metrics, the selecting one first, then its further tasks', readout by readout; of retrieval by
    direction. Without a modality only the selecting metric of the dataset's own label is reported.
    """
    if dataset.retrieval is not None:
        return ranked_metrics(dataset.metrics, dataset.retrieval)
    out = []
    for readout in readouts:
        if readout == "removed":
            out += [metric_name(dataset.metrics[0], readout=without(m)) for m in dataset.modalities]
        else:
            named = OWN if readout == "own" else readout
            out += [metric_name(m, task, named) for task, target in dataset.targets.items() for m in target.metrics]
    return out


def charted_metrics(dataset: Dataset, readouts: Sequence[str] = ("own",)) -> list[str]:
    """What a chart has a panel for: every metric, or of several tasks the selecting one of each; of retrieval the
    selecting one, and the one after it in both directions.
    """
    if dataset.retrieval is not None:
        return ranked_metrics(dataset.metrics[:2], dataset.retrieval)
    found = reported_metrics(dataset, readouts)
    if not dataset.tasks:
        return found
    selecting = {metric_name(target.metrics[0], task) for task, target in dataset.targets.items()}
    return [m for m in found if m.partition("@")[0] in selecting]


def cell_label(grid: Grid, ref: CellRef) -> str:
    """The row label of a cell."""
    if ref.label is not None:
        return ref.label
    title = grid.methods[ref.method].title
    return title if ref.variant == "base" else f"{title}, {ref.variant.replace('_', ' ')}"


def rates_at_an_end(grid: Grid, experiment: str) -> list[str]:
    """Of the experiment's cells, learning rates at an end of those that were tried, and why."""
    out = []
    for dataset, ref in grid.experiment_cells(experiment):
        cell = grid.cell(dataset, ref.method, ref.variant)
        if cell.recipe not in grid.tunings or not getattr(cell, cell.last_stage).epochs:
            continue
        plan = grid.recipes[cell.recipe].tuning.datasets.get(dataset)
        choices = grid.tunings[cell.recipe].choices.get(plan.choices_of or dataset, {}) if plan else {}
        if ref.method in choices and (why := choices[ref.method].reason):
            rate = f"learning rate {choices[ref.method].lr:g}, an end of those tried"
            out.append(f"{grid.datasets[dataset].title}, {cell_label(grid, ref)}: {rate}: {why}.")
    return list(dict.fromkeys(out))


def find_cell(grid: Grid, experiment: str, method: str, variant: str) -> CellRef | None:
    """The experiment's cell of that method and variant, with its label."""
    return next((c for c in grid.experiments[experiment].cells if (c.method, c.variant) == (method, variant)), None)


def overrides_note(grid: Grid) -> list[str]:
    """A warning where the suite changes every cell's parameters, since nothing can be concluded then."""
    overrides = grid.suite.overrides.given()
    if not overrides:
        return []
    changed = ", ".join(f"{k} = {v}" for k, v in _flat(overrides))
    return [
        f"No conclusion can be drawn from these numbers: the suite '{grid.suite_name}' changes every cell ({changed}). "
        f"{grid.suite.description}"
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    out = []
    for key, value in values.items():
        out += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return out


def count(n: int, noun: str) -> str:
    """'1 seed', '5 seeds'."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def points(value: float | None, sign: bool = False, digits: int | None = 1) -> str:
    """A shown value or difference with a true minus sign; empty for None. `digits`: None = three significant digits."""
    if value is None or math.isnan(value):
        return ""
    if digits is None:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", MINUS)


def interval(low: float | None, high: float | None, sign: bool = False, digits: int | None = 1) -> str:
    """'[83.9, 86.3]'; empty where there is none."""
    return f"[{points(low, sign, digits)}, {points(high, sign, digits)}]" if points(low) and points(high) else ""


def estimate(
    mean: float | None, low: float | None, high: float | None, sign: bool = False, digits: int | None = 1
) -> str:
    """'85.1 [83.9, 86.3]', of shown values."""
    return f"{points(mean, sign, digits)} {interval(low, high, sign, digits)}".strip()


def against_zero(difference: Difference) -> str:
    """'includes' or 'excludes': what its interval does with 0."""
    return "includes" if difference.low <= 0 <= difference.high else "excludes"


def p_value(p: float | None) -> str:
    """'0.032', '<0.001'; empty where there is none."""
    if p is None or math.isnan(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def published_text(row: Published, metric: str) -> str:
    """'88.7 ± 0.5'; empty where the row has no such number."""
    return as_given(row.values[metric], row.spread.get(metric)) if metric in row.values else ""


def as_given(value: float, spread: float | None = None) -> str:
    """A published number with its own digits, at least one decimal, and its spread if it has one."""
    digits = f"{value:.1f}" if round(value, 1) == value else f"{value:g}"
    return digits if spread is None else f"{digits} ± {spread:g}"

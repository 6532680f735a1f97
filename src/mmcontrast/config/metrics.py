"""What is known of every metric, and of what labels are: a class, several labels at once, or numbers.

Whatever selects, compares, tests or draws scores asks here whether higher is better and whether a score is a share.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

from mmcontrast.config.base import Strict
from mmcontrast.errors import nearest

Kind = Literal["classes", "multilabel", "regression"]


@dataclass(frozen=True)
class Measure:
    """How one metric, which scores `of`, is read. `percent`: a share, shown times 100; else in its own unit: that of
    the data, its square, or none. `most`: the largest share there can be, as stored.
    """

    title: str
    of: tuple[Kind | Literal["retrieval"], ...]
    better: Literal["higher", "lower"] = "higher"
    percent: bool = True
    most: int = 1

    @property
    def share(self) -> bool:
        """It lies in [0, 1] as it is stored."""
        return self.percent and self.most == 1

    @property
    def sign(self) -> int:
        """What a value is multiplied by so that larger is better: 1 or -1."""
        return 1 if self.better == "higher" else -1

    @property
    def factor(self) -> int:
        """What a stored value is multiplied by where it is shown: 100 or 1."""
        return 100 if self.percent else 1

    @property
    def decimals(self) -> int | None:
        """Of a shown value; None = three significant digits."""
        return 1 if self.percent else None

    @property
    def unit(self) -> str:
        """What stands behind a shown value."""
        return " %" if self.percent else ""

    @property
    def unit_of_difference(self) -> str:
        """What stands behind a shown difference."""
        return " points" if self.percent else ""

    @property
    def heading(self) -> str:
        """What stands behind the title of an axis or a column of shown values."""
        return " (%)" if self.percent else ""


SHARE = Measure("", ())  # a share of 1, whatever it is of

MEASURES: dict[str, Measure] = {
    "acc": Measure("Accuracy", ("classes",)),
    "f1": Measure("F1", ("classes",)),
    "auc": Measure("AUC", ("classes",)),
    "weighted_f1": Measure("Weighted F1", ("classes", "multilabel")),
    "macro_f1": Measure("Macro F1", ("classes", "multilabel")),
    "balanced_acc": Measure("Balanced accuracy", ("classes",)),
    "micro_f1": Measure("Micro F1", ("multilabel",)),
    "map": Measure("Mean average precision", ("multilabel",)),
    "subset_acc": Measure("Subset accuracy (all labels right)", ("multilabel",)),
    "mse": Measure("Mean squared error", ("regression",), "lower", percent=False),
    "rmse": Measure("Root mean squared error", ("regression",), "lower", percent=False),
    "mae": Measure("Mean absolute error", ("regression",), "lower", percent=False),
    "pearson": Measure("Pearson correlation", ("regression",), percent=False),
    "cross_entropy": Measure("Cross-entropy", (), "lower", percent=False),
    "rsum": Measure("Rsum (recall at 1, 5 and 10, summed over both directions)", ("retrieval",), most=6),
    "rr1": Measure("Recall at 1", ("retrieval",)),
    "rr5": Measure("Recall at 5", ("retrieval",)),
    "rr10": Measure("Recall at 10", ("retrieval",)),
    "ndcg5": Measure("NDCG at 5", ("retrieval",)),
    "mrr": Measure("Mean reciprocal rank", ("retrieval",)),
}


def _known_metric(name: str) -> str:
    if name not in MEASURES or not MEASURES[name].of:
        raise ValueError(f"no metric '{name}'; {nearest(name, SCORED)}")
    return name


SCORED = [name for name, measure in MEASURES.items() if measure.of]
Metric = Annotated[str, AfterValidator(_known_metric), WithJsonSchema({"enum": SCORED, "type": "string"})]


def metrics_for(kind: Kind | Literal["retrieval"]) -> list[str]:
    """Names of the metrics that score it."""
    return [name for name, measure in MEASURES.items() if kind in measure.of]


def measure(name: str) -> Measure:
    """That of a score's name, e.g. acc:5, <task>/acc@encoders or <direction>/rr1; of an unknown one a plain share."""
    metric = parse_metric_name(name)[0]
    return MEASURES.get(metric, Measure(metric, ()))


def metric_name(metric: str, task: str = "", readout: str = "", labels: int | None = None) -> str:
    """E.g. acc, shared/acc@encoders, or acc:5, which is of a probe fitted on 5 labels per class."""
    return (f"{task}/" if task else "") + metric + (f"@{readout}" if readout else "") + (f":{labels}" if labels else "")


def parse_metric_name(name: str) -> tuple[str, str, str, int | None]:
    """metric, task, readout and labels per class (None: all), which `metric_name` makes the name of."""
    name, _, labels = name.partition(":")
    name, _, readout = name.partition("@")
    task, _, metric = name.rpartition("/")
    return metric, task, readout, int(labels) if labels else None


# a task is part of a column's name (label_<task>) and of a metric's (<task>/acc)
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


def repeated(key: str, names: Sequence[str]) -> list[str]:
    """A message for each name that is given twice."""
    return [f"{key}: '{name}' stands twice" for i, name in enumerate(names) if name in names[:i]]


class Target(Strict):
    """Labels of one kind. A row's is the index of its class (int64), or of multilabel 0 or 1 per label (uint8), or of
    regression a number per quantity (float32, in the units of the data).
    """

    kind: Kind = Field(description="classes: one of several; multilabel: any of several; regression: numbers.")
    names: list[str] = Field(min_length=1, description="Names of the classes, labels or quantities, in order.")
    metrics: list[Metric] = Field(default=[], description="Its scores, the selecting one first; [] = the dataset's.")

    def _wrong(self) -> Iterator[str]:
        yield from repeated("names", self.names)

    @property
    def width(self) -> int:
        """Scores of one instance: C."""
        return len(self.names)


Task = Annotated[
    Annotated[list[str], Field(min_length=2), Tag("names")] | Annotated[Target, Tag("target")],
    Discriminator(lambda given: "names" if isinstance(given, list) else "target"),
]


def _short(tasks: dict[str, list[str] | Target]) -> dict[str, list[str] | Target]:
    return {
        task: given.names if isinstance(given, Target) and given.kind == "classes" and not given.metrics else given
        for task, given in tasks.items()
    }


Tasks = Annotated[dict[TaskName, Task], AfterValidator(_short)]


def targets_of(
    kind: Kind, names: list[str], tasks: Mapping[str, list[str] | Target], metrics: Sequence[Metric]
) -> dict[str, Target]:
    """Task -> its target, the main one under the empty name first, each with the metrics that it is scored by."""
    out = {"": _target(kind, names, metrics)}
    for task, given in tasks.items():
        target = given if isinstance(given, Target) else _target("classes", given, [])
        out[task] = target if target.metrics else target.model_copy(update={"metrics": list(metrics)})
    return out


def _target(kind: Kind, names: list[str], metrics: Sequence[Metric]) -> Target:
    # without the checks, which `wrong_targets` makes with the keys of the file in its messages
    return Target.model_construct(kind=kind, names=names, metrics=list(metrics))


def wrong_targets(targets: Mapping[str, Target], class_weighted: Sequence[str]) -> Iterator[str]:
    """A message for each target that has too few names, or a metric or weights that are not for its kind."""
    for task, target in targets.items():
        key = f"tasks.{task}" if task else "classes"
        accepted = metrics_for(target.kind)
        if other := [m for m in target.metrics if m not in accepted]:
            remedy = f"; give {key} `metrics` of its own" if task else ""
            what = f"task '{task}', which is {target.kind}" if task else f"target: {target.kind}"
            yield f"metrics: {other} are not of {what}; accepted: {', '.join(accepted)}{remedy}"
        # a single label is two classes, and a single class is none; a single quantity is a regression
        if target.kind != "regression" and target.width < 2:
            yield f"{key}: at least two, where {target.kind} are scored"
        if target.kind != "classes":
            yield from repeated(key, target.names)
        binary_only = sorted({"f1", "auc"} & set(target.metrics))
        if binary_only and target.width != 2:
            found = f"task '{task}' has" if task else "there are"
            yield f"metrics: {binary_only} need two classes, and {found} {target.width}"
        if task in class_weighted and target.kind != "classes":
            yield f"class_weighted: task '{task}' is {target.kind}, and weights are of classes alone"

"""What is known of every metric: what it scores, which way is better, and how it is shown.

Whatever selects, compares, tests or draws scores asks here, so that nothing takes for granted that higher is better or
that a score is a share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["classes", "multilabel", "regression"]
Metric = Literal[
    "acc",
    "f1",
    "auc",
    "weighted_f1",
    "macro_f1",
    "balanced_acc",
    "micro_f1",
    "map",
    "subset_acc",
    "mse",
    "rmse",
    "mae",
    "pearson",
    "rsum",
    "rr1",
    "rr5",
    "rr10",
    "ndcg5",
    "mrr",
]


@dataclass(frozen=True)
class Measure:
    """How one metric is read.

    Attributes:
        title: its name in tables. of: what it scores. better: which way.
        percent: it is a share and shown times 100; else in its own unit: that of the data, its square, or none.
        most: the largest share that it may be, as it is stored.
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

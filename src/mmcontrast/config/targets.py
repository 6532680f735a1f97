"""What the labels of a dataset are: a class, several labels at once, or numbers; of its own label and of its tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from mmcontrast.config.base import Strict
from mmcontrast.config.metrics import Kind, Metric, metrics_for

# a task is part of a column's name (label_<task>) and of a metric's (<task>/acc)
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
MAIN = ""


def refuse_twice(key: str, names: Sequence[str]) -> None:
    """Raise ValueError for a name that is given twice."""
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ValueError(f"{key}: '{twice[0]}' stands twice")


class Target(Strict):
    """Labels of one kind.

    A row's label is the index of its class (int64), or of multilabel one 0 or 1 for each label (uint8), or of
    regression one number for each quantity (float32, in the units of the data).
    """

    kind: Kind = Field(description="classes: one of several; multilabel: any of several; regression: numbers.")
    names: list[str] = Field(min_length=1, description="Names of the classes, labels or quantities, in order.")
    metrics: list[Metric] = Field(
        default=[], description="Its scores, the selecting one first; [] = those of the dataset, if of one kind."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        refuse_twice("names", self.names)
        return self

    @property
    def width(self) -> int:
        """Scores of one instance: C."""
        return len(self.names)


Task = Annotated[
    Annotated[list[str], Field(min_length=2), Tag("names")] | Annotated[Target, Tag("target")],
    Discriminator(lambda given: "names" if isinstance(given, list) else "target"),
]


def _short(tasks: dict[str, list[str] | Target]) -> dict[str, list[str] | Target]:
    """Classes without metrics of their own as a plain list of names, so that each is written in one way."""
    return {
        task: given.names if isinstance(given, Target) and given.kind == "classes" and not given.metrics else given
        for task, given in tasks.items()
    }


Tasks = Annotated[dict[TaskName, Task], AfterValidator(_short)]


def targets_of(
    kind: Kind, names: list[str], tasks: Mapping[str, list[str] | Target], metrics: Sequence[Metric]
) -> dict[str, Target]:
    """Task -> its target, the main one under the empty name first, each with the metrics that it is scored by."""
    out = {MAIN: _target(kind, names, metrics)}
    for task, given in tasks.items():
        target = given if isinstance(given, Target) else _target("classes", given, [])
        out[task] = target if target.metrics else target.model_copy(update={"metrics": list(metrics)})
    return out


def _target(kind: Kind, names: list[str], metrics: Sequence[Metric]) -> Target:
    # without the checks, which `check_targets` makes with the keys of the file in its messages
    return Target.model_construct(kind=kind, names=names, metrics=list(metrics))


def check_targets(targets: Mapping[str, Target], class_weighted: Sequence[str]) -> None:
    """Raise ValueError where a target has too few names, or a metric or weights that are not for its kind."""
    for task, target in targets.items():
        key = f"tasks.{task}" if task else "classes"
        accepted = metrics_for(target.kind)
        if other := [m for m in target.metrics if m not in accepted]:
            remedy = f"; give {key} `metrics` of its own" if task else ""
            what = f"task '{task}', which is {target.kind}" if task else f"target: {target.kind}"
            raise ValueError(f"metrics: {other} are not of {what}; accepted: {', '.join(accepted)}{remedy}")
        # a single label is two classes, and a single class is none; a single quantity is a regression
        if target.kind != "regression" and target.width < 2:
            raise ValueError(f"{key}: at least two, where {target.kind} are scored")
        if target.kind != "classes":
            refuse_twice(key, target.names)
        binary_only = sorted({"f1", "auc"} & set(target.metrics))
        if binary_only and target.width != 2:
            found = f"task '{task}' has" if task else "there are"
            raise ValueError(f"metrics: {binary_only} need two classes, and {found} {target.width}")
        if task in class_weighted and target.kind != "classes":
            raise ValueError(f"class_weighted: task '{task}' is {target.kind}, and weights are of classes alone")

"""What labels a dataset's file may have, and which metrics go with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mmcontrast.config import Dataset, Experiment, Grid
from mmcontrast.config.base import validate
from mmcontrast.config.grid import check_experiment
from mmcontrast.config.metrics import MEASURES, Target, measure, metrics_for
from mmcontrast.errors import ConfigError

BASE = {
    "title": "t", "description": "d", "licence": "l", "redistribute": False, "citation": "c",
    "generate": {"seed": 0}, "rows": 4, "scaling": "none", "split": {"kind": "published", "train": 2, "test": 2},
    "modalities": {"a": {"kind": "vector", "shape": [2]}}, "classes": ["x", "y"], "metrics": ["acc", "f1"],
}  # fmt: skip
ROOT = Path(__file__).parents[2]
GENRE = {"kind": "multilabel", "names": ["drama", "comedy"], "metrics": ["map"]}
FORCE = {"kind": "regression", "names": ["newton"], "metrics": ["mse", "pearson"]}


def dataset(**change: object) -> Dataset:
    return Dataset.model_validate(BASE | change)


def test_classes_are_what_they_were() -> None:
    data = dataset(tasks={"size": ["s", "m"]})
    assert data.tasks == {"size": ["s", "m"]}
    assert data.targets == {
        "": Target(kind="classes", names=["x", "y"], metrics=["acc", "f1"]),
        "size": Target(kind="classes", names=["s", "m"], metrics=["acc", "f1"]),
    }


def test_tasks_of_mixed_kinds_have_metrics_of_their_own() -> None:
    targets = dataset(tasks={"genre": GENRE, "force": FORCE}).targets
    assert [(t.kind, t.names, t.metrics, t.width) for t in targets.values()] == [
        ("classes", ["x", "y"], ["acc", "f1"], 2),
        ("multilabel", ["drama", "comedy"], ["map"], 2),
        ("regression", ["newton"], ["mse", "pearson"], 1),
    ]


def test_a_task_of_the_same_kind_takes_the_datasets_metrics() -> None:
    data = dataset(target="multilabel", metrics=["macro_f1"], tasks={"genre": {**GENRE, "metrics": []}})
    assert data.targets["genre"].metrics == ["macro_f1"]


def test_classes_may_be_written_either_way() -> None:
    assert dataset(tasks={"size": {"kind": "classes", "names": ["s", "m"]}}) == dataset(tasks={"size": ["s", "m"]})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"target": "regression"}, r"\['acc', 'f1'\] are not of target: regression; accepted: mse, rmse, mae, pearson"),
        ({"target": "multilabel", "metrics": ["map", "auc"]}, r"\['auc'\] are not of target: multilabel; accepted"),
        ({"metrics": ["accc"]}, r"no metric 'accc'; did you mean 'acc'\?"),
        ({"metrics": ["cross_entropy"]}, "no metric 'cross_entropy'; known: acc"),  # of no target's scores
        ({"metrics": ["mse"]}, r"\['mse'\] are not of target: classes; accepted: acc"),
        ({"tasks": {"genre": {**GENRE, "metrics": []}}}, r"task 'genre', which is multilabel.*give tasks.genre `metr"),
        ({"classes": ["x"]}, "classes: at least two, where classes are scored"),
        ({"target": "multilabel", "classes": ["x"], "metrics": ["map"]}, "at least two, where multilabel"),
        ({"tasks": {"genre": {**GENRE, "names": ["drama"]}}}, "tasks.genre: at least two, where multilabel"),
        ({"tasks": {"genre": {**GENRE, "names": ["drama", "drama"]}}}, "names: 'drama' stands twice"),
        ({"target": "regression", "classes": ["x", "x"], "metrics": ["mse"]}, "classes: 'x' stands twice"),
        ({"tasks": {"force": FORCE}, "class_weighted": ["force"]}, "'force' is regression, and weights are of class"),
        ({"tasks": {"size": ["s", "m", "l"]}}, r"\['f1'\] need two classes, and task 'size' has 3"),
        ({"tasks": {"size": ["s", "m"]}, "class_weighted": ["sise"]}, "no task 'sise'"),
    ],
)
def test_targets_that_do_not_fit_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        dataset(**change)


def test_a_wrong_key_of_a_task_is_named() -> None:
    with pytest.raises(ConfigError, match=r"d.yaml: tasks.genre.target.kind: Input should be 'classes', 'multilabel'"):
        validate(Dataset, BASE | {"tasks": {"genre": {**GENRE, "kind": "multi"}}}, "d.yaml")
    with pytest.raises(ConfigError, match=r"tasks.size.names: List should have at least 2 items"):
        validate(Dataset, BASE | {"tasks": {"size": ["s"]}}, "d.yaml")


def test_every_metric_has_a_measure_and_something_that_it_scores() -> None:
    scored = {name for name, measure in MEASURES.items() if measure.of}
    assert set(MEASURES) - scored == {"cross_entropy"}
    assert {m for kind in ("classes", "multilabel", "regression", "retrieval") for m in metrics_for(kind)} == scored
    assert scored == set(Target.model_json_schema()["properties"]["metrics"]["items"]["enum"])


@pytest.mark.parametrize(
    ("name", "sign", "factor"),
    [
        ("acc", 1, 100),
        ("force/mse", -1, 1),
        ("force/mae@encoders", -1, 1),
        ("image_to_text/rr1", 1, 100),
        ("map", 1, 100),
    ],
)
def test_a_score_is_read_by_its_last_name(name: str, sign: int, factor: int) -> None:
    assert (measure(name).sign, measure(name).factor) == (sign, factor)


def test_an_experiment_takes_no_mean_of_different_metrics_and_no_information_of_numbers() -> None:
    grid = Grid(ROOT)
    grid.datasets["toy"] = dataset(tasks={"force": FORCE})
    column = {"title": "Both", "parts": [{"dataset": "toy"}, {"dataset": "toy", "task": "force"}]}
    matrix = {"title": "t", "caption": "c", "kind": "matrix", "datasets": ["toy"], "columns": [column]}
    cells = [{"method": "concat", "variant": "base"}]
    spec = Experiment.model_validate(matrix | {"cells": cells})
    with pytest.raises(
        ConfigError, match=r"e.yaml: columns: Both: parts of different metrics have no mean: acc \(toy\), mse"
    ):
        check_experiment(spec, "e.yaml", grid)
    arms = {"unbiased": "toy", "biased": "toy"}
    asked = {"arms": [arms], "unique": ["force"], "synergistic": "force"}
    spec = Experiment.model_validate(matrix | {"cells": cells, "kind": "table", "columns": [], "information": asked})
    with pytest.raises(ConfigError, match=r"information: toy: its task 'force' is not classes"):
        check_experiment(spec, "e.yaml", grid)

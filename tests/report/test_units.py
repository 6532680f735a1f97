"""A metric of which less is better and that is no share, from the results to words, tables and figures."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import CellRef, Grid, Published
from mmcontrast.config.experiments import MatrixColumn
from mmcontrast.config.metrics import MEASURES, SHARE
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.pipeline.compare import compare as compare_versions
from mmcontrast.pipeline.compare import comparison_table
from mmcontrast.report.evidence import Scope
from mmcontrast.report.experiment import build_table
from mmcontrast.report.figures.scores import differences_to_reference, scores
from mmcontrast.report.page import optimism
from mmcontrast.report.results import headline_metrics, plotted_scores, summarise
from mmcontrast.report.tables.formats import Value, text_of, to_csv, to_markdown
from mmcontrast.report.tables.matrix import Matrix, matrix_blocks, matrix_findings
from mmcontrast.report.tables.published import (
    Reproduction,
    reproduction_sentences,
)
from mmcontrast.report.text.wording import (
    charted_metrics,
    definitions,
    metric_title,
    points,
    probe_definition,
    reported_metrics,
    short_title,
    told,
)
from tests.report.made_up_study import REPO
from tests.report.test_conclusions import CASES, DATASET, EXPERIMENT, evidence

MSE = MEASURES["mse"]
FORCE = {"kind": "regression", "names": ["newton"], "metrics": ["mse", "pearson"]}
CELLS = {("unimodal", "mrna"): 0.02, ("concat", "base"): 0.004, ("m3col", "base"): 0.002}


@pytest.fixture
def grid() -> Grid:
    """ROSMAP as if two quantities were predicted of it."""
    grid = Grid(REPO, "paper", [DATASET])
    changed = {"target": "regression", "metrics": ["mse", "pearson"], "label": None}
    raw = grid.datasets[DATASET].model_dump() | changed
    grid.datasets[DATASET] = type(grid.datasets[DATASET]).model_validate(raw)
    return grid


def results(factor: float = 1.0, cells: dict[tuple[str, str], float] = CELLS) -> pl.DataFrame:
    rows = []
    for (method, variant), mean in cells.items():
        noise = np.random.default_rng(len(method)).normal(size=5)
        for seed, value in enumerate(mean * factor * (1 + 0.01 * (noise - noise.mean()))):
            for protocol, metric, of in (
                ("selected", "mse", value),
                ("optimistic", "mse", 0.9 * value),
                ("selected", "pearson", 1 - value),
            ):
                rows.append((EXPERIMENT, DATASET, method, variant, seed, protocol, "test", metric, float(of), CASES))
    columns = ["experiment", "dataset", "method", "variant", "seed", "protocol", "split", "metric", "value", "n"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_a_table_has_the_units_of_the_data(grid: Grid) -> None:
    others = {(c.method, c.variant): 0.01 for c in grid.cells_on(EXPERIMENT, DATASET)}
    table = build_table(evidence(grid, results(cells=others | CELLS)), EXPERIMENT)
    text = to_markdown(table)
    assert "## ROSMAP: Mean squared error\n" in text
    assert "## ROSMAP: Pearson correlation\n" in text
    assert "0.00200 [0.00" in text
    assert "points of accuracy" not in text
    assert "within each class" not in text
    ours = next(line for line in to_csv(table).splitlines() if ",mse,M3CoL," in line)
    assert "0.002," in ours


def test_a_figure_has_the_units_of_the_data(grid: Grid) -> None:
    of = Scope(evidence(grid, results()), EXPERIMENT, DATASET)
    for drawn, label in ((scores(of, False), "test score"), (differences_to_reference(of, False), "difference to")):
        labels = [axes.get_xlabel() for axes in drawn.axes]
        assert len(labels) == 2
        assert all(text.startswith(label) and "(" not in text for text in labels)
    dots = np.concatenate([np.asarray(c.get_offsets())[:, 0] for c in scores(of, False).axes[0].collections])
    assert 0 < dots.min() < dots.max() < 0.03


def test_headline_numbers_keep_their_digits(grid: Grid) -> None:
    summary = summarise(results()).filter(protocol="selected")
    cell = headline_metrics(summary)[DATASET]["m3col"]["base"]
    assert cell["mse"]["mean"] == pytest.approx(0.002, rel=1e-5)
    content = {"cells": {f"{DATASET}/{m}/{v}": {"metric": "mse"} for m, v in CELLS}}
    plotted = plotted_scores(content, summary).filter(cell=f"{DATASET}/concat/base")
    assert plotted["value"].to_list() == pytest.approx([0.004], rel=1e-5)


def test_what_moved_between_versions_is_shown_in_its_unit() -> None:
    text = to_markdown(comparison_table(compare_versions(results(), results(2.0)), "a", "b"))
    assert "## Test scores, protocol `selected`\n" in text
    assert "| rosmap/m3col/base: Mean squared error | 0.00200 | 0.00400 | +0.00200 [" in text


def test_errors_of_several_datasets_have_no_common_mean_and_no_optimism_in_points(grid: Grid) -> None:
    assert optimism(summarise(results()), {DATASET: "mse"}) is None


def test_a_published_error_is_said_beside_ours_in_its_unit(grid: Grid) -> None:
    of, row = (
        Scope(evidence(grid, results()), EXPERIMENT, DATASET),
        Published(row="A", dataset=DATASET, values={"mse": 0.001}, spread={"mse": 0.0001}, seeds=4),
    )
    scores = [0.0018, 0.002, 0.0022]
    ours = Reproduction(of, CellRef(method="m3col"), row, "mse", "selected", Interval(0.002, 0.0015, 0.0025), scores)
    (said,) = reproduction_sentences([(ours, None)])
    assert said.startswith("ROSMAP, Mean squared error: A is published as 0.001 ± 0.0001. Ours, ")
    assert "0.00200 [0.00150, 0.00250]: differs: +0.00100 [+0.000" in said
    assert said.endswith("], 3 runs of ours and 4 of theirs.")


def test_a_probe_is_defined_by_the_labels_of_the_cells_that_it_scores(grid: Grid) -> None:
    forces, classes = grid.datasets[DATASET], Grid(REPO, "paper", [DATASET]).datasets[DATASET]
    (selected, probe) = definitions({"selected"}, [(classes, False), (forces, True)])
    assert (selected[0], probe[0]) == ("Ours, selected", "Cells without a classifier")
    assert "(ridge regression of numbers)" in probe[1]
    assert [title for title, _ in definitions({"selected"}, [(forces, True)])] == ["Ours, selected"]
    assert len(definitions({"selected"}, [(forces, False)])) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0123456, "0.0123"), (-1234.5, "−1234"), (12.345, "12.3"), (0.0, "0"), (float("nan"), ""), (1e-5, "0.0000100")],
)
def test_numbers_of_any_size_have_three_digits(value: float, expected: str) -> None:
    assert points(value, digits=None) == expected
    assert text_of(Value(value, digits=None), "score") == expected


def test_scores_at_a_threshold_say_so(grid: Grid) -> None:
    changed = {"target": "multilabel", "metrics": ["macro_f1", "map"]}
    data = type(grid.datasets[DATASET]).model_validate(grid.datasets[DATASET].model_dump() | changed)
    assert metric_title("macro_f1", data) == "Macro F1 (threshold 0.5)"
    assert metric_title("map", data) == "Mean average precision"
    assert short_title("macro_f1", data) == "Macro F1"


def test_a_score_of_few_labels_says_of_how_many() -> None:
    assert metric_title("acc:5") == "Accuracy, 5 labels per class"
    assert metric_title("shared/acc@encoders:1") == "Accuracy, task shared, from encoders, 1 label per class"


def test_metrics_of_tasks_of_other_kinds_are_reported_and_charted(grid: Grid) -> None:
    raw = grid.datasets[DATASET].model_dump() | {
        "target": "classes",
        "metrics": ["acc", "f1"],
        "tasks": {"force": FORCE},
    }
    data = type(grid.datasets[DATASET]).model_validate(raw)
    assert reported_metrics(data) == ["acc", "f1", "force/mse", "force/pearson"]
    assert charted_metrics(data) == ["acc", "force/mse"]
    assert reported_metrics(data, ["encoders"])[2] == "force/mse@encoders"
    assert "(logistic regression; ridge regression of numbers) on" in probe_definition([data])
    assert "jackknife variance of the instances within each class," in told(
        "notes", "wide_interval", SimpleNamespace(n_seeds=5, n_instances=9, data=data)
    )
    numbers = SimpleNamespace(n_seeds=5, n_instances=9, data=grid.datasets[DATASET])
    assert "jackknife variance of the instances," in told("notes", "wide_interval", numbers)


@pytest.fixture
def matrix() -> Matrix:
    columns = [{"title": t, "parts": [{"dataset": DATASET}]} for t in ("Classes", "Force")]
    names = ["good", "bad", "mixed"]
    values = {"good": (0.9, 0.001), "bad": (0.6, 0.003), "mixed": (0.8, 0.002)}
    seeds = {(n, c): {s: values[n][c] * (1 + 0.01 * s) for s in range(5)} for n in names for c in range(2)}
    refs = {(n, DATASET): CellRef(method="concat", variant="base") for n in names}
    of = [MatrixColumn.model_validate(c) for c in columns]
    return Matrix(names, set(), of, refs, seeds, [SHARE, MSE], [0.5, None], "bad")


def test_a_column_of_errors_counts_for_the_rank_with_the_lowest_first(matrix: Matrix) -> None:
    across = matrix.across()
    assert [across[n][1].mean for n in ("good", "mixed", "bad")] == [1, 2, 3]
    # the skill is that of the column of classes alone
    assert across["good"][0].mean == pytest.approx((0.9 * 1.02 - 0.5) / 0.5)
    scored, differences, _ = matrix_blocks(matrix)
    assert (scored.title, differences.title) == ("Scores of the linear probe", "Difference to bad")
    assert scored.rows[0].texts(scored.columns)[1:] == ["91.8 [89.9, 93.4]", "0.00102 [0.00100, 0.00104]"]
    assert [c.kind for c in differences.columns] == ["difference", "difference"], "exploratory: without a p value"


def test_rows_trained_with_labels_are_not_ranked_and_never_lead(matrix: Matrix) -> None:
    apart = replace(matrix, labelled={"good"})
    assert {n: found[1].mean for n, found in apart.across().items()} == {"bad": 2, "mixed": 1}
    assert "among 3 rows trained without labels: good" in " ".join(matrix_findings(matrix))
    said = " ".join(matrix_findings(apart))
    assert "Highest interquartile mean skill among 2 rows trained without labels: mixed" in said
    assert "good" not in said


def test_without_a_chance_level_there_is_no_skill(matrix: Matrix) -> None:
    alone = replace(matrix, chance=[None, None])
    assert np.isnan(alone.across()["good"][0].mean)
    said = " ".join(matrix_findings(alone))
    assert "skill" not in said
    assert "Best mean rank among 3 rows trained without labels: bad" not in said

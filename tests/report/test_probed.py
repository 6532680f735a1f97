"""Cells that end with pretraining are reported by their probe's scores, task by task."""

from __future__ import annotations

import json

import polars as pl
import pytest

from mmcontrast.config import CellRef, Grid
from mmcontrast.report.experiment import build_table
from mmcontrast.report.figures.cells import curve_cells, projected_cells
from mmcontrast.report.figures.registry import draw, figures
from mmcontrast.report.figures.style import house_style
from mmcontrast.report.outputs import SINGLE, own_cells
from mmcontrast.report.tables.formats import Block
from mmcontrast.report.text.wording import charted_metrics, metric_title, reported_metrics
from tests.report.made_up_study import REPO, Made

EXPERIMENT, DATASET = "tuple_handwritten", "weak_modality"


def figure(made: Made, kind: str):
    spec = next(f for f in figures(made.grid, EXPERIMENT) if f.kind == kind)
    with house_style():
        return draw(made.evidence, spec, narrow=False)


def score_blocks(probed: Made) -> list[Block]:
    """Those of scores, behind the primary contrasts."""
    first, *rest = build_table(probed.evidence, EXPERIMENT).blocks
    assert first.keys["metric"] == "primary"
    return rest


def test_a_block_for_every_metric_of_every_task(probed: Made) -> None:
    data = probed.grid.datasets[DATASET]
    blocks = score_blocks(probed)
    metrics = [b.keys["metric"] for b in blocks]
    assert metrics == reported_metrics(data)
    assert len(metrics) == len(data.metrics) * (1 + len(data.tasks))
    assert f"{data.title}: Accuracy, task shared (%)" in [b.title for b in blocks]


def test_the_datasets_own_label_leads_the_panels_of_its_tasks(probed: Made) -> None:
    drawn = figure(probed, "scores")
    drawn.draw_without_rendering()
    widths = [axes.get_position().width for axes in drawn.axes]
    assert len(widths) == 1 + len(probed.grid.datasets[DATASET].tasks)
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.02)
    assert widths[1:] == pytest.approx(3 * [widths[1]])


def test_columns_that_no_row_could_fill_are_left_out(probed: Made) -> None:
    for block in score_blocks(probed):
        assert [c.key for c in block.columns] == ["selected", "wide", "difference", "seeds"]
        assert all(row.values["selected"].mean is not None for row in block.rows)


def test_the_numbers_are_the_probes(probed: Made) -> None:
    for block in score_blocks(probed):
        for row in block.rows:
            metrics = pl.read_parquet(probed.path(probed.layout.metrics(str(row.cell))))
            values = metrics.filter(split="test", protocol="selected", metric=block.keys["metric"])["value"]
            assert row.values["selected"].mean == pytest.approx(100 * values.mean())


def test_notes_say_what_a_probe_is_and_nothing_of_choosing_epochs(probed: Made) -> None:
    notes = "\n".join(build_table(probed.evidence, EXPERIMENT).notes)
    assert "a linear probe (logistic regression) on the frozen embeddings" in notes
    assert "best on the test split itself" not in notes
    assert "no published number" not in notes


def test_a_variant_that_is_the_reference_is_a_baseline() -> None:
    grid = Grid(REPO, "tuple")
    own = own_cells(grid, EXPERIMENT)
    assert (own[0].method, own[0].variant) == ("tuple_infonce", "base")
    assert CellRef(method="tuple_infonce", variant="naive") not in [c.model_copy(update={"label": None}) for c in own]
    assert [c.method for c in projected_cells(grid, EXPERIMENT, "weak_modality")] == ["cmc", "tuple_infonce"]
    assert "base" in [c.variant for c in curve_cells(grid, EXPERIMENT, "weak_modality") if c.method == "tuple_infonce"]


def test_charts_have_a_panel_a_task(probed: Made) -> None:
    data = probed.grid.datasets[DATASET]
    scores = figure(probed, "scores")
    titles = [a.get_title(loc="left") for a in scores.axes]
    assert [t.replace("\n", " ") for t in titles] == [metric_title(m, data) for m in charted_metrics(data)]
    texts = [t.get_text() for t in scores.legends[0].get_texts()]
    assert "linear probe, mean of 3 seeds" in texts
    assert not any("optimistic" in t for t in texts)


@pytest.mark.parametrize("kind", ["scores", "curves", "projection"])
def test_titles_do_not_run_into_one_another(probed: Made, kind: str) -> None:
    drawn = figure(probed, kind)
    drawn.draw_without_rendering()
    boxes = [axes._left_title.get_window_extent() for axes in drawn.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_curves_show_the_loss_alone(probed: Made) -> None:
    curves = figure(probed, "curves")
    labels = [a.get_ylabel() for a in curves.axes if a.get_ylabel()]
    assert labels == ["training loss"]
    assert len(curves.axes) == len(curve_cells(probed.grid, EXPERIMENT, "weak_modality"))


def test_the_page_speaks_of_probes_and_shows_the_tasks_of_the_data(probed: Made) -> None:
    html = probed.path(probed.layout.report(SINGLE)).read_text()
    assert "a linear probe (logistic regression)" in html
    assert "Task shared" in html
    assert "without a better model" not in html
    assert "TupleInfoNCE minus naive tuple contrast" in html


def test_metrics_json_names_the_task(probed: Made) -> None:
    metrics = json.loads(probed.path(probed.layout.report("metrics.json")).read_text())
    entry = metrics[DATASET]["tuple_infonce"]["base"]
    assert set(entry) == set(reported_metrics(probed.grid.datasets[DATASET]))

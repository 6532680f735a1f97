"""Redundant, unique and synergistic information over a number that cells differ in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmcontrast.report.experiment import build_table
from mmcontrast.report.figures.registry import caption, draw, figures
from mmcontrast.report.figures.style import house_style
from mmcontrast.report.results import write_results
from tests.report.made_up_study import Made, make_study

EXPERIMENT = "comm_epochs"
UNBIASED, BIASED = "trifeature_mid", "trifeature_mid_biased"
SUITE = """
description: Made-up embeddings.
datasets: [{datasets}]
experiments: [comm_epochs]
seeds: [0, 1, 2]
"""
KEPT = {("comm", variant) for variant in ("epochs_1", "epochs_4", "base", "fused_only_epochs_1", "fused_only")}
SERIES = {
    "both": {1: "CoMM, epochs: 1", 4: "CoMM, epochs: 4", 8: "CoMM, epochs: 8"},
    "fused term alone": {1: "Fused term, epochs: 1", 8: "Fused term, epochs: 8"},
}


def made_of(root: Path, *datasets: str) -> Made:
    made = make_study(root, {"val": 20, "test": 30}, 100, SUITE.format(datasets=", ".join(datasets)), KEPT)
    write_results(made.grid, made.layout)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_of(tmp_path_factory.mktemp("arms"), UNBIASED, BIASED)


@pytest.fixture(scope="module")
def one_arm(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_of(tmp_path_factory.mktemp("arm"), UNBIASED)


def drawn(made: Made, kind: str, narrow: bool) -> Figure:
    spec = next(f for f in figures(made.grid, EXPERIMENT) if f.kind == kind)
    with house_style():
        figure = draw(made.evidence, spec, narrow)
        figure.draw_without_rendering()
    return figure


def line(axes: Axes, label: str) -> Line2D:
    return next(x for x in axes.lines if x.get_label() == label)


def test_both_arms_are_one_figure_and_one_arm_alone_has_a_sweep_of_its_scores(made: Made, one_arm: Made) -> None:
    kinds = [(f.dataset, f.kind) for f in figures(made.grid, EXPERIMENT)]
    assert kinds == [
        *((UNBIASED, kind) for kind in ("information", "differences", "curves")),
        *((BIASED, kind) for kind in ("differences", "curves")),
    ]
    assert [f.kind for f in figures(one_arm.grid, EXPERIMENT)] == ["sweep", "differences", "curves"]


@pytest.mark.parametrize("narrow", [False, True])
def test_every_line_goes_through_the_tables_values(made: Made, narrow: bool) -> None:
    table = build_table(made.evidence, EXPERIMENT)
    values = {row.label: row.values for row in table.blocks[0].rows}
    figure = drawn(made, "information", narrow)
    assert [a.get_title(loc="left")[0] for a in figure.axes] == ["R", "U", "S"]
    for axes, letter, chance in zip(figure.axes, "RUS", (25, 12.5, 50), strict=True):
        for name, cells in SERIES.items():
            shown = {letter: line(axes, name)}
            if letter == "S":
                shown["control"] = line(axes, f"{name}: control")
            for key, one in shown.items():
                assert list(one.get_ydata()) == pytest.approx([values[cell][key].mean for cell in cells.values()])
                assert one.get_xdata() == pytest.approx(list(cells), rel=0.1)
                assert (one.get_markerfacecolor() == "white", one.is_dashed()) == ((key == "control",) * 2)
        assert any(np.allclose(x.get_ydata(), chance) for x in axes.lines if len(x.get_ydata()) == 2)
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    expected = [*SERIES, "control: S after unbiased pretraining", "chance", "95 % interval, 3 seeds"]
    assert texts == expected


def test_the_control_is_another_line_than_synergy(made: Made) -> None:
    axes = drawn(made, "information", False).axes[2]
    synergy, control = line(axes, "both"), line(axes, "both: control")
    assert not np.allclose(synergy.get_ydata(), control.get_ydata())
    assert synergy.get_color() == control.get_color()


def test_the_caption_says_which_marks_are_the_control(made: Made) -> None:
    spec = next(f for f in figures(made.grid, EXPERIMENT) if f.kind == "information")
    text = caption(made.evidence, spec)
    assert "hollow marks: its control, S after Trifeature, 8 x 8." in text
    assert "hatched" not in text


@pytest.mark.parametrize("narrow", [False, True])
def test_titles_of_a_sweep_do_not_run_into_each_other(one_arm: Made, narrow: bool) -> None:
    figure = drawn(one_arm, "sweep", narrow)
    assert sum(a.get_visible() for a in figure.axes) == len(one_arm.grid.datasets[UNBIASED].targets)
    boxes = [a.get_tightbbox() for a in figure.axes if a.get_visible()]
    assert all(not a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_training_of_one_epoch_is_a_point(made: Made) -> None:
    figure = drawn(made, "curves", False)
    cell = next(c for c in made.grid.cells.values() if c.name == f"{UNBIASED}/comm/epochs_1")
    history = pl.read_parquet(made.path(made.layout.stage(cell.name, "pretrain", "history.parquet")))
    assert history["epoch"].unique().to_list() == [0]
    marks = {a.get_title(loc="left"): [x.get_marker() for x in a.lines if len(x.get_xdata())] for a in figure.axes}
    assert marks["CoMM, epochs: 1"] == ["o"]
    assert marks["CoMM, epochs: 8"] == ["None"]

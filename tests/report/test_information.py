"""Redundant, unique and synergistic information: the block, its control, the sentences and the bars."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import Grid
from mmcontrast.config.grid import subset
from mmcontrast.evaluation.statistics import paired_difference
from mmcontrast.report.evidence import Scope
from mmcontrast.report.experiment import build_table
from mmcontrast.report.figures.lines import information as information_chart
from mmcontrast.report.figures.registry import caption, figures
from mmcontrast.report.figures.style import house_style
from mmcontrast.report.outputs import active_arms
from mmcontrast.report.results import write_results
from mmcontrast.report.tables.information import (
    chances,
    information_findings,
    information_notes,
    kept_by_cell,
)
from tests.report.made_up_study import REPO, Made, make_study

EXPERIMENT = "comm_trifeature"
UNBIASED, BIASED = "trifeature_mid", "trifeature_mid_biased"
SUITE = """
description: Made-up embeddings of both arms.
datasets: [trifeature_mid, trifeature_mid_biased]
experiments: [comm_trifeature]
seeds: [0, 1, 2]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    kept = {("comm", "shared"), ("cross", "shared")}
    grid = make_study(tmp_path_factory.mktemp("arms"), {"val": 20, "test": 30}, 100, SUITE, kept)
    write_results(grid.grid, grid.layout)
    return grid


def scores(made: Made, dataset: str, method: str, metric: str) -> dict[int, float]:
    frame = pl.read_parquet(made.path(made.layout.metrics(f"{dataset}/{method}/shared")))
    part = frame.filter(split="test", protocol="selected", metric=metric)
    return dict(zip(part["seed"], part["value"], strict=True))


def table(made: Made):
    return build_table(made.evidence, EXPERIMENT)


def test_the_block_takes_each_letter_from_its_arm_and_probe(made: Made) -> None:
    block = table(made).blocks[0]
    assert block.keys == {"dataset": UNBIASED, "metric": "information"}
    for row in block.rows:
        if row.cell is None:
            continue
        method = row.cell.split("/")[1]
        unique = [scores(made, UNBIASED, method, f"unique{i}/balanced_acc") for i in (1, 2)]
        synergy = [scores(made, d, method, "synergy/balanced_acc") for d in (BIASED, UNBIASED)]
        want = {
            "R": np.mean(list(scores(made, UNBIASED, method, "balanced_acc").values())),
            "U": np.mean([list(u.values()) for u in unique]),
            "S": np.mean(list(synergy[0].values())),
            "control": np.mean(list(synergy[1].values())),
        }
        gain = paired_difference(*synergy)
        assert {k: row.values[k].mean for k in want} == pytest.approx({k: 100 * v for k, v in want.items()})
        got = row.values["difference"]
        assert (got.mean, got.low, got.high) == pytest.approx(tuple(100 * v for v in gain[:3]))
        assert row.values["seeds"].mean == 3


def test_published_values_stand_beside_their_cells_and_rows_without_one_come_first(made: Made) -> None:
    rows = {row.label: row.values for row in table(made).blocks[0].rows}
    printed = {p.row: p for p in made.grid.published(EXPERIMENT).rows}
    assert rows["CoMM"]["published_S"].mean == printed["CoMM"].values["S"]
    assert rows["CoMM"]["published_S"].spread == printed["CoMM"].spread["S"]
    assert set(rows["FactorCL"]) == {"published_R", "published_U", "published_S"}


def test_the_other_blocks_have_no_column_of_published_values(made: Made) -> None:
    for block in table(made).blocks[1:]:
        assert not any(c.kind == "published" for c in block.columns)


def test_findings_state_the_difference_to_the_control_and_no_p_value(made: Made) -> None:
    grid = made.grid
    kept = kept_by_cell(made.evidence, EXPERIMENT, *active_arms(grid, EXPERIMENT)[0])
    found = information_findings(made.evidence, EXPERIMENT)
    assert len(kept) == len(found) == 2
    for k, sentence in zip(kept, found, strict=True):
        assert "S against its control" in sentence
        inside = k.gain.low <= 0 <= k.gain.high
        assert f"whose interval {'includes' if inside else 'excludes'} 0; 3 seeds" in sentence
        assert "(chance 25)" in sentence


def test_chances_are_one_over_the_classes(made: Made) -> None:
    asked = made.grid.experiments[EXPERIMENT].information
    small, full = asked.arms
    assert chances(made.grid, asked, small) == {"R": 25.0, "U": 12.5, "S": 50.0}
    assert chances(made.grid, asked, full) == {"R": 10.0, "U": 10.0, "S": 50.0}


@pytest.mark.parametrize("suite", sorted(of.stem for of in (REPO / "params/suites").glob("*.yaml")))
def test_the_plan_of_an_experiment_has_the_set_that_the_published_values_are_of(suite: str) -> None:
    grid = Grid(REPO, suite)
    for experiment in [e for e in grid.active_experiments if grid.experiments[e].information]:
        planned = Grid.from_plain(subset(grid, experiment), REPO)
        assert information_notes(planned, experiment) == information_notes(grid, experiment)


def test_notes_say_that_the_full_size_was_not_run_and_what_was_published(made: Made) -> None:
    notes = "\n".join(table(made).notes)
    assert re.search(r"Trifeature, the published size: not run\. Published: .*CoMM R 99\.9 ± 0\.03, U 87\.8", notes)
    assert "The paper shows no such control" in notes
    assert "no published number was found" not in notes


@pytest.mark.parametrize("narrow", [False, True])
def test_bars_with_chance_lines_and_controls(made: Made, narrow: bool) -> None:
    with house_style():
        figure = information_chart(Scope(made.evidence, EXPERIMENT, UNBIASED), narrow)
    assert [a.get_title(loc="left")[0] for a in figure.axes] == ["R", "U", "S"]
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes]
    assert [len(h) for h in heights] == [2, 2, 4]
    values = {row.label: row.values for row in table(made).blocks[0].rows}
    assert heights[2] == pytest.approx(
        [values[label][key].mean for label in ("Cross (CLIP)", "CoMM") for key in ("S", "control")]
    )
    hatches = [bool(bar.get_hatch()) for bar in figure.axes[2].patches]
    assert hatches == [False, True, False, True]
    for axes, chance in zip(figure.axes, (25, 12.5, 50), strict=True):
        assert any(np.allclose(line.get_ydata(), chance) for line in axes.lines)
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert {"control: S after unbiased pretraining", "chance", "published, full size"} <= set(texts)


def test_the_figure_belongs_to_the_unbiased_dataset_and_names_both(made: Made) -> None:
    specs = [f for f in figures(made.grid, EXPERIMENT) if f.kind == "information"]
    assert [s.dataset for s in specs] == [UNBIASED]
    text = caption(made.evidence, specs[0])
    assert "S after Trifeature, 8 x 8, biased pairs" in text
    assert "hatched: its control" in text


def test_one_arm_alone_tells_nothing() -> None:
    grid = Grid(REPO, "trifeature", datasets=[UNBIASED])
    assert active_arms(grid, EXPERIMENT) == []
    assert not any(f.kind == "information" for f in figures(grid, EXPERIMENT))

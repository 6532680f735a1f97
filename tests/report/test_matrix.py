"""The matrix: its numbers by another route, its blocks, figures and notes. Scores are made up."""

from __future__ import annotations

import csv
import io
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from scipy import stats

from mmcontrast.config import CellRef, Grid
from mmcontrast.errors import DataError
from mmcontrast.evaluation import across, statistics
from mmcontrast.paths import Layout
from mmcontrast.report import experiment as experiment_module
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.experiment import build_table, write_experiment
from mmcontrast.report.figures.lines import panels as panels_chart
from mmcontrast.report.figures.matrix import counted
from mmcontrast.report.figures.registry import caption, draw, figures
from mmcontrast.report.figures.style import house_style
from mmcontrast.report.tables.contrasts import compared, contrast_findings
from mmcontrast.report.tables.formats import to_csv
from mmcontrast.report.tables.matrix import build_matrix, headline_readout, matrix_blocks, matrix_findings, read_costs
from tests.report.made_up_scores import write_scores
from tests.report.made_up_study import REPO, Made

MATRIX = "matrix"
SUITE = """
description: Made-up scores of the grid.
datasets: [tcga_brca, handwritten, weak_modality, trifeature_mid, trifeature_mid_biased, emoji]
experiments: [matrix, defects, batch_size]
seeds: [0, 1, 2, 3, 4]
seeds_by_dataset: {trifeature_mid: [0, 1, 2], trifeature_mid_biased: [0, 1, 2]}
"""


@pytest.fixture(scope="module", autouse=True)
def few_replicates() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "REPLICATES", 300)
        patch.setattr(across, "REPLICATES", 300)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Every cell of the study with made-up scores and costs, and the results table."""
    root = tmp_path_factory.mktemp("matrix")
    shutil.copytree(REPO / "params", root / "params")
    (root / "params/suites/made_up.yaml").write_text(SUITE)
    made = Made(Grid(root, "made_up"), Layout("made_up"))
    write_scores(made)
    return made


@pytest.fixture(scope="module")
def results(made: Made) -> pl.DataFrame:
    return Evidence.read(made.grid, made.layout).results


def scores_of(
    results: pl.DataFrame, dataset: str, method: str, variant: str, metric: str, split: str = "test"
) -> dict[int, float]:
    """seed -> score, read from the results table without any of the report's functions."""
    return {
        row["seed"]: row["value"]
        for row in results.to_dicts()
        if (row["experiment"], row["dataset"], row["method"], row["variant"]) == (MATRIX, dataset, method, variant)
        and (row["split"], row["protocol"], row["metric"]) == (split, "selected", metric)
    }


def chosen(results: pl.DataFrame, dataset: str, method: str, variant: str, metric: str) -> tuple[str, dict[int, float]]:
    """Of the two readouts the one with the better mean on validation, and its test scores."""
    means = [
        np.mean(list(scores_of(results, dataset, method, variant, metric + of, "val").values()))
        for of in ("", "@encoders")
    ]
    readout = "@encoders" if means[1] > means[0] else ""
    return readout, scores_of(results, dataset, method, variant, metric + readout)


def test_the_table_and_an_interval_come_out_by_another_route(made: Made, results: pl.DataFrame) -> None:
    table = build_table(made.evidence, MATRIX)
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    printed, block = {r["row"]: r for r in rows if r["metric"] == "score"}, table.blocks[1]
    texts = {(row.label, c): text for row in block.rows for c, text in enumerate(row.texts(block.columns)[1:])}
    columns = [("tcga_brca", "acc"), ("handwritten", "acc"), ("weak_modality", "acc")]
    of_vectors = {
        "Untrained": ("cross", "shared_untrained"),
        "Cross (CLIP, CMC)": ("cross", "shared"),
        "TupleInfoNCE": ("tuple_infonce", "shared"),
        "CoMM": ("comm", "shared"),
        "M3CoL (labels)": ("m3col", "shared"),
    }
    for label, (method, variant) in of_vectors.items():
        for c, (dataset, metric) in enumerate(columns):
            readout, by_seed = chosen(results, dataset, method, variant, metric)
            values = np.array(list(by_seed.values()))
            assert len(values) == 5
            assert float(printed[label][f"score_{c}"]) == pytest.approx(100 * values.mean(), abs=1e-4)
            assert texts[label, c].endswith("] e" if readout else "] f")
            mean, slope = values.mean(), values.mean() * (1 - values.mean())
            odds = stats.t.interval(0.95, 4, np.log(mean / (1 - mean)), stats.sem(values) / slope)
            ends = 100 / (1 + np.exp(-np.array(odds)))
            got = [float(printed[label][f"score_{c}_{end}"]) for end in ("low", "high")]
            assert got == pytest.approx(list(ends), abs=1e-4)
    # Trifeature: four probes of two arms, averaged within a seed
    asked = [("", ""), ("", "unique1/"), ("", "unique2/"), ("_biased", "synergy/")]
    by_readout = {}
    for split, of in itertools.product(("val", "test"), ("", "@encoders")):
        probes = [
            scores_of(results, f"trifeature_mid{arm}", "comm", "shared", f"{task}balanced_acc{of}", split)
            for arm, task in asked
        ]
        by_readout[split, of] = np.mean([np.mean([probe[s] for probe in probes]) for s in (0, 1, 2)])
    readout = max(("", "@encoders"), key=lambda of: by_readout["val", of])
    assert float(printed["CoMM"]["score_3"]) == pytest.approx(100 * by_readout["test", readout], abs=1e-4)
    shown = {m: {r["row"]: r[f"{m}_3"] for r in rows if r["metric"] == m}["CoMM"] for m in ("encoders", "fused")}
    assert float(shown["encoders"]) == pytest.approx(100 * by_readout["test", "@encoders"], abs=1e-4)
    assert float(shown["fused"]) == pytest.approx(100 * by_readout["test", ""], abs=1e-4)
    assert printed["M3CoL (labels)"]["score_0"] != ""
    assert printed["M3CoL (labels)"]["score_3"] == ""


def test_ranks_and_differences_come_out_by_another_route(made: Made, results: pl.DataFrame) -> None:
    matrix = build_matrix(made.evidence, MATRIX)
    means = np.array([[np.mean(list(matrix.scores[label, c].values())) for c in range(4)] for label in matrix.ranked])
    ranks = np.mean([stats.rankdata(-means[:, c]) for c in range(4)], axis=0)
    found_across = matrix.across()
    assert [found_across[label][1].mean for label in matrix.ranked] == pytest.approx(list(ranks))
    assert not {"Raw inputs", "SupCon (labels)", "M3CoL (labels)"} & set(found_across)
    assert matrix.labelled == {label for label in matrix.labels if "(labels)" in label}

    for (label, c), found in matrix.differences().items():
        seeds = sorted(matrix.scores[label, c])
        ours, theirs = (np.array([matrix.scores[name, c][s] for s in seeds]) for name in (label, "Cross (CLIP, CMC)"))
        assert found.mean == pytest.approx((ours - theirs).mean())
        assert found.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


def test_a_gain_is_over_the_same_readout_of_the_twin(made: Made, results: pl.DataFrame) -> None:
    matrix = build_matrix(made.evidence, MATRIX)
    for c, dataset in enumerate(("tcga_brca", "handwritten", "weak_modality")):
        readout, after = chosen(results, dataset, "comm", "shared", "acc")
        before = scores_of(results, dataset, "comm", "shared_untrained", f"acc{readout}")
        wanted = {s: after[s] - before[s] for s in after}
        assert matrix.gains["CoMM", c, matrix.headline["CoMM", c]] == pytest.approx(wanted)
        assert matrix.gain("Raw inputs", c, "encoders") is None
    untrained = {x for x in matrix.labels if "ntrained" in x}
    assert matrix.floors == {*untrained, "Raw inputs"}
    assert matrix.twins == untrained
    assert not matrix.floors & set(matrix.ranked)


def test_the_untrained_row_that_stands_for_all_is_the_references_own(made: Made) -> None:
    matrix = build_matrix(made.evidence, MATRIX)
    backwards = replace(matrix, labels=matrix.labels[::-1])
    for one in (matrix, backwards):
        shown = {row.label for row in matrix_blocks(one)[0].rows}
        assert shown & one.twins == {"Untrained"}, "the twin of the reference, wherever it stands"
    other = {row.label for row in matrix_blocks(replace(matrix, reference="CoMM"))[0].rows}
    assert other & matrix.twins == {"CoMM, untrained"}
    none = {row.label for row in matrix_blocks(replace(matrix, reference=None))[0].rows}
    assert none >= matrix.twins


def test_the_untrained_line_of_few_labels_is_the_references_own(made: Made) -> None:
    def untrained() -> list[tuple[str, str]]:
        found = counted(made.grid, MATRIX, "weak_modality")
        return [(ref.method, ref.variant) for ref in found if ref.variant.endswith("untrained")]

    assert untrained() == [("cross", "shared_untrained")]
    other = made.grid.experiments[MATRIX].model_copy(update={"reference": CellRef(method="comm", variant="shared")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(made.grid.experiments, MATRIX, other)
        assert untrained() == [("comm", "shared_untrained")]


def test_the_headline_is_the_readout_that_is_better_on_validation() -> None:
    own, encoders = {0: 0.5, 1: 0.75}, {0: 0.8, 1: 0.6}
    assert headline_readout({"encoders": encoders, "": own}) == "encoders"
    assert headline_readout({"encoders": encoders, "": own}, sign=-1) == ""
    assert headline_readout({"encoders": {0: 0.625, 1: 0.625}, "": own}) == "", "equal means"
    assert headline_readout({"encoders": {}, "": {}}) == "", "without validation"
    assert headline_readout({"encoders": {}}) == "encoders"


def test_costs_are_seconds_of_a_seed_and_the_most_memory(made: Made, results: pl.DataFrame) -> None:
    matrix = build_matrix(made.evidence, MATRIX)
    costs = read_costs(made.evidence, matrix)
    # made up: twice 28.5 s for all seeds of `comm`, which are five, and three on Trifeature
    assert costs["CoMM", 0][0] == pytest.approx(2 * 28.5 / 5)
    assert costs["CoMM", 3][0] == pytest.approx(2 * 28.5 / 3)
    assert costs["CoMM", 0][1] == 1000
    assert set(costs) == set(matrix.scores)
    table = build_table(made.evidence, MATRIX)
    assert [b.keys["metric"] for b in table.blocks] == [
        *("primary", "score", "encoders", "fused", "gain", "difference", "across", "cost")
    ]


def test_a_damaged_cost_record_is_named(made: Made, results: pl.DataFrame) -> None:
    matrix = build_matrix(made.evidence, MATRIX)
    path = made.path(made.layout.stage("tcga_brca/comm/shared", "pretrain", "cost.json"))
    text = path.read_text()
    path.write_text('{"seeds": 5}')
    with pytest.raises(DataError, match=r"tcga_brca/comm/shared/pretrain/cost.json: damaged; run .mmcontrast pretrain"):
        read_costs(made.evidence, matrix)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        read_costs(made.evidence, matrix)
    path.write_text(text)


def test_findings_name_the_best_trained_without_labels(made: Made, results: pl.DataFrame) -> None:
    matrix = build_matrix(made.evidence, MATRIX)
    ranked = matrix.across()
    best = min(matrix.ranked, key=lambda label: ranked[label][1].mean)
    said = matrix_findings(matrix)
    assert any("Best mean rank" in s and best in s for s in said)
    assert all("trained without labels" in s for s in said)


def test_contrasts_are_differences_by_seed_of_cells_and_of_protocols(made: Made, results: pl.DataFrame) -> None:
    found = {c.contrast.label: c for c in compared(made.evidence, "defects")}
    frame = results.filter(experiment="defects", dataset="tcga_brca", method="m3col", split="test", metric="acc")

    def by_seed(variant: str, protocol: str = "selected") -> np.ndarray:
        return frame.filter(variant=variant, protocol=protocol).sort("seed")["value"].to_numpy()

    both = found["M3CoL: both defects"]
    np.testing.assert_allclose(list(both.by_seed.values()), by_seed("released") - by_seed("base"))
    assert both.difference.mean == pytest.approx((by_seed("released") - by_seed("base")).mean())
    on_test = found["M3CoL: epoch chosen on test"]
    assert on_test.difference.mean == pytest.approx((by_seed("base", "optimistic") - by_seed("base")).mean())
    assert np.isnan([on_test.difference.p, on_test.p_holm]).all()
    assert all(np.isnan(c.p_holm) for c in found.values()), "none of them was declared before the run"
    said = contrast_findings(made.evidence, "defects")
    assert len(said) == len(found) == len(made.grid.experiments["defects"].contrasts)
    assert any("interval excludes 0" in s or "interval includes 0" in s for s in said)


def test_a_panel_has_a_mark_a_cell_at_its_place(made: Made, results: pl.DataFrame) -> None:
    figure = panels_chart(Scope(made.evidence, "batch_size", "all"), False)
    panels = made.grid.experiments["batch_size"].panels
    assert len(figure.axes) == len(panels) == 4
    for axes, panel in zip(figure.axes, panels, strict=True):
        ((name, line),) = panel.series.items()
        (drawn,) = [of for of in axes.lines if of.get_label() == name]
        assert list(drawn.get_xdata()) == sorted(line.values())
        assert list(axes.get_xticks()) == sorted(line.values())
    m3col = next(of for of in figure.axes[0].lines if of.get_label() == "M3CoL")
    of_all = results.filter(experiment="batch_size", method="m3col", variant="base", metric="acc", protocol="selected")
    of_all = of_all.filter(split="test")
    assert m3col.get_ydata()[-1] == pytest.approx(100 * of_all["value"].mean())


@pytest.mark.parametrize("narrow", [False, True])
def test_every_figure_is_drawn_and_has_a_caption(made: Made, results: pl.DataFrame, narrow: bool) -> None:
    for experiment in ("matrix", "defects", "batch_size"):
        for spec in figures(made.grid, experiment):
            figure = draw(made.evidence, spec, narrow)
            assert figure.axes, spec
            data = made.grid.datasets.get(spec.dataset)
            assert (data or made.grid.experiments[experiment]).title in caption(made.evidence, spec)


def test_the_dots_of_the_matrix_are_its_numbers(made: Made, results: pl.DataFrame) -> None:
    matrix = build_matrix(made.evidence, MATRIX)
    spec = figures(made.grid, MATRIX)[0]
    with house_style():
        figure = draw(made.evidence, spec, False)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [
        *(c.title for c in matrix.columns),
        "All: skill",
        "All: rank",
    ]
    for c, axes in enumerate(shown[:4]):
        dots = np.array([d.get_offsets().data[0] for d in axes.collections])
        drawn = [label for label in matrix.labels if label not in matrix.twins]
        wanted = [(100 * m.mean, y) for y, label in enumerate(drawn) if (m := matrix.mean(label, c))]
        np.testing.assert_allclose(dots, wanted)


def test_tables_are_written(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_module, "write_figures", lambda *_: None)
    for experiment in made.grid.active_experiments:
        write_experiment(made.grid, made.layout, experiment)
        text = made.path(made.layout.table(experiment, "md")).read_text()
        assert made.grid.experiments[experiment].title in text


def test_a_column_whose_data_are_not_run_is_left_out(made: Made, results: pl.DataFrame) -> None:
    grid = Grid(made.grid.root, "made_up", ["tcga_brca", "handwritten"])
    matrix = build_matrix(Evidence(grid, made.layout, results, results), MATRIX)
    assert [c.title for c in matrix.columns] == ["TCGA-BRCA", "Handwritten digits"]
    assert not yaml.safe_load((Path(made.grid.root) / "params/suites/made_up.yaml").read_text()).get("overrides")

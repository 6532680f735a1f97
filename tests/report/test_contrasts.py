"""Declared contrasts: families, one p value for a comparison wherever it stands, and what training adds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from scipy import stats

from mmcontrast.config import Grid
from mmcontrast.config.experiments import Experiment
from mmcontrast.errors import ConfigError
from mmcontrast.evaluation import across, statistics
from mmcontrast.evaluation.statistics import holm, over_seeds_and_cases
from mmcontrast.paths import Layout
from mmcontrast.report.evidence import Scope
from mmcontrast.report.experiment import build_table
from mmcontrast.report.figures.matrix import agreements, counted, priced
from mmcontrast.report.figures.registry import caption, draw, figures
from mmcontrast.report.figures.style import house_style
from mmcontrast.report.tables.contrasts import compared
from mmcontrast.report.tables.formats import text_of
from tests.report.made_up_scores import write_scores
from tests.report.made_up_study import REPO, Made

SUITE = """
description: Made-up scores of declared contrasts.
datasets: [tcga_brca, handwritten, omniglot_small, emoji]
experiments: [matrix, defects, drawings, m3col_omics, mxm_emoji]
seeds: [0, 1, 2, 3, 4]
"""
CONTRAST = {"label": "a", "dataset": "rosmap", "cell": "m3col/base", "against": "concat/base"}
TABLE = {
    "title": "t",
    "caption": "c",
    "kind": "table",
    "datasets": ["rosmap"],
    "cells": [{"method": "m3col"}, {"method": "concat"}],
}


@pytest.fixture(scope="module", autouse=True)
def few_replicates() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "REPLICATES", 300)
        patch.setattr(across, "REPLICATES", 300)
        patch.setattr(across, "AGREEMENT_REPLICATES", 50)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("contrasts")
    shutil.copytree(REPO / "params", root / "params")
    (root / "params/suites/made_up.yaml").write_text(SUITE)
    made = Made(Grid(root, "made_up"), Layout("made_up"))
    write_scores(made)
    return made


def by_seed(results: pl.DataFrame, dataset: str, cell: str, metric: str) -> np.ndarray:
    method, variant = cell.split("/")
    part = results.filter(dataset=dataset, method=method, variant=variant, metric=metric, protocol="selected")
    return part.filter(split="test", experiment=part["experiment"][0]).sort("seed")["value"].to_numpy()


def test_a_family_is_what_was_declared_of_one_dataset_and_score(made: Made) -> None:
    results, families = made.evidence.results, {}
    found = compared(made.evidence, "matrix")
    for c in found:
        a, b = (by_seed(results, c.contrast.dataset, x, c.metric) for x in (c.contrast.cell, c.contrast.against))
        assert c.difference.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
        families.setdefault((c.contrast.dataset, c.metric), []).append(c)
    assert {key: len(of) for key, of in families.items()} == {
        (d, m): n for d in ("tcga_brca", "handwritten") for m, n in (("acc", 9), ("acc@encoders", 5))
    } | {("omniglot_small", "acc"): 5, ("omniglot_small", "acc@encoders"): 3}
    for of in families.values():
        assert [c.p_holm for c in of] == pytest.approx(holm(np.array([c.difference.p for c in of])))
        assert {c.family for c in of} == {len(of)}


def test_the_wider_interval_is_of_both_cells_influences(made: Made) -> None:
    found, intervals = compared(made.evidence, "matrix")[0], made.evidence.intervals
    assert found.wide is not None
    rows = [
        intervals.filter(dataset="tcga_brca", method=m, variant=v, metric="acc", protocol="selected")["influence"][0]
        for m, v in (x.split("/") for x in (found.contrast.cell, found.contrast.against))
    ]
    first, second = (np.array(r.to_list()) for r in rows)
    assert found.wide == pytest.approx(over_seeds_and_cases(np.array(list(found.by_seed.values())), first - second))


def test_what_is_exploratory_or_optimistic_is_not_tested(made: Made) -> None:
    found = compared(made.evidence, "defects")
    assert len(found) > 5
    assert np.isnan([[c.difference.p, c.p_holm] for c in found]).all()
    table = build_table(made.evidence, "defects")
    block = next(b for b in table.blocks if b.keys["metric"] == "contrast")
    assert not [c.key for c in block.columns if c.kind == "p"]
    rows = {row.label: row for row in block.rows}
    on_test = next(c for c in found if c.contrast.protocol == "optimistic")
    shown = rows[on_test.contrast.label].values
    assert (shown["difference"].low, shown.get("wide")) == (None, None)
    assert shown["spread"].mean == pytest.approx(100 * on_test.spread)
    assert any("mean gain +1.0 points, standard deviation" in s and "not tested" in s for s in table.findings)


def test_one_comparison_has_one_p_value_everywhere(made: Made) -> None:
    """Every p in any table, sentence or figure label is that of its declared contrast; nothing else has one."""
    evidence = made.evidence
    values: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    said_of: dict[tuple[str, ...], set[str]] = {}
    for experiment in made.grid.active_experiments:
        table, declared = build_table(evidence, experiment), compared(evidence, experiment)
        primary = [c for c in declared if c.contrast.primary]
        for block in table.blocks:
            with_p = [c for c in block.columns if c.kind == "p"]
            assert bool(with_p) == (block.keys["metric"] == "primary"), (experiment, block.title)
            for row, c in zip(block.rows, primary, strict=False) if with_p else ():
                assert row.label == c.contrast.label
                raw, corrected = (text_of(row.values[column.key], "p") for column in with_p)
                key = (c.contrast.dataset, c.metric, c.contrast.cell, c.contrast.against)
                values.setdefault(key, set()).add((raw, corrected))
        for text in table.findings + table.notes:
            for found in re.findall(r"p [=<] (\S+), after .*? contrasts? (\S+);", text):
                c = next(c for c in primary if text.startswith(f"{c.contrast.label}, ") and found)
                assert c is not None
        for c in primary:
            key = (c.contrast.dataset, c.metric, c.contrast.cell, c.contrast.against)
            said_of.setdefault(key, set()).update(t for t in table.findings if t.startswith(f"{c.contrast.label}, "))
    assert len(values) == len(said_of) > 20
    assert {len(of) for of in values.values()} == {1}
    for key, ((raw, corrected),) in ((k, list(v)) for k, v in values.items()):
        after = re.compile(rf"{re.escape(raw.removeprefix('<'))}, after .* primary contrasts? {re.escape(corrected)};")
        assert [s for s in said_of[key] if after.search(s.replace("< ", "<"))], key


def test_a_comparison_that_is_primary_in_two_experiments_is_refused(tmp_path: Path) -> None:
    shutil.copytree(REPO / "params", tmp_path / "params")
    file = tmp_path / "params/experiments/across/drawings.yaml"
    again = "label: again, dataset: omniglot_small, cell: comm/shared_untrained, against: comm/shared, primary: true"
    file.write_text(f"{file.read_text()}  - {{{again}}}\n")
    with pytest.raises(
        ConfigError, match=r"acc, is primary in .*drawings.yaml: contrasts: again too, .* declare it once"
    ):
        Grid(tmp_path, "default")
    file.write_text(file.read_text().replace("again, dataset", "again, metric: ce, dataset"))
    Grid(tmp_path, "default")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"primary": True, "protocol": "optimistic"}, "a maximum is not tested against one of its members"),
        ({"against": "m3col/base"}, "m3col/base is compared with itself; give two cells"),
        ({"dataset": "tcga_brca"}, "'tcga_brca' is not among the experiment's datasets"),
        ({"against": "m3col/released"}, "m3col/released is no cell of the experiment on rosmap"),
    ],
)
def test_contrasts_that_mean_nothing_are_refused(change: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        Experiment.model_validate(TABLE | {"contrasts": [CONTRAST | change]})


def test_a_group_is_written_out_and_untrained_is_each_cells_own_twin() -> None:
    cells = [{"method": m, "variant": v} for m, v in (("cross", "shared"), ("cross", "shared_untrained"))]
    cells += [{"method": "comm"}, {"method": "comm", "variant": "untrained"}]
    group = {"datasets": ["rosmap"], "cells": {"cross/shared": "Cross", "comm/base": "CoMM"}, "against": "untrained"}
    group |= {"label": "{cell} minus untrained", "metrics": [None, "acc@encoders"], "primary": True}
    found = Experiment.model_validate(TABLE | {"cells": cells, "contrasts": [group]}).contrasts
    assert [(c.label, c.cell, c.against, c.metric) for c in found] == [
        ("Cross minus untrained", "cross/shared", "cross/shared_untrained", None),
        ("CoMM minus untrained", "comm/base", "comm/untrained", None),
        ("Cross minus untrained", "cross/shared", "cross/shared_untrained", "acc@encoders"),
        ("CoMM minus untrained", "comm/base", "comm/untrained", "acc@encoders"),
    ]
    with pytest.raises(ValidationError, match="cells"):
        Experiment.model_validate(TABLE | {"contrasts": [{"datasets": ["rosmap"], "against": "untrained"}]})


def drawn(made: Made, experiment: str, kind: str, narrow: bool = False, dataset: str = "all"):
    spec = next(f for f in figures(made.grid, experiment) if (f.kind, f.dataset) == (kind, dataset))
    with house_style():
        return draw(made.evidence, spec, narrow), caption(made.evidence, spec)


@pytest.mark.parametrize("narrow", [False, True])
def test_lines_of_label_efficiency_are_the_scores(made: Made, narrow: bool) -> None:
    figure, said = drawn(made, "matrix", "labels", narrow, "tcga_brca")
    labels = [of.get_label() for of in figure.axes[0].lines]
    methods = ["Cross (CLIP, CMC)", "Cross + Self", "TupleInfoNCE", "MXM-CLR (reconstruction)", "CoMM"]
    assert labels == ["Raw inputs", "Untrained", *methods]
    results = made.evidence.results.filter(experiment="matrix")
    for axes, readout in zip(figure.axes, ("@encoders", ""), strict=True):
        assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "5", "20", "all"]
        line = next(of for of in axes.lines if of.get_label() == "CoMM")
        names = [f"acc{readout}{of}" for of in (":1", ":5", ":20", "")]
        wanted = [100 * by_seed(results, "tcga_brca", "comm/shared", name).mean() for name in names]
        np.testing.assert_allclose(line.get_ydata(), wanted)
    raw = next(of for of in figure.axes[0].lines if of.get_label() == "Raw inputs")
    assert raw.get_linestyle() == "--"
    assert "mean over 5 draws" in said
    assert not counted(made.grid, "m3col_omics", "tcga_brca")


@pytest.mark.parametrize("narrow", [False, True])
def test_gains_are_over_the_same_readout_untrained(made: Made, narrow: bool) -> None:
    figure, said = drawn(made, "matrix", "gains", narrow)
    results = made.evidence.results.filter(experiment="matrix")
    for axes, dataset in zip(figure.axes, ("tcga_brca", "handwritten", "omniglot_small"), strict=True):
        y = [t.get_text() for t in figure.axes[0].get_yticklabels()].index("CoMM")
        dots = {round(float(d.get_offsets()[0][1]), 2): d for d in axes.collections}
        for readout, aside in (("@encoders", -0.14), ("", 0.14)):
            after, before = (
                by_seed(results, dataset, f"comm/{v}", f"acc{readout}") for v in ("shared", "shared_untrained")
            )
            ((x, _),) = dots[round(y + aside, 2)].get_offsets()
            assert x == pytest.approx(100 * (after - before).mean())
    assert "untrained, paired by seed" in said


def test_the_price_of_a_switch_is_counted_against_other_methods_alone(made: Made) -> None:
    found = priced(Scope(made.evidence, "defects", "all"))
    assert {label: of.pairs for (_, label), of in found.items()} == {
        "M3CoL: both sides mixed": 7,
        "M3CoL: targets overwritten": 7,
        "M3CoL: both defects": 7,
        "CoMM: probe fitted again with validation": 7,
        "MIL-NCE: positives counted twice": 5,
    }
    figure, said = drawn(made, "defects", "reversals")
    bars = sorted(bar.get_width() for bar in figure.axes[0].patches)
    assert bars == pytest.approx(sorted(100 * of.changed for of in found.values()))
    assert "other draws of the seeds alone" in said


def test_validation_and_test_are_compared_by_kendalls_tau(made: Made) -> None:
    results = made.evidence.results.filter(
        experiment="matrix", dataset="tcga_brca", protocol="selected", variant="shared"
    )

    def mean(method: str, split: str, readout: str) -> float:
        return results.filter(method=method, split=split, metric=f"acc{readout}")["value"].mean()

    means: tuple[list[float], list[float]] = ([], [])
    for method in ("cross", "cross_self", "tuple_infonce", "mxm_clr", "comm"):
        readout = max(("", "@encoders"), key=lambda of: mean(method, "val", of))
        for side, split in zip(means, ("val", "test"), strict=True):
            side.append(mean(method, split, readout))
    found = agreements(Scope(made.evidence, "matrix", "all"))
    assert list(found) == ["TCGA-BRCA", "Handwritten digits", "Omniglot"]
    assert found["TCGA-BRCA"].mean == pytest.approx(stats.kendalltau(*means).statistic)
    figure, _ = drawn(made, "matrix", "agreement", narrow=True)
    assert figure.axes[0].get_xlim()[0] < -1


@pytest.mark.parametrize("narrow", [False, True])
def test_no_text_of_the_new_figures_is_cut_off(made: Made, narrow: bool) -> None:
    asked = [("matrix", kind, "all") for kind in ("gains", "agreement", "contrasts")] + [
        ("defects", "reversals", "all")
    ]
    asked += [("matrix", "labels", "handwritten")]
    for experiment, kind, dataset in asked:
        if kind == "contrasts":
            continue
        figure, _ = drawn(made, experiment, kind, narrow, dataset)
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) > -0.01, kind
        assert (box.x1 < width + 0.01, box.y1 < height + 0.01) == (True, True), kind

"""The report of a grid that retrieval scores: its table, and every figure, without training."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
import torch

from mmcontrast import paths
from mmcontrast.config import Grid
from mmcontrast.data.loading import load_split
from mmcontrast.evaluation import statistics
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.paths import Layout
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.experiment import build_table
from mmcontrast.report.figures.registry import caption, draw, figures
from mmcontrast.report.figures.retrieval import QUERIES, SHEET_INSTANCES, TOP, picked, retrieved
from mmcontrast.report.figures.style import house_style
from mmcontrast.report.results import write_results
from mmcontrast.report.tables.formats import to_markdown
from mmcontrast.training.checkpoint import EpochTensors, SeedRun
from mmcontrast.training.outputs import observation_table
from tests.multifold_data import NAME, ROOT, write_multifold
from tests.report.made_up_study import keep_cells

SUITE = """
description: Made-up embeddings, scored by retrieval.
datasets: [emoji]
experiments: [mxm_emoji, mxm_batch_size]
seeds: [0, 1]
"""
KEPT = {
    "mxm_emoji": {("clip", "base"), ("mxm_clr", "base")},
    "mxm_batch_size": {("mxm_clr", "batch_16"), ("mxm_clr", "base"), ("clip", "base")},
}


def embedded(tables, epochs, seed, noise, folder):
    """Embeddings that are right but for noise."""
    out = SeedRun(EpochTensors(folder))
    rng = np.random.default_rng(seed)
    for split in ("val", "test"):
        table = tables[split]
        centre = rng.normal(size=(len(table), 6))
        for m, of in table.observations.items():
            out.instance[split, m] = of.instance
            for epoch in epochs:
                z = centre[of.instance.numpy()] + (noise + 1 / (1 + epoch)) * rng.normal(size=(len(of), 6))
                z /= np.linalg.norm(z, axis=1, keepdims=True)
                out.kept[epoch, split, m] = torch.from_numpy(z.astype(np.float32))
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("shared")
    shutil.copytree(ROOT / "params", root / "params")
    (root / "params/suites/made.yaml").write_text(SUITE)
    for name, kept in KEPT.items():
        keep_cells(root, name, kept)
    write_multifold(root)
    grid, layout = Grid(root, "made"), Layout("made")
    tables = {split: load_split(root / paths.prepared(NAME, split)) for split in ("val", "test")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "REPLICATES", 100)
        for name, cell in grid.cells.items():
            noise = 0.2 if cell.method == "mxm_clr" else 0.6
            folder = root / layout.stage(name, "pretrain")
            folder.mkdir(parents=True)
            runs = {s: embedded(tables, (0, 4), s, noise, folder / str(s)) for s in cell.seeds}
            frame = pl.from_arrow(observation_table(runs, lambda seed: (tables, {})))
            frame.write_parquet(folder / "embeddings.parquet")
            rows = [(s, e, "train/loss", 1 / (1 + e)) for s in cell.seeds for e in range(5)]
            pl.DataFrame(rows, schema=["seed", "epoch", "name", "value"], orient="row").write_parquet(
                folder / "history.parquet"
            )
            out = [root / path(name) for path in (layout.metrics, layout.curves, layout.intervals)]
            evaluate_cell(cell, folder / "embeddings.parquet", *out)
    write_results(grid, layout)
    return grid, layout


def test_the_table_has_a_block_a_metric_and_direction_and_says_reconstruction(made):
    grid, layout = made
    table = build_table(Evidence.read(grid, layout), "mxm_emoji")
    titles = [b.title for b in table.blocks]
    assert titles[0] == "Emoji: Rsum (recall at 1, 5 and 10, summed over both directions) (%)"
    assert "Emoji: Recall at 5, text to image (%)" in titles
    assert len(titles) == 11
    text = to_markdown(table)
    assert "MXM-CLR (reconstruction)" in text
    assert "ties are ranked with wrong answers first" in text
    assert "linear probe" not in text
    row = next(r for r in table.blocks[0].rows if r.own)
    clip = next(r for r in table.blocks[0].rows if not r.own)
    assert row.values["selected"].mean > clip.values["selected"].mean
    assert row.values["difference"].mean == pytest.approx(
        row.values["selected"].mean - clip.values["selected"].mean, abs=1e-9
    )


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("experiment", list(KEPT))
def test_every_figure_is_drawn_and_captioned(made, tmp_path, experiment, narrow):
    grid, layout = made
    evidence = Evidence.read(grid, layout)
    drawn = figures(grid, experiment)
    assert [f.kind for f in drawn] == {
        "mxm_emoji": ["scores", "curves", "neighbours", "similarities", "observations"],
        "mxm_batch_size": ["sweep", "differences", "curves"],
    }[experiment]
    with house_style():
        for spec in drawn:
            figure = draw(evidence, spec, narrow)
            figure.savefig(tmp_path / f"{spec.name}.png", dpi=60)
            assert (tmp_path / f"{spec.name}.png").stat().st_size > 2000
            assert "Emoji" in caption(evidence, spec)


def found_by(grid, layout, method):
    of = Scope(Evidence.read(grid, layout), "mxm_emoji", NAME)
    return retrieved(of, next(c for c in of.cells if c.method == method))


def test_what_the_figures_rank_is_what_was_scored(made):
    """The share of texts whose own image comes first is the stored score of that seed and epoch."""
    grid, layout = made
    for method in ("mxm_clr", "clip"):
        found = found_by(grid, layout, method)
        first = found.similarity().argmax(axis=0)
        metrics = pl.read_parquet(grid.root / layout.metrics(f"{NAME}/{method}/base"))
        want = metrics.filter(seed=0, split="test", protocol="selected", metric="text_to_image/rr1")["value"][0]
        assert (first == found.queries[1]).mean() == pytest.approx(want)


def test_right_answers_are_marked_and_wrong_ones_are_not(made):
    grid, layout = made
    evidence = Evidence.read(grid, layout)
    spec = next(f for f in figures(grid, "mxm_emoji") if f.kind == "neighbours")
    figure = draw(evidence, spec, False)
    first, second = figure.subfigs
    framed = [a for a in first.axes if a.spines["left"].get_linewidth() > 2]
    assert len(first.axes) == QUERIES * TOP
    assert 0 < len(framed) <= QUERIES
    ticks = [t for a in second.axes for t in a.texts if t.get_text().startswith("✓")]
    lines = [t for a in second.axes for t in a.texts]
    assert len(lines) == QUERIES * TOP
    assert 0 < len(ticks) < len(lines)


def test_every_picture_and_text_is_on_the_sheet_and_a_missing_one_leaves_its_place(made):
    grid, layout = made
    evidence = Evidence.read(grid, layout)
    table = load_split(grid.root / paths.prepared(NAME, "test"))
    rows = picked(SHEET_INSTANCES, table)
    counts = table.observations["image"].counts[rows]
    assert len(set(counts.tolist())) > 1
    spec = next(f for f in figures(grid, "mxm_emoji") if f.kind == "observations")
    sheet = draw(evidence, spec, False)
    places = [(round(a.get_position().x0, 6), round(a.get_position().y0, 6)) for a in sheet.axes]
    assert len(places) == counts.sum()
    columns = sorted({x for x, _ in places})
    assert len(columns) == counts.max()
    for y, count in zip(sorted({y for _, y in places}, reverse=True), counts.tolist(), strict=True):
        assert [x for x, at in places if at == y] == columns[:count]
    texts = table.observations["text"]
    shown = [t.get_text() for t in sheet.texts]
    assert all(texts.flat[int(texts.offsets[i])] in shown for i in rows)
    assert all(table.classes[int(table.labels[i])] in shown for i in rows)

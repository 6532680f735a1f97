"""Every dataset and every method of suites of files of one's own, from tiny ones in the official layouts to the scores.

By the commands that a user types, in this process: fetch, prepare, plan, training, scores, the experiment's table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mmcontrast import cli
from mmcontrast.config import Grid
from mmcontrast.paths import Layout
from mmcontrast.training.distributed import World
from tests.data.layouts import papers

ROOT = Path(__file__).parents[2]
SUITES = ("paper_m3col", "paper_comm", "paper_tuple", "paper_mxm", "further_sets")
# of each kind of files and of encoders one; the others are of a like layout
SHORT = {"multibench_mosi", "mimic", "food101", "rosmap", "nyuv2", "text2shape_tricolo", "mustard"}


def cases() -> Iterator[Any]:
    for suite in SUITES:
        for dataset in Grid(ROOT, suite).dataset_names:
            marks = pytest.mark.slow if dataset in SHORT else pytest.mark.exhaustive
            yield pytest.param(suite, dataset, id=f"{suite}-{dataset}", marks=marks)


def run(*words: str) -> None:
    assert cli.main(list(words)) == 0, words


@pytest.mark.parametrize(("suite", "dataset"), list(cases()))
def test_from_the_files_to_the_table(
    suite: str, dataset: str, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    papers.workspace(tmp_path, suite, dataset)
    papers.encoders(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMCONTRAST_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("MMCONTRAST_CACHE", str(tmp_path / "cache"))
    selected = ("--suite", suite, "--datasets", dataset)
    run("data", "fetch", dataset)
    run("data", "prepare", dataset)
    run("plan", *selected)
    grid, layout = Grid(tmp_path, suite, [dataset]), Layout(suite, [dataset])
    for name, cell in grid.cells.items():
        for stage in cell.stages:
            run(stage, name, *selected)
        run("evaluate", name, *selected)
    run("report", "results", *selected)
    scores = pl.read_parquet(layout.report("results.parquet")).filter(pl.col("split") == "test")
    wanted = {(cell.method, cell.variant) for cell in grid.cells.values()}
    assert set(scores.select("method", "variant").unique().iter_rows()) == wanted
    assert scores["value"].is_finite().all()

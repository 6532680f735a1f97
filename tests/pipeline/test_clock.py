"""Seconds of each experiment, from the journal of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.pipeline import clock
from mmcontrast.progress import Costs
from tests.grids import grid_of


def test_an_experiment_has_the_seconds_of_its_own_jobs_and_all_have_each_once(tmp_path: Path) -> None:
    grid = grid_of()
    shared, own = "tcga_brca/cross/shared", "weak_modality/tuple_infonce/own_rows"
    jobs = {
        ("pretrain", shared): 10.0,
        ("evaluate", shared): 2.0,
        ("pretrain", own): 30.0,
        ("report", "negatives"): 4.0,
        ("report", "matrix"): 5.0,
        ("fetch", "emoji"): 99.0,
    }
    lines = [json.dumps({"command": list(job), "seconds": s}) for job, s in jobs.items()]
    journal = tmp_path / "journal.jsonl"
    journal.write_text("\n".join(lines))
    found = clock(grid, Costs(journal).seconds)
    assert found["matrix"] == {"pretrain": 10.0, "finetune": 0.0, "evaluate": 2.0, "report": 5.0}
    assert found["negatives"] == {"pretrain": 30.0, "finetune": 0.0, "evaluate": 0.0, "report": 4.0}
    assert found[""] == pytest.approx({"pretrain": 40.0, "finetune": 0.0, "evaluate": 2.0, "report": 9.0})

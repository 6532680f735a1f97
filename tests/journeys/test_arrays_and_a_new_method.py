"""An npz of arrays -> classification; then a new method by the template, which is in the report without the others
being trained again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest


@pytest.mark.exhaustive
def test_arrays_and_a_new_method(journey: Any, table_of: Any) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    code = rng.normal(size=(3, 4))[y] + 0.7 * rng.normal(size=(90, 4))
    views = {
        name: code @ rng.normal(size=(4, width)) + rng.normal(size=(90, width))
        for name, width in (("eeg", 9), ("gait", 6))
    }
    np.savez(journey.folder / "files/study.npz", diagnosis=y, **views)
    journey("mmcontrast", "init", "work")
    journey.enter("work")
    journey("mmcontrast", "new", "dataset", "study", "../files/study.npz")
    journey("snakemake", "--cores", "1", "--config", "suite=study")
    before = table_of(journey, "study")
    assert "| CoMM |" in before
    journey("mmcontrast", "new", "method", "my_loss", "--experiment", "study")
    journal = journey.folder / "build/study/logs/journal.jsonl"
    ran = len(journal.read_text().splitlines())
    journey("snakemake", "--cores", "1", "--config", "suite=study")
    assert "| my loss |" in table_of(journey, "study")
    words = [json.loads(line)["command"] for line in journal.read_text().splitlines()[ran:]]
    trained = [command[1] for command in words if command[0] in ("pretrain", "finetune", "evaluate")]
    assert set(trained) == {"study/my_loss/shared"}
    said = journey("mmcontrast", "compare", "previous", "--suite", "study")
    assert "my_loss" in said or "my loss" in said

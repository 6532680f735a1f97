"""A set of three times the memory that there is trains, and takes no more of it from step to step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA, ALLOWED = 288, 96


@pytest.mark.slow
def test_a_set_of_three_times_the_memory_trains_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to(ROOT / "src")
    command = [sys.executable, "-m", "tests.training.bounded_memory", str(tmp_path), str(DATA), str(ALLOWED)]
    out = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=900)
    assert out.returncode == 0, out.stderr[-3000:]
    steps, early, most, refused = map(int, out.stdout.split())
    assert steps > 200
    assert refused == 1
    assert most - early < 16

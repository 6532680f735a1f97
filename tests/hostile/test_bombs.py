"""Files that unpack to far more than they are, read in a process that has little memory to spare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import bombs


@pytest.mark.slow
def test_bombs_are_refused_in_little_memory(root: Path, tmp_path: Path) -> None:
    sizes = bombs.write(tmp_path)
    assert all(size < 64 * 1024**2 for size in sizes.values())
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "src")])}
    command = [sys.executable, "-m", "tests.hostile.bombs", str(tmp_path)]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert {name: line["verdict"] for name, line in found.items()} == dict.fromkeys(bombs.BOMBS, "refused")
    grown = {name: line["grown"] for name, line in found.items()}
    assert max(grown.values()) < bombs.SPARE_BYTES
    # it is measured at all: this one is read before it is refused
    assert grown["nested.json"] > 2 * sizes["nested.json"] // 3
    assert not (tmp_path / "out").exists()

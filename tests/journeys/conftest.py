"""What a new user does, command by command, outside the checkout; each journey says what it cost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MOST_COMMANDS = 10


class Journey:
    """Commands in a folder of the user's own, at most MOST_COMMANDS of them.

    Attributes:
        folder: where the next command is run; the user's files lie in `files` beside the workspace.
        environment: of the commands. said: what all of them have printed.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment, self.said, self.commands = folder, environment, "", 0
        (folder / "files").mkdir()
        self._start = self._seconds()

    def __call__(self, *words: str) -> str:
        """Run one command, which has to succeed; what it printed."""
        self.commands += 1
        assert self.commands <= MOST_COMMANDS
        command = [sys.executable, "-m", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            logs = "\n".join(f"{p}:\n{p.read_text()[-2000:]}" for p in sorted(self.folder.rglob("logs/**/*.log")))
            pytest.fail(f"{' '.join(words)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}\n{logs[-6000:]}")
        self.said += done.stdout
        return done.stdout

    def enter(self, name: str) -> None:
        """What `cd` does."""
        self.folder /= name

    @staticmethod
    def _seconds() -> float:
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    def cost(self) -> str:
        """CPU minutes since the start."""
        return f"{self.commands} commands, {(self._seconds() - self._start) / 60:.1f} CPU minutes"


@pytest.fixture
def journey(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any) -> Any:
    """A journey with the package of this checkout."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    made = Journey(tmp_path, environment)
    yield made
    with capsys.disabled():
        print(f"\n{request.node.name}: {made.cost()}")


@pytest.fixture
def table_of() -> Callable[[Journey, str], str]:
    """The table of the experiment, which has a score of every method."""

    def table(made: Journey, name: str) -> str:
        reports = made.folder / f"build/{name}/reports"
        assert (reports / "index.html").exists()
        text = (reports / f"tables/{name}/{name}.md").read_text(encoding="utf-8")
        assert "%" in text
        return text

    return table

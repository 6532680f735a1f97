"""Jobs of one machine take different GPUs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmcontrast.training import gpus

TAKES = "import os; from mmcontrast.training import gpus; gpus.take(1)"
SAYS = "print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); input()"
# as a job of several ranks does
BECOMES = f"import sys; os.execv(sys.executable, [sys.executable, '-c', \"import os; {SAYS}\"])"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Start a job on a machine with two GPUs, and see which it uses."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7a")
    started: list[subprocess.Popen[str]] = []

    def job(then: str) -> tuple[str, subprocess.Popen[str]]:
        command = [sys.executable, "-c", f"{TAKES}\n{then}"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process

    yield job
    for process in started:
        if process.poll() is None:
            process.communicate("\n")


@pytest.mark.parametrize("then", [SAYS, BECOMES])
def test_each_job_takes_a_gpu_of_its_own_until_it_ends(start, then: str) -> None:
    first, process = start(then)
    assert (first, start(then)[0], start(then)[0]) == ("4", "GPU-7a", "4,GPU-7a")
    process.communicate("\n")
    assert process.poll() == 0
    assert start(then)[0] == "4"


@pytest.mark.parametrize(("given", "found"), [("", []), ("-1", []), ("0, 2", ["0", "2"]), (None, ["0", "1"])])
def test_gpus_are_those_that_a_process_may_use(
    given: str | None, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / device).touch()
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert gpus.visible() == found

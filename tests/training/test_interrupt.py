"""Asked to stop, two at once, a disk that takes no more: a clear message, and nothing computed is lost."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
import yaml

from mmcontrast import paths
from mmcontrast.data.prepare import prepare
from mmcontrast.errors import DISK_ERRORS, TrainingError, disk_problem
from mmcontrast.paths import Layout
from mmcontrast.training.cell import run_stage
from mmcontrast.training.distributed import StopRequest, World
from tests import disk
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
CELL = "synthetic/m3col/pretrained"
LAYOUT = Layout("short")
SUITE = {
    "description": "tests",
    "datasets": ["synthetic"],
    "experiments": ["tiny"],
    "seeds": [0],
    "engine": {"backend": "torch"},
    "overrides": {"pretrain": {"epochs": 2}, "finetune": {"epochs": 3, "eval_every": 1, "checkpoint_every": 1}},
}
EXPERIMENT = {
    "title": "t",
    "caption": "t",
    "kind": "table",
    "datasets": ["synthetic"],
    "cells": [{"method": "m3col", "variant": "pretrained"}],
}
# every command that writes, in the order of the pipeline
COMMANDS = {
    "prepare": ["data", "prepare", "synthetic"],
    "pretrain": ["pretrain", CELL],
    "finetune": ["finetune", CELL],
    "evaluate": ["evaluate", CELL],
    "results": ["report", "results"],
    "experiment": ["report", "tiny"],
    "page": ["report", "page"],
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "params/suites/short.yaml").write_text(yaml.safe_dump(SUITE))
    (tmp_path / "params/experiments/tiny.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "mmcontrast", "plan", "--suite", "short"], check=True, capture_output=True)
    return tmp_path


def command_of(name: str) -> list[str]:
    suite = [] if name == "prepare" else ["--suite", "short"]
    return [sys.executable, "-m", "mmcontrast", *COMMANDS[name], *suite]


def call(name: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """A command, with files limited to so many bytes, which stands for a full disk."""
    return subprocess.run(
        command_of(name),
        preexec_fn=None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        text=True,
        capture_output=True,
        check=False,
    )


def files(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes()
        for folder in ("data", "build/short/runs", "build/short/reports")
        for p in (root / folder).rglob("*")
        if p.is_file() and p.name != "cost.json"
    }


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_full_disk_at_every_stage(checkout: Path) -> None:
    """Each stage fails on it by name, leaves nothing half-written, and works when there is room again."""
    for name in COMMANDS:
        before = files(checkout)
        failed = call(name, limit=300)
        assert failed.returncode == 1, (name, failed.stdout + failed.stderr)
        assert "Traceback" not in failed.stderr, (name, failed.stderr)
        assert "File too large" in failed.stderr, (name, failed.stderr)
        assert "run the same command again" in failed.stderr, name
        after = files(checkout)
        assert all(after[f] == content for f, content in before.items()), name
        assert all(len(after[f]) <= 300 and not f.endswith(".part") for f in set(after) - set(before)), name
        worked = call(name)
        assert worked.returncode == 0, (name, worked.stderr)


# a folder that a command writes into, and that does not hold what it reads
WRITTEN = {
    "prepare": "data/prepared/synthetic",
    "pretrain": f"build/short/.state/{CELL}",
    "finetune": f"build/short/runs/{CELL}/finetune",
}


@pytest.mark.slow
def test_a_disk_without_room_and_a_folder_without_permission(checkout: Path) -> None:
    """A real disk this time, and each stage that takes long: each says what to do, and works afterwards."""
    for name, written in WRITTEN.items():
        failed, left = disk.on_a_full_disk(checkout / written, command_of(name))
        assert failed.returncode == 1, (name, failed.stderr)
        assert "Traceback" not in failed.stderr, (name, failed.stderr)
        assert "No space left on device: the disk is full; free some space" in failed.stderr, name
        assert not [f for f in left if f.endswith(".part")], name
        with disk.read_only(checkout / written):
            refused = disk.with_ordinary_rights(command_of(name))
        assert refused.returncode == 1, (name, refused.stderr)
        assert "Traceback" not in refused.stderr, (name, refused.stderr)
        assert "Permission denied: no permission; choose a folder that can be written to" in refused.stderr, name
        assert not list((checkout / written).iterdir()), name
        worked = call(name)
        assert worked.returncode == 0, (name, worked.stderr)


@pytest.mark.parametrize("number", DISK_ERRORS)
def test_what_the_disk_says_is_passed_on(number: int) -> None:
    text = disk_problem(OSError(number, os.strerror(number), "runs/x.parquet"))
    assert text is not None
    assert text.startswith(f"runs/x.parquet: {os.strerror(number)}: ")
    assert disk_problem(OSError(errno.ENOTTY, "no terminal")) is None


def test_a_stage_that_another_process_trains_is_left_alone(checkout: Path) -> None:
    cell = grid_of().cell("synthetic", "m3col", "base")
    synthetic = grid_of().datasets["synthetic"]
    prepare("synthetic", synthetic, checkout / "none", checkout / Path(paths.datasheet("synthetic")).parent)
    lock = LAYOUT.state(cell.name, "finetune") / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write("4711\n")
        handle.flush()
        with pytest.raises(TrainingError, match=r"synthetic/m3col/base: another process is training .*pid 4711.*lock"):
            run_stage(cell, "finetune", LAYOUT)
    assert not Path(LAYOUT.stage(cell.name, "finetune")).exists()


def test_sigterm_sets_a_flag_within_the_context_alone(world: World) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.agreed(world)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.agreed(world)
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_handler_is_installed_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def run() -> None:
        with StopRequest() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_command_stops_cleanly_and_goes_on(checkout: Path, ranks: int) -> None:
    """SIGTERM to the process a cluster sees: torchrun where there are several ranks."""
    suite = {**SUITE, "engine": {"backend": "torch", "ranks": ranks}}
    suite["overrides"] = {"finetune": {"epochs": 4000, "batch_size": 48, "eval_every": 4000, "checkpoint_every": 4000}}
    (checkout / "params/suites/short.yaml").write_text(yaml.safe_dump(suite))
    (checkout / "params/experiments/tiny.yaml").write_text(
        yaml.safe_dump({**EXPERIMENT, "cells": [{"method": "concat"}]})
    )
    assert call("prepare").returncode == 0
    command = [sys.executable, "-m", "mmcontrast", "finetune", "synthetic/concat", "--suite", "short"]
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "epoch" in line:
            break
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode not in (0, -signal.SIGTERM), errors
    assert "stopped at epoch" in errors
    assert "Run the same command again to go on." in errors
    if ranks == 1:
        assert process.returncode == 128 + signal.SIGTERM
        assert "Traceback" not in errors
    state = LAYOUT.state("synthetic/concat/base", "finetune")
    assert list((state / "seed0").glob("checkpoint-*"))


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_command_and_the_next_run_goes_on(checkout: Path) -> None:
    stage = {"epochs": 30, "batch_size": 48, "eval_every": 10, "checkpoint_every": 3}
    suite = {**SUITE, "engine": {"backend": "torch", "ranks": 2}, "overrides": {"finetune": stage}}
    (checkout / "params/suites/short.yaml").write_text(yaml.safe_dump(suite))
    (checkout / "params/experiments/tiny.yaml").write_text(
        yaml.safe_dump({**EXPERIMENT, "cells": [{"method": "mixup"}]})
    )
    assert call("prepare").returncode == 0
    command = [sys.executable, "-m", "mmcontrast", "finetune", "synthetic/mixup", "--suite", "short"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    undisturbed = files(checkout)
    shutil.rmtree(checkout / "build/short/runs")

    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    state = LAYOUT.state("synthetic/mixup/base", "finetune") / "seed0"
    while not list(state.glob("checkpoint-*")):
        assert process.poll() is None
        time.sleep(0.01)
    ranks = [c for c in process.children(recursive=True) if "mmcontrast" in c.cmdline()]
    assert len(ranks) == 2
    ranks[1].kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0, errors
    assert not (checkout / "build/short/runs").exists()
    again = subprocess.run(command, text=True, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "resumed after epoch" in again.stderr
    assert files(checkout) == undisturbed


THREADS_TOLERANCE = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["m3col", "comm"])
def test_the_number_of_threads_changes_little(checkout: Path, method: str) -> None:
    """Sums are taken in another order: the loss of the first epoch is the same to the tolerance.

    What comes after drifts apart, as rounding does in training; with the same number of threads it is the same bits,
    see test_exact_resume.
    """
    synthetic = grid_of().datasets["synthetic"]
    prepare("synthetic", synthetic, checkout / "none", checkout / Path(paths.datasheet("synthetic")).parent)
    cell = grid_of().cell("synthetic", method, "base")
    losses = []
    for threads in (1, 2):
        stages = {s: getattr(cell, s).model_copy(update={"epochs": 1}) for s in cell.stages}
        engine = cell.engine.model_copy(update={"backend": "torch", "threads": threads})
        run_stage(cell.model_copy(update={"seeds": [0], "engine": engine, **stages}), cell.last_stage, LAYOUT)
        history = pl.read_parquet(LAYOUT.stage(cell.name, cell.last_stage, "history.parquet"))
        losses.append(history.filter(name="train/loss")["value"].item())
    assert losses[0] == pytest.approx(losses[1], rel=THREADS_TOLERANCE)

"""A small checkout of this repository, on generated data, in which both engines can be let loose."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[2]

SUITE = {
    "description": "tests",
    "datasets": ["synthetic"],
    "experiments": ["tiny"],
    "seeds": [0, 1],
    "engine": {"backend": "torch"},
    "overrides": {
        "model": {"width": 8, "encoder_hidden": [8], "head_hidden": [8]},
        "pretrain": {"epochs": 2},
        "finetune": {"epochs": 6, "eval_every": 2, "checkpoint_every": 1},
    },
}
EXPERIMENT = {
    "title": "Tiny",
    "caption": "A grid for tests.",
    "figures": ["scores"],
    "kind": "ablation",
    "datasets": ["synthetic"],
    "cells": [
        {"method": "m3col", "label": "M3CoL"},
        {"method": "m3col", "variant": "pretrained", "label": "pretrained"},
        {"method": "concat", "label": "Concatenation"},
    ],
    "reference": {"method": "m3col"},
}


# for tests that need several cells, but no pretraining
M3COL_AND_CONCAT = ("m3col/base", "concat/base")


class Checkout:
    """A copy of the working tree with its own git, DVC, suite and journal."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "XDG_CACHE_HOME": str(root.parent / "xdg"),
            "MPLCONFIGDIR": matplotlib.get_cachedir(),  # to look for fonts anew takes seconds
        }
        # pytest's own variables would reach the jobs
        for name in ("PYTEST_CURRENT_TEST", "PYTHONPATH"):
            self.env.pop(name, None)

    def __call__(self, *command: str, ok: bool = True) -> str:
        """Run a command here; its output. With ok, a failure fails the test."""
        done = subprocess.run(command, cwd=self.root, env=self.env, text=True, capture_output=True, check=False)
        text = done.stdout + done.stderr
        if ok:
            assert done.returncode == 0, f"{' '.join(command)} -> {done.returncode}\n{text}\n{self.logs()}"
        return text

    def logs(self) -> str:
        """The tails of all job logs, for a failing test's message."""
        return "\n".join(f"== {p}\n{p.read_text()[-1500:]}" for p in sorted((self.root / "logs").rglob("*.log")))

    def mmcontrast(self, *words: str, ok: bool = True) -> str:
        """This checkout's own package, as dvc.yaml and the Snakefile run it."""
        path = os.pathsep.join(filter(None, ["src", self.env.get("PYTHONPATH")]))
        return self("env", f"PYTHONPATH={path}", "python", "-m", "mmcontrast", *words, ok=ok)

    def snakemake(self, *more: str, ok: bool = True) -> str:
        soon = ["--latency-wait", "5"]
        return self("snakemake", "--cores", "2", *soon, *more, "reproduce", ok=ok)

    def commit(self, message: str) -> None:
        self("git", "add", "-A")
        self("git", "commit", "-qm", message)

    def executed(self) -> list[str]:
        """Commands of the stages that really ran since the last call."""
        journal = self.root / "logs/journal.jsonl"
        if not journal.exists():
            return []
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        journal.unlink()
        return sorted(" ".join(line["command"]) for line in lines)

    def edit(self, file: str, *path: str | int, value: Any) -> None:
        """Set one key of a YAML file, or one item of a list in it."""
        content = yaml.safe_load((self.root / file).read_text())
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        (self.root / file).write_text(yaml.safe_dump(content, sort_keys=False))

    def keep_cells(self, *names: str) -> None:
        """Leave these cells of the tiny experiment alone, each called method/variant."""
        cells = [c for c in EXPERIMENT["cells"] if f"{c['method']}/{c.get('variant', 'base')}" in names]
        assert len(cells) == len(names)
        fewer = EXPERIMENT | {"cells": cells}
        if len(cells) == 1:  # nothing to be compared with
            fewer = {key: value for key, value in fewer.items() if key != "reference"} | {"kind": "table"}
        (self.root / "params/experiments/tiny.yaml").write_text(yaml.safe_dump(fewer))

    def assert_both_idle(self) -> None:
        said = self.snakemake("-n")
        assert "Nothing to be done" in said, said
        assert "up to date" in self("dvc", "status")

    def kill_when(self, pattern: str, timeout: float = 600) -> None:
        """Start `snakemake`, and SIGKILL it with all its children once a file matches the glob pattern."""
        process = psutil.Popen(
            ["snakemake", "--cores", "2", "reproduce"],
            cwd=self.root,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + timeout
        while not list(self.root.glob(pattern)):
            assert process.poll() is None, f"ended before {pattern!r} was there\n{self.logs()}"
            assert time.monotonic() < end, f"{pattern!r} never came\n{self.logs()}"
            time.sleep(0.01)
        victims = [process, *process.children(recursive=True)]
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        psutil.wait_procs(victims)


def small_checkout(
    root: Path, suite: dict[str, Any] = SUITE, experiment: dict[str, Any] = EXPERIMENT, dataset: str | None = None
) -> Checkout:
    """Copy what git tracks, put the tiny suite in place of the default one, and commit.

    Args:
        dataset: text of a file that takes the place of that of the suite's dataset.
    """
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout.splitlines()
    for file in files:
        if file.startswith(".dvc/") or file == "dvc.lock" or not (ROOT / file).is_file():
            continue
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, root / file)
    (root / "params/suites/default.yaml").write_text(yaml.safe_dump(suite))
    (root / "params/experiments/tiny.yaml").write_text(yaml.safe_dump(experiment))
    if dataset is not None:
        (root / f"params/datasets/{suite['datasets'][0]}.yaml").write_text(dataset)
    # large data go by their time, which DVC changes; here almost every file is too large for a checksum
    settings = root / "profiles/default/config.yaml"
    text = settings.read_text()
    assert "max-checksum-file-size: 1GB" in text
    settings.write_text(text.replace("max-checksum-file-size: 1GB", "max-checksum-file-size: 1KB"))
    checkout = Checkout(root)
    checkout("git", "init", "-q", "-b", "main")
    checkout("dvc", "init", "-q")
    shutil.copytree(ROOT / ".dvc/plots", root / ".dvc/plots")
    shutil.copy2(ROOT / ".dvc/config", root / ".dvc/config")
    checkout("python", "-m", "compileall", "-q", "src")  # once, and not in the first jobs of every copy
    checkout.mmcontrast("plan")
    checkout.commit("small grid")
    return checkout


@contextlib.contextmanager
def made_once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """A folder that all workers of a test run share, and whether it is there already; held by one of them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder / "checkout", (folder / "made").exists()
        (folder / "made").touch()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The small checkout before anything has run."""
    with made_once(tmp_path_factory, "template") as (root, made):
        if not made:
            root.mkdir()
            small_checkout(root)
    return Checkout(root)


@pytest.fixture(scope="session")
def reproduced(template: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The same after one undisturbed `snakemake reproduce`; not to be changed."""
    with made_once(tmp_path_factory, "reproduced") as (root, made):
        if not made:
            shutil.copytree(template.root, root, symlinks=True)
            Checkout(root).snakemake()
    return Checkout(root)


@pytest.fixture(scope="module")
def finished(reproduced: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of it for a module's tests."""
    root = tmp_path_factory.mktemp("finished") / "checkout"
    shutil.copytree(reproduced.root, root, symlinks=True)
    return Checkout(root)


@pytest.fixture
def checkout(template: Checkout, tmp_path: Path) -> Checkout:
    """A fresh copy of the checkout before anything has run."""
    root = tmp_path / "checkout"
    shutil.copytree(template.root, root, symlinks=True)
    return Checkout(root)

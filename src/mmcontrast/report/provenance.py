"""Where the numbers come from: versions, data checksums, cells, seeds, and what they cost."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmcontrast import __version__
from mmcontrast.config import CellConfig
from mmcontrast.methods.registry import training_modules
from mmcontrast.report.evidence import Evidence
from mmcontrast.sources import digests

PACKAGES = (
    "torch",
    "deepspeed",
    "numpy",
    "scipy",
    "scikit-learn",
    "polars",
    "pyarrow",
    "matplotlib",
    "pydantic",
    "snakemake",
    "dvc",
)


@dataclass(frozen=True)
class CellRecord:
    """One cell: where it is used, what it was trained on, and what it cost.

    Attributes:
        experiments: files in params/experiments/.
        checksum, params, code: sha256 of its raw data, of its parameters and of the code that it depends on.
        files: where its parameters are. seconds, memory: of all stages together, and the largest of them, in bytes.
    """

    name: str
    experiments: list[str]
    seeds: list[int]
    checksum: str
    params: str
    code: str
    files: list[str]
    seconds: float
    training_seconds: float
    memory: int
    parameters: int
    device: str


def code_version(root: Path) -> str:
    """The package's version and, in a git checkout, the commit; `changed` where files differ from it."""
    if shutil.which("git") is None:
        return __version__
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty= (changed)"]
    described = subprocess.run(command, cwd=root, text=True, capture_output=True, check=False)
    return __version__ + (f", commit {described.stdout.strip()}" if described.returncode == 0 else "")


def digest_of_code(cell: CellConfig) -> str:
    """sha256 over the source files that a cell's training and scoring depend on."""
    code = digests(*training_modules(cell), "mmcontrast.evaluation.evaluate")
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()


def digest_of_params(cell: CellConfig) -> str:
    """sha256 of everything in params/ that decides a cell, as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(cell.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def environment() -> dict[str, str]:
    """Python, platform and the packages that decide a result, with versions."""
    out = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            out[package] = "not installed"
    return out


def raw_checksum(sheet: dict[str, Any]) -> str:
    """sha256 over the lines 'sha256  name' of a dataset's raw files, sorted by name; empty for generated data."""
    files = sheet.get("files", {})
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest() if files else ""


def cell_records(evidence: Evidence) -> list[CellRecord]:
    """Every cell of the selection, in the order of the experiments."""
    grid = evidence.grid
    used: dict[str, list[str]] = {}
    for experiment in grid.active_experiments:
        for dataset, ref in grid.experiment_cells(experiment):
            used.setdefault(f"{dataset}/{ref.method}/{ref.variant}", []).append(experiment)
    records = []
    for name, cell in grid.cells.items():
        costs = [evidence.cost(cell, stage) for stage in cell.stages]
        records.append(
            CellRecord(
                name=name,
                experiments=used[name],
                seeds=cell.seeds,
                checksum=raw_checksum(evidence.datasheets[cell.dataset]),
                params=digest_of_params(cell),
                code=digest_of_code(cell),
                files=[evidence.layout.cell_plan(name, stage) for stage in cell.stages],
                seconds=sum(c.seconds for c in costs),
                training_seconds=sum(c.training_seconds for c in costs),
                memory=max(c.peak_memory_bytes for c in costs),
                parameters=costs[-1].parameters,
                device=", ".join(dict.fromkeys(f"{c.ranks} x {c.device}" for c in costs)),
            )
        )
    return records


def anchor(cell: str) -> str:
    """A cell's name as an HTML id."""
    return "cell-" + cell.replace("/", "-")

"""Where the numbers come from: versions, data checksums, cells, seeds and costs; and a card for each exported model."""

import hashlib
import json
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from mmcontrast import __version__
from mmcontrast.config import CellConfig, CellRef, Modality
from mmcontrast.config.metrics import measure
from mmcontrast.data.files import write_text
from mmcontrast.methods.registry import training_modules
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.tables.formats import Value, text_of
from mmcontrast.report.text import wording
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
TRAINING = ("objective", "model", "pretrain", "finetune", "selection", "recipe", "engine")
# instances of the example, and steps of a sequence whose length is free
EXAMPLE_ROWS, EXAMPLE_STEPS = 2, 8


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


def cell_records(evidence: Evidence) -> list[dict[str, Any]]:
    """What every cell was trained on and what it cost, in the order of the experiments, where it is used.

    experiments: files in params/experiments/; checksum, params, code: sha256 of its raw data, of its parameters and of
    the code that it depends on; files: where its parameters are; seconds: of all stages; memory: their largest, in
    bytes.
    """
    grid = evidence.grid
    used: dict[str, list[str]] = {}
    for experiment in grid.active_experiments:
        for dataset, ref in grid.experiment_cells(experiment):
            used.setdefault(f"{dataset}/{ref.method}/{ref.variant}", []).append(experiment)
    records = []
    for name, cell in grid.cells.items():
        costs = [evidence.cost(cell, stage) for stage in cell.stages]
        record: dict[str, Any] = {
            "name": name,
            "experiments": used[name],
            "seeds": cell.seeds,
            "checksum": raw_checksum(evidence.datasheets[cell.dataset]),
            "params": digest_of_params(cell),
            "code": digest_of_code(cell),
            "files": [evidence.layout.cell_plan(name, stage) for stage in cell.stages],
            "seconds": sum(c.seconds for c in costs),
            "training_seconds": sum(c.training_seconds for c in costs),
            "memory": max(c.peak_memory_bytes for c in costs),
            "parameters": costs[-1].parameters,
            "device": ", ".join(dict.fromkeys(f"{c.ranks} x {c.device}" for c in costs)),
        }
        records.append(record)
    return records


def anchor(cell: str) -> str:
    """A cell's name as an HTML id."""
    return "cell-" + cell.replace("/", "-")


def write_cards(evidence: Evidence, records: list[dict[str, Any]], code: str) -> None:
    """Write the card of every cell (`code`: the code's version), and remove those of cells not in the grid any more."""
    grid, layout, written = evidence.grid, evidence.layout, set()
    template = wording.templates().get_template("card.md")
    for record in records:
        cell = grid.cells[record["name"]]
        ref = CellRef(method=cell.method, variant=cell.variant)
        of = Scope(evidence, record["experiments"][0], cell.dataset)  # in every other it has the same scores
        metrics, protocols = wording.reported_metrics(of.data), set(of.cell_summary(ref)["protocol"])
        text = template.render(
            of=of,
            ref=ref,
            cell=cell,
            record=record,
            metrics=metrics,
            # without a `selected` score, the last epoch's comes first
            protocols=[p for p in wording.PROTOCOL_SHORT if p in protocols],
            first=measure(metrics[0]),
            files={s: layout.stage(cell.name, cell.last_stage, f"models/seed{s}.safetensors") for s in cell.seeds},
            in_percent=all(measure(metric).percent for metric in metrics),
            shown=lambda found, metric: text_of(Value.of(found, measure(metric)), "score"),
            training=yaml.safe_dump(cell.model_dump(mode="json", include=set(TRAINING)), sort_keys=False).strip(),
            inputs={name: _example(spec) for name, spec in cell.modalities.items()},
            code=code,
            wording=wording,
        )
        path = grid.root / layout.card(record["name"])
        write_text(path, text)
        written.add(path)
    for old in set((grid.root / layout.report("models")).rglob("*.md")) - written:
        old.unlink()


def _example(spec: Modality) -> dict[str, str]:
    """Code that makes raw values of a modality, and what a value is, in words."""
    limit, width = (spec.shape[0], spec.shape[-1]) if spec.shape else (0, 0)
    item, words = {
        "vector": (f"np.zeros({width})", f"{width} numbers, NaN where one is missing"),
        "image": (f"np.zeros({tuple(spec.shape)}, np.uint8)", f"pixels {tuple(spec.shape)}, a file's bytes, or a path"),
        "sequence": (f"np.zeros({(min(limit, EXAMPLE_STEPS), width)})", f"up to {limit} steps of {width} numbers"),
        "text": ('"a text"', "a string"),
    }[spec.kind]
    return {
        "code": f"{EXAMPLE_ROWS} * [{f'[{item}]' if spec.multifold else item}]",
        "words": ("a list of these: " if spec.multifold else "") + words + ("; or None" if spec.optional else ""),
    }

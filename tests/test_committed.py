"""The committed metrics and lock are of the published run; what pages show is tested in tests/docs."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mmcontrast.report.results import CELL, headline_metrics, summarise

ROOT = Path(__file__).parents[1]


def committed(file: str) -> bytes:
    """As git has it: a run leaves other results in the tree, and that is no fault."""
    command = ["git", "show", f"HEAD:./{file}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"git has no {file} ({done.stderr.decode().strip()})")
    return done.stdout


def test_the_committed_metrics_and_lock_are_of_the_published_run() -> None:
    stages = yaml.load(committed("dvc.lock"), Loader=yaml.CSafeLoader)["stages"]
    outs = {out["path"]: out["md5"] for out in stages["results"]["outs"]}
    for file in ("docs/results/default/results.parquet", "reports/metrics.json"):
        found = hashlib.md5(committed(file)).hexdigest()
        assert found == outs[f"reports/{Path(file).name}"], f"{file}: not of dvc.lock's run"


def test_the_committed_metrics_are_of_the_committed_results() -> None:
    """Of intervals, whose definition is that of the code which made them, the means between their ends."""

    def means(found: Any) -> Any:
        return found["mean"] if "mean" in found else {key: means(of) for key, of in found.items()}

    results = pl.read_parquet(io.BytesIO(committed("docs/results/default/results.parquet")))
    selected = summarise(results).filter(protocol="selected")
    summary = selected.unique([*CELL, "metric"], keep="first", maintain_order=True)
    assert means(headline_metrics(summary)) == means(json.loads(committed("reports/metrics.json")))

"""The committed metrics and lock are of the published run; what pages show is tested in tests/docs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mmcontrast.evaluation.columns import INTERVALS_SCHEMA
from mmcontrast.paths import Layout
from mmcontrast.report.evidence import Evidence
from mmcontrast.report.experiment import scored_blocks
from mmcontrast.report.results import CELL, headline_metrics, summarise
from mmcontrast.report.tables.formats import Table, to_csv
from mmcontrast.report.tables.information import information_blocks
from mmcontrast.report.tables.matrix import build_matrix, matrix_blocks
from tests.grids import grid_of

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


def rows(text: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Of a table as CSV, those that can be told apart, by dataset, metric and label."""
    found = list(csv.DictReader(io.StringIO(text)))
    keys = Counter((row["dataset"], row["metric"], row["row"]) for row in found)
    return {key: row for row in found if keys[key := (row["dataset"], row["metric"], row["row"])] == 1}


@cache
def committed_evidence() -> Evidence:
    """What the committed results alone tell, without what needs runs: instances, costs."""
    results = pl.read_parquet(io.BytesIO(committed("docs/results/default/results.parquet")))
    there = set(map("/".join, results.select(CELL).unique().iter_rows()))
    lost = {name: "no result: it is newer than the published run" for name in grid_of().cells if name not in there}
    intervals = pl.DataFrame(schema=dict.fromkeys(CELL, pl.String) | INTERVALS_SCHEMA)
    return Evidence(grid_of().without(lost), Layout(), results, intervals)


@pytest.mark.parametrize("experiment", grid_of().active_experiments)
def test_the_committed_tables_are_those_of_the_committed_results(experiment: str) -> None:
    """Built again by this code: scores, gains, differences, and intervals over seeds of rows that have their cells.

    What holds across rows, such as ranks and corrected p values, is left out.
    """
    evidence = committed_evidence()
    published = rows(committed(f"docs/results/default/{experiment}.csv").decode())
    if evidence.grid.experiments[experiment].kind == "matrix":
        blocks = [b for b in matrix_blocks(build_matrix(evidence, experiment)) if b.keys["metric"] != "across"]
    else:
        blocks = information_blocks(evidence, experiment) + scored_blocks(evidence, experiment)
    built = rows(to_csv(Table(experiment, "", "", blocks, [], [])))
    compared = 0
    for key in built.keys() & published.keys():
        for name in (built[key].keys() & published[key].keys()) - {"dataset", "metric", "row", "cell"}:
            ours, theirs = built[key][name], published[key][name]
            if ours and theirs:
                assert float(ours) == pytest.approx(float(theirs), abs=2e-4), (*key, name)
                compared += 1
    assert compared >= 8


def test_the_committed_metrics_are_of_the_committed_results() -> None:
    """Of intervals, whose definition is that of the code which made them, the means between their ends."""

    def means(found: Any) -> Any:
        return found["mean"] if "mean" in found else {key: means(of) for key, of in found.items()}

    results = pl.read_parquet(io.BytesIO(committed("docs/results/default/results.parquet")))
    selected = summarise(results).filter(protocol="selected")
    summary = selected.unique([*CELL, "metric"], keep="first", maintain_order=True)
    assert means(headline_metrics(summary)) == means(json.loads(committed("reports/metrics.json")))

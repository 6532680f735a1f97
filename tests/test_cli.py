"""The command line: plain words on a fault, no traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mmcontrast.cli import main
from mmcontrast.config import Grid
from mmcontrast.paths import Layout
from mmcontrast.pipeline.plan import write_plan
from tests.fresh import loaded

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["finetune", "tcga_brca/m3kol"], ["no method 'm3kol'", "'m3col'"]),
        (["finetune", "tcga_brca"], ["dataset/method"]),
        (["finetune", "tcga_brca/m3col/m3co"], ["no variant 'm3co'", "m3co_only"]),
        (["pretrain", "tcga_brca/concat"], ["no stage 'pretrain'"]),
        (["finetune", "synthetic/comm"], ["no stage 'finetune'"]),
        (["evaluate", "synthetic/comm"], ["no embeddings", "mmcontrast pretrain synthetic/comm/base"]),
        (["evaluate", "synthetic/m3col/pretrained"], ["no predictions", "mmcontrast finetune synthetic/m3col/"]),
        (["check", "--suite", "defualt"], ["defualt.yaml", "'default'"]),
        (["check", "--datasets", "rosmop"], ["'rosmap'"]),
        (["data", "fetch", "rosmop"], ["'rosmap'"]),
    ],
)
def test_a_fault_is_one_message(capsys: pytest.CaptureFixture[str], words: list[str], expected: list[str]) -> None:
    assert main(words) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert "Traceback" not in text
    for word in expected:
        assert word in text


def test_outside_of_a_checkout_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path}: not in a checkout" in told
    assert "mmcontrast init DIR" in told
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_the_report_that_is_not_planned_is_answered_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    write_plan(Grid(tmp_path), Layout())
    monkeypatch.chdir(tmp_path)
    assert main(["report", "m3col_omic"]) == 1
    assert "report m3col_omic: no such part in this suite; did you mean 'm3col_omics'" in capsys.readouterr().err


def test_a_shell_completes_commands_anywhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["completion", "bash"]) == 0
    script = (
        capsys.readouterr().out + "\nCOMP_WORDS=(mmcontrast comp) COMP_CWORD=1; _shtab_mmcontrast; echo ${COMPREPLY[*]}"
    )
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["compare", "completion"]


def test_every_argument_of_the_table_is_used() -> None:
    table = yaml.safe_load((ROOT / "src/mmcontrast/commands.yaml").read_text(encoding="utf-8"))
    used = {name for command in table["commands"].values() for name in command.get("shared", ())}
    assert used == table["arguments"].keys()


def test_check_counts_the_cells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--suite", "smoke"]) == 0
    assert "cells in 2 experiments" in capsys.readouterr().out


def test_data_status_lists_every_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "status"]) == 0
    shown = capsys.readouterr().out
    for path in (ROOT / "params/datasets").glob("*.yaml"):
        assert path.stem in shown
    assert main(["data", "status", "nyuv2", "mimic"]) == 0
    shown = capsys.readouterr().out
    assert "nyuv2: NYU Depth v2" in shown
    assert "file: data/raw/mimic/im.pk: to be put there by you" in shown
    assert main(["data", "status", "mimics"]) == 1
    assert "no dataset 'mimics'; did you mean 'mimic'" in capsys.readouterr().err


def answer(capsys: pytest.CaptureFixture[str], words: list[str], status: int) -> dict[str, Any]:
    """What a command prints for programs, which is of one shape whatever happened."""
    assert main(words) == status
    given: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert list(given) == ["command", "error", "counts", "rows"]
    assert given["command"] == words
    assert (given["error"] is None) == (status == 0)
    return given


def test_answers_for_programs_have_one_shape(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    given = answer(capsys, ["check", "--suite", "smoke", "--json"], 0)
    assert given["counts"] == {"cells": len(given["rows"]), "experiments": 2}
    assert {"cell": "tcga_brca/concat/base", "seeds": [0, 1]} in given["rows"]
    given = answer(capsys, ["check", "--suite", "smoek", "--json"], 1)
    assert (given["counts"], given["rows"]) == ({}, [])
    assert "did you mean 'smoke'" in given["error"]
    given = answer(capsys, ["data", "status", "--json"], 0)
    assert given["counts"] == {"datasets": len(given["rows"]), "ready": 0}
    assert {row["next_step"] for row in given["rows"] if row["name"] == "rosmap"} == {"mmcontrast data fetch rosmap"}
    given = answer(capsys, ["verify", "--suite", "smoke", "--json"], 1)
    assert given["error"].startswith("nothing of this suite is here; run `snakemake ")
    assert {row["state"] for row in given["rows"]} == {"missing"}
    given = answer(capsys, ["compare", "previous", "--suite", "smoke", "--json"], 1)
    assert "no results of this suite are kept" in given["error"]
    for folder, value in ((".state/results", 0.5), ("reports", 0.75)):
        path = tmp_path / "build/smoke" / folder / ("a.parquet" if folder.startswith(".") else "results.parquet")
        path.parent.mkdir(parents=True)
        row = {"experiment": "e", "dataset": "d", "method": "m", "variant": "base", "seed": 0, "protocol": "last"}
        pl.DataFrame([row | {"split": "test", "metric": "acc", "value": value}]).write_parquet(path)
    (tmp_path / "build/smoke/.state/results/index.json").write_text('[{"sha256": "a", "commit": null, "time": "now"}]')
    given = answer(capsys, ["compare", "previous", "--suite", "smoke", "--json"], 0)
    assert given["counts"] == {"moved": 1, "unmoved": 0}
    (moved,) = given["rows"]
    assert (moved["state"], moved["cell"], moved["difference"]) == ("moved", "d/m/base", 0.25)
    assert (moved["low"], moved["p"], moved["seeds"]) == (None, None, 1)


def test_the_workflow_starts_without_torch() -> None:
    """Importing torch costs seconds; Snakemake reads all of params/ at each start and in each job it schedules."""
    code = (
        "import mmcontrast.pipeline.workflow as s; s.selection(); import mmcontrast.report.outputs, mmcontrast.sources"
    )
    assert not {"torch", "polars", "pandas", "matplotlib"} & loaded(f"{code}, mmcontrast.data.outside")

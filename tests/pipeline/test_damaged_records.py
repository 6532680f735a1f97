"""What runs keep for themselves - plans, marks, times, the journal - may be cut short or of any bytes: no run fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmcontrast.cli import main
from mmcontrast.config import Grid
from mmcontrast.data.files import read_json, sha256_of, write_json
from mmcontrast.paths import DVC_MARK, Layout, raw_dir, raw_manifest
from mmcontrast.pipeline import verify
from mmcontrast.pipeline.compare import keep_results, kept_results
from mmcontrast.pipeline.plan import PlanError, carried_out, outdated, put, refuse_another_plan
from mmcontrast.pipeline.verify import Finding, examine, judged, repair, told
from mmcontrast.pipeline.workflow import TIMES, make_good, refuse_unknown_profile, run_module
from mmcontrast.progress import Costs, untrained
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
DAMAGES = {
    "cut short": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "of zeros": lambda content: bytes(len(content)),
    "no text": lambda content: b"\xff" + content[1:],
    "a list": lambda content: b"[3]",
    "a number": lambda content: b"3",
    "another key": lambda content: content.replace(b"a", b"e"),
}
damaged = pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))


def spoil(file: Path, damage: Any) -> None:
    file.write_bytes(damage(file.read_bytes()))


@damaged
def test_a_damaged_plan_is_planned_again(tmp_path: Path, damage: Any) -> None:
    path, text = tmp_path / "plan/cells/a/b/base/finetune.json", '{"cell": {"name": "a"}}\n'
    assert put(path, text)
    assert not put(path, text)
    spoil(path, damage)
    assert outdated(tmp_path, {"plan/cells/a/b/base/finetune.json": text})
    assert put(path, text)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("plan", "mmcontrast plan"),
        ("build/smoke/plan", "mmcontrast plan --suite smoke"),
        ("build/smoke+rosmap+tcga_brca/plan", "mmcontrast plan --suite smoke --datasets rosmap tcga_brca"),
        ("build/default+rosmap/.state/plan", "mmcontrast plan --datasets rosmap"),
    ],
)
def test_the_advice_plans_the_suite_that_it_is_of(tmp_path: Path, folder: str, command: str) -> None:
    plan = tmp_path / folder / "cells/a/b/base/finetune.json"
    with pytest.raises(PlanError, match=f"run `{command}` first"):
        carried_out(plan)
    plan.parent.mkdir(parents=True)
    plan.write_bytes(b"\xff")
    with pytest.raises(PlanError, match=f"run `{command}` again"):
        carried_out(plan)


@damaged
def test_a_damaged_mark_of_what_dvc_has_is_taken_away(tmp_path: Path, damage: Any) -> None:
    mark = tmp_path / DVC_MARK
    write_json(mark, {"plan": "a"})
    make_good(tmp_path, "a")
    assert mark.exists()
    spoil(mark, damage)
    make_good(tmp_path, "a")
    assert not mark.exists()


@damaged
def test_damaged_times_are_let_go(tmp_path: Path, damage: Any) -> None:
    data, times = tmp_path / "data", tmp_path / TIMES
    data.write_text("x")
    write_json(times, {"data": 10**9}, seal=True)
    make_good(tmp_path, "a")
    write_json(times, {"data": 2 * 10**9}, seal=True)
    spoil(times, damage)
    make_good(tmp_path, "a")
    assert data.stat().st_mtime_ns == 10**9
    assert not times.exists()


@damaged
def test_a_damaged_list_of_kept_results_keeps_no_report_from_being_written(tmp_path: Path, damage: Any) -> None:
    layout = Layout()
    results = tmp_path / layout.report("results.parquet")
    results.parent.mkdir()
    results.write_text("results")
    keep_results(layout, tmp_path)
    assert len(kept_results(layout, tmp_path)) == 1
    spoil(tmp_path / layout.kept / "index.json", damage)
    keep_results(layout, tmp_path)
    assert len(kept_results(layout, tmp_path)) == 1


@damaged
def test_a_damaged_line_of_the_journal_says_nothing(tmp_path: Path, damage: Any) -> None:
    journal = tmp_path / "journal.jsonl"
    lines = [{"command": ["finetune", name], "seconds": 4.0} for name in ("a/b/base", "c/d/base")]
    journal.write_text("\n".join(map(json.dumps, lines)))
    assert Costs(journal).expected(("finetune", "a/b/base")) == 4.0
    first, second = journal.read_bytes().splitlines()
    journal.write_bytes(damage(first) + b"\n" + second)
    assert Costs(journal).seconds[("finetune", "c/d/base")] == 4.0


@damaged
def test_a_damaged_cost_is_a_stage_that_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    """It keeps no other from being trained; and scoring it names the command that mends it."""
    monkeypatch.chdir(tmp_path)
    layout, name = Layout("smoke"), "a/b/base"
    plan, cost = Path(layout.cell_plan(name, "finetune")), Path(layout.stage(name, "finetune", "cost.json"))
    scored = cost.with_name("predictions.parquet")
    write_json(plan, {})
    with pytest.raises(PlanError, match="no predictions; run `mmcontrast finetune a/b/base --suite smoke` first"):
        refuse_another_plan(name, scored, layout, plan.parent)
    scored.parent.mkdir(parents=True)
    scored.touch()
    with pytest.raises(PlanError, match=r"cost\.json: not there.*; run `mmcontrast finetune a/b/base --suite smoke`"):
        refuse_another_plan(name, scored, layout, plan.parent)
    write_json(cost, {"plan": sha256_of(plan)}, seal=True)
    refuse_another_plan(name, scored, layout, plan.parent)
    with pytest.raises(PlanError, match=r"elsewhere/finetune\.json: no such plan; run `mmcontrast plan` first"):
        refuse_another_plan(name, scored, layout, Path("elsewhere"))
    assert untrained(layout) == []
    spoil(cost, damage)
    assert untrained(layout) == [("finetune", name)]
    with pytest.raises(PlanError, match="run `mmcontrast finetune a/b/base --suite smoke` first"):
        refuse_another_plan(name, scored, layout, plan.parent)


def test_what_another_plan_has_trained_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--suite", "smoke"]) == 0
    layout = Layout("smoke")
    name, cell = next(iter(Grid(suite="smoke").cells.items()))
    write_json(Path(layout.stage(name, cell.last_stage, "cost.json")), {"plan": "another"}, seal=True)
    Path(layout.scored(name, cell.last_stage, cell.scored_by)).touch()
    assert main(["report", "results", "--suite", "smoke"]) == 1
    told = capsys.readouterr().err
    assert "trained by an earlier version of build/smoke/plan/cells/" in told
    assert f"run `mmcontrast {cell.last_stage} {name} --suite smoke` first" in told


@pytest.mark.parametrize("given", [[], ["--workflow-profile", "none"], ["-n", "--workflow-profile=slurm", "page"]])
def test_a_profile_that_is_there_is_taken(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "profiles/slurm").mkdir(parents=True)
    refuse_unknown_profile(given, tmp_path)


def test_a_profile_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "profiles/slurm").mkdir(parents=True)
    (tmp_path / "profiles/slurm/config.yaml").touch()
    with pytest.raises(PlanError, match=r"--workflow-profile profiles/slrum: no such folder.*did you mean 'slurm'"):
        refuse_unknown_profile(["--workflow-profile", "profiles/slrum", "reproduce"], tmp_path)


def test_repair_leaves_what_a_user_has_put_there_by_hand(tmp_path: Path) -> None:
    """Of raw data only the manifest goes: fetching writes the rest anew, and nothing can bring back a user's file."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    grid = Grid(tmp_path, "smoke")
    name = next(n for cell in grid.cells.values() for n, _ in cell.data if grid.datasets[n].sources)
    mine, manifest = tmp_path / raw_dir(name) / "mine.csv", tmp_path / raw_manifest(name)
    mine.parent.mkdir(parents=True)
    mine.write_text("1,2\n")
    manifest.write_text("{}")
    found = [f for f in told(examine(grid, Layout("smoke")), lambda line: None) if f.kind == "raw data"]
    assert [(f.name, f.state) for f in found] == [(raw_dir(name), "wrong")]
    repair(found, tmp_path, lambda line: None)
    assert mine.exists()
    assert not manifest.exists()


@pytest.mark.parametrize(
    ("spoiled", "goes"),
    [
        (
            "runs/tcga_brca/concat/base/finetune",
            ["metrics.parquet", "curves.parquet", "intervals.parquet", "index.html"],
        ),
        ("reports/evidence/m3col_omics.parquet", ["index.html"]),
        # `runs` in its path makes nothing a cell
        ("runs/notes", []),
        ("data/prepared/tcga_brca", []),
    ],
)
def test_a_finding_names_what_is_made_from_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, spoiled: str, goes: list[str]
) -> None:
    wrong = Finding("any", "any", "wrong", spoiled=[f"build/smoke/{spoiled}"])
    monkeypatch.setattr(verify, "_examined", lambda *_: iter([wrong]))
    (found,) = examine(grid_of("smoke"), Layout("smoke"))
    first, *others = found.spoiled
    assert first == f"build/smoke/{spoiled}"
    assert [Path(path).name for path in others] == goes


def test_a_plan_that_cannot_be_made_does_not_end_the_examination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory", "encoder/config.json")

    monkeypatch.setattr(verify, "planned", fails)
    found = list(examine(grid_of("smoke"), Layout("smoke")))
    assert found[0] == Finding("plan", "build/smoke/plan", "wrong", found[0].reason)
    assert "encoder/config.json" in found[0].reason
    assert {f.kind for f in found} >= {"prepared data", "models", "scores"}


def test_what_cannot_even_be_looked_at_is_a_finding(tmp_path: Path) -> None:
    found = judged("models", tmp_path, "x" * 300, read_json)
    assert (found.state, "File name too long" in found.reason) == ("wrong", True)


@pytest.mark.parametrize("stage", ["fetch", "fetch-private"])
def test_dvc_leaves_what_a_user_has_put_there_by_hand(tmp_path: Path, stage: str) -> None:
    """Fetching has its folder as an output, which DVC would empty before it runs the command."""
    given = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["do"]
    outs = yaml.safe_load(json.dumps(given["outs"]).replace("${item}", "own"))
    fetch = {"cmd": "cat data/raw/own/mine.csv > data/raw/own/manifest.json", "outs": outs}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"fetch": fetch}}))
    mine = tmp_path / "data/raw/own/mine.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("1,2\n")
    for words in (["init", "--no-scm", "-q"], ["repro", "-q"]):
        done = run_module("dvc", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert mine.read_text() == mine.with_name("manifest.json").read_text() == "1,2\n"

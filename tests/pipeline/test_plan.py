"""The plan of a suite: what is in it, when it changes, and what a job does with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmcontrast.config import CellConfig, Grid
from mmcontrast.data.files import read_json
from mmcontrast.paths import Layout
from mmcontrast.pipeline.plan import Plan, PlanError, outdated, planned, planned_cell, planned_dataset, write_plan
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
ALPHA = ("params/methods/m3col.yaml", "objective", "alpha")


def edit(root: Path, file: str, *path: str, value: Any) -> None:
    content = yaml.safe_load((root / file).read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (root / file).write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """params/ of this checkout, where its default suite is planned."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    write_plan(Grid(tmp_path), Layout())
    return tmp_path


def changed(root: Path) -> list[str]:
    return sorted(outdated(root, planned(Grid(root), Layout())[1]))


def test_grid_yaml_is_the_one_in_git() -> None:
    plan, wanted = planned(grid_of(), Layout())
    assert (ROOT / "grid.yaml").read_text() == wanted["grid.yaml"]
    assert yaml.safe_load(wanted["grid.yaml"])["evaluate"].keys() == plan.cells.keys()


def test_a_plan_that_would_not_change_is_not_touched(root: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.json")}
    assert before
    plan, files = write_plan(Grid(root), Layout())
    assert files == []
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*.json")} == before
    assert Plan.read(root, Layout()) == plan


def test_every_stage_reads_what_the_grid_says(root: Path) -> None:
    """Values survive JSON, their order too; a pretraining that is followed knows nothing of what comes after it."""
    grid = Grid(root)
    for name, cell in grid.cells.items():
        for stage in (*cell.stages, "evaluate"):
            found = planned_cell(root / Layout().cell_plan(name, stage))
            assert found == cell.of_stage(stage)
            assert list(found.modalities) == list(cell.modalities)
    for name, dataset in grid.datasets.items():
        found_dataset = planned_dataset(root / f"plan/data/{name}.prepare.json")
        assert found_dataset.model_dump(exclude={"metrics"}) == dataset.model_dump(exclude={"metrics"})


def test_pretraining_depends_on_nothing_that_comes_after_it() -> None:
    cell = grid_of("smoke").cells["tcga_brca/m3col/pretrained"]
    before = cell.of_stage("pretrain")
    assert before.last_stage == "finetune"
    later = cell.model_copy(update={"finetune": cell.pretrain, "metrics": ["f1_macro"]})
    assert later.of_stage("pretrain") == before
    assert later.of_stage("finetune") != cell


def test_a_parameter_concerns_the_cells_that_have_it_and_their_reports(root: Path) -> None:
    """Both engines watch plans: alpha of M3CoL is stale in as many stages for one as for the other."""
    edit(root, *ALPHA, value=0.3)
    stale = changed(root)
    trained = [f for f in stale if f.endswith(("pretrain.json", "finetune.json"))]
    own = [
        name
        for name, cell in Grid(root).cells.items()
        if cell.implementation == "m3col" and cell.objective["alpha"] == 0.3
    ]
    assert trained == sorted(Layout().cell_plan(name, "finetune") for name in own)
    assert len(own) == 13
    of_reports = {Path(f).stem for f in stale if f.startswith("plan/report/")} - {"page"}
    concerned = {e for e in Grid(root).active_experiments if set(own) & cells_of(Grid(root), e)}
    assert of_reports == concerned


def cells_of(grid: Grid, experiment: str) -> set[str]:
    return {f"{d}/{ref.method}/{ref.variant}" for d, ref in grid.experiment_cells(experiment)}


def test_the_old_value_back_is_the_old_plan(root: Path) -> None:
    text = (root / ALPHA[0]).read_text()
    edit(root, *ALPHA, value=0.3)
    write_plan(Grid(root), Layout())
    (root / ALPHA[0]).write_text(text)
    _, files = write_plan(Grid(root), Layout())
    assert files
    assert changed(root) == []


def test_plans_of_what_there_is_no_longer_are_removed(root: Path) -> None:
    edit(root, "params/suites/default.yaml", "experiments", value=["m3col_omics"])
    _, files = write_plan(Grid(root), Layout())
    assert "plan/cells/weak_modality/cmc/base/pretrain.json" in files
    assert not list((root / "plan/cells/weak_modality").rglob("*.json"))
    assert (root / "plan/data/weak_modality.prepare.json").exists()


def test_another_suite_leaves_the_default_one_alone(root: Path) -> None:
    write_plan(Grid(root, "smoke"), Layout("smoke"))
    assert changed(root) == []
    assert Plan.read(root, Layout("smoke")).cells.keys() == Grid(root, "smoke").cells.keys()


def test_other_code_than_was_planned_is_refused(root: Path) -> None:
    path = root / Layout().cell_plan("tcga_brca/m3col/base", "finetune")
    content = read_json(path)
    assert isinstance(planned_cell(path), CellConfig)
    content["code"]["mmcontrast/training/loop.py"] = "0" * 16
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError, match=r"another version of mmcontrast/training/loop.py than .*src.*mmcontrast plan"):
        planned_cell(path)


def test_what_was_not_planned_is_refused(root: Path) -> None:
    with pytest.raises(PlanError, match="no such plan; run `mmcontrast plan --suite rosmap` first"):
        planned_cell(root / Layout("rosmap").cell_plan("rosmap/m3col/base", "finetune"))

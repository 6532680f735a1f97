"""Features of another dataset are a stage of both engines, behind that dataset's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

from mmcontrast import paths
from mmcontrast.config import Dataset, Grid
from mmcontrast.pipeline.plan import planned

ROOT = Path(__file__).parents[2]
FEATURES: dict[str, Any] = {
    "features_of": "synthetic",
    "sources": [],
    "generate": {},
    "prepare": {},
    "encoders": {"mrna": {"hub": "owner/name", "revision": "0" * 40, "tuning": "frozen"}},
}


def grid_with_features(root: Path, **values: Any) -> Grid:
    """The smoke suite, one of whose datasets is features of another."""
    grid = Grid(root, suite="smoke")
    base = grid.datasets["synthetic"].model_dump(mode="json")
    grid.datasets["vectors"] = Dataset.model_validate(base | FEATURES | values)
    name, cell = next(iter(grid.cells.items()))
    grid.cells[name] = cell.model_copy(update={"dataset": "vectors"})
    return grid


def test_dvc_has_a_stage_that_depends_on_the_base_and_on_what_is_fetched(tmp_path: Path) -> None:
    source = {"kind": "url", "url": "https://example.org/a.zip", "sha256": "0" * 64, "bytes": 1}
    plan, _ = planned(grid_with_features(ROOT, sources=[source]), paths.Layout("tests"))
    assert plan.features == {"vectors": "synthetic"}
    assert "synthetic" in plan.generated
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    groups = yaml.safe_load(plan.grid_yaml())
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(groups))
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    with Repo(str(tmp_path)) as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
    stage = stages["features@vectors"]
    base = [f"data/prepared/synthetic/{split}.parquet" for split in paths.SPLITS]
    assert [d.def_path for d in stage.deps] == ["plan/data/vectors.prepare.json", *base, "data/raw/vectors"]
    assert stage.cmd.endswith("mmcontrast data prepare vectors")
    assert {o.def_path for o in stage.outs} == {
        o.def_path.replace("synthetic", "vectors") for o in stages["generate@synthetic"].outs
    }
    assert not any(o.can_push for o in stage.outs)
    assert "fetch@vectors" in stages
    assert not {"prepare@vectors", "generate@vectors"} & set(stages)


def test_without_sources_nothing_is_fetched() -> None:
    plan, wanted = planned(grid_with_features(ROOT), paths.Layout("tests"))
    assert "vectors" not in plan.fetched + plan.generated
    assert "plan/data/vectors.fetch.json" not in wanted
    groups = yaml.safe_load(plan.grid_yaml())
    beside = paths.datasheet("synthetic")
    assert groups["features"] == {"vectors": {"base": "synthetic", "beside": beside}}

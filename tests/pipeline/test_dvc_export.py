"""What the DAG no longer has goes out of dvc.yaml and dvc.lock."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmcontrast.pipeline import dvc_export


def write(file: Path, *stages: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({"schema": "2.0", "stages": {s: {"cmd": f"run {s}"} for s in stages}}))


def stages(file: Path) -> list[str]:
    return list(yaml.safe_load(file.read_text())["stages"])


def test_export_forgets_what_the_dag_no_longer_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, gone = tmp_path / "pipelines/d/kept/dvc.yaml", tmp_path / "pipelines/d/gone/dvc.yaml"
    for file in (kept, gone):
        write(file, "a", "b")
        write(file.with_suffix(".lock"), "a", "b")
    wanted = {"pipelines/d/kept/dvc.yaml": yaml.safe_dump({"stages": {"b": {"cmd": "run b"}, "c": {"cmd": "run c"}}})}
    monkeypatch.setattr(dvc_export, "dvc_files", lambda root: wanted)

    changed = ["pipelines/d/gone/dvc.yaml", "pipelines/d/kept/dvc.yaml"]
    assert dvc_export.disagreements(tmp_path) == changed
    assert dvc_export.export(tmp_path) == changed
    assert stages(kept) == ["b", "c"]
    # `c` has not been run, and what was recorded of `b` stays
    assert stages(kept.with_suffix(".lock")) == ["b"]
    assert not gone.exists()
    assert not gone.with_suffix(".lock").exists()
    assert dvc_export.disagreements(tmp_path) == []

"""What goes to a hub is what training and the report wrote, and the code of the card takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import numpy as np
import pytest

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError, DataError, FetchError
from mmcontrast.pipeline.push import push
from tests.report.made_up_study import Made
from tests.report.test_cards import code_of, export

REPOSITORY = "somebody/some-model"


class Commit(NamedTuple):
    commit_url: str


class Hub:
    """Stands for the hub: keeps a repository as a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.private = folder, True

    def create_repo(self, repository: str, private: bool, exist_ok: bool) -> None:
        assert (repository, exist_ok) == (REPOSITORY, True)
        self.private = private

    def create_commit(self, repository: str, operations: list[Any], commit_message: str) -> Commit:
        for operation in operations:
            file = self.folder / operation.path_in_repo
            file.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as content:
                file.write_bytes(content.read())
        return Commit(f"https://hub/{repository}: {commit_message}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: made)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repository: made.folder)
    return made


@pytest.fixture
def exported(reported: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The study with models of its first cell."""
    monkeypatch.chdir(reported.grid.root)
    cell = first(reported)
    stage = reported.path(reported.layout.stage(cell.name, cell.last_stage))
    if not (stage / "models").exists():
        kept = {p: p.read_bytes() for p in stage.iterdir()} if stage.exists() else {}
        for path in kept:
            path.unlink()
        if stage.exists():
            stage.rmdir()
        export(cell, stage)
        for path, content in kept.items():
            path.write_bytes(content)
    return reported


def first(made: Made) -> CellConfig:
    return next(cell for cell in made.grid.cells.values() if made.grid.datasets[cell.dataset].redistribute)


def test_models_and_card_come_in_one_commit(exported: Made, hub: Hub) -> None:
    cell = first(exported)
    said = push(exported.grid, exported.layout, cell.name, REPOSITORY, public=True)
    assert said == f"https://hub/{REPOSITORY}: Models of {cell.name}"
    assert not hub.private
    models = exported.path(exported.layout.stage(cell.name, cell.last_stage, "models"))
    there = {p.relative_to(models).as_posix(): p.read_bytes() for p in models.rglob("*") if p.is_file()}
    pushed = {p.relative_to(hub.folder).as_posix(): p.read_bytes() for p in hub.folder.rglob("*") if p.is_file()}
    card = pushed.pop("README.md").decode()
    assert pushed == there
    assert huggingface_hub.ModelCard(card).data.model_name == cell.name
    assert str(models) not in card
    assert exported.layout.stage(cell.name, cell.last_stage) not in card
    found: dict[str, Any] = {}
    exec(code_of(card), found)
    assert np.isfinite(found["embeddings"]).all()


def test_what_may_not_be_given_on_stays_private(exported: Made, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = first(exported)
    data = exported.grid.datasets[cell.dataset].model_copy(update={"redistribute": False})
    monkeypatch.setitem(exported.grid.datasets, cell.dataset, data)
    with pytest.raises(ConfigError, match=r"allows no redistribution.*push without --public"):
        push(exported.grid, exported.layout, cell.name, REPOSITORY, public=True)
    push(exported.grid, exported.layout, cell.name, REPOSITORY, public=False)
    assert hub.private


def test_what_is_not_there_or_changed_is_not_pushed(exported: Made, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    name = first(exported).name
    with pytest.raises(ConfigError, match=f"{name}x: no cell of this suite; did you mean '{name}'"):
        push(exported.grid, exported.layout, f"{name}x", REPOSITORY, public=False)
    cell_file = next(exported.path(exported.layout.run(name, "")).rglob("cell.json"))
    content = cell_file.read_bytes()
    cell_file.write_bytes(content + b" ")
    with pytest.raises(DataError, match="not what training wrote there"):
        push(exported.grid, exported.layout, name, REPOSITORY, public=False)
    cell_file.write_bytes(content)
    card = exported.path(exported.layout.card(name))
    text = card.read_text(encoding="utf-8")
    card.unlink()
    with pytest.raises(DataError, match=r"its models or its card .* are not here; run `snakemake"):
        push(exported.grid, exported.layout, name, REPOSITORY, public=False)
    card.write_text(text, encoding="utf-8")
    assert not hub.folder.exists()

    def away(*_: object, **__: object) -> None:
        raise RuntimeError("401 Unauthorized\na page")

    monkeypatch.setattr(hub, "create_repo", away)
    with pytest.raises(FetchError, match=rf"{REPOSITORY}: not uploaded \(401 Unauthorized\); log in with `hf auth"):
        push(exported.grid, exported.layout, name, REPOSITORY, public=False)

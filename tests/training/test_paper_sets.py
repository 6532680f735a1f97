"""The methods of CoMM's paper, as the suite of its own sets has them, on tiny files in the layouts of these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mmcontrast.config import CellConfig, Dataset, Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.prepare import prepare
from mmcontrast.paths import Layout
from mmcontrast.training.cell import run_stage
from mmcontrast.training.distributed import World
from tests.data.layouts import multibench as layout

ROOT = Path(__file__).parents[2]
LAYOUT = Layout("paper_comm")
CASES = [
    *(("multibench_mosi", f"{method}/base") for method in ("cross", "cross_self", "factorcl", "comm")),
    ("multibench_mosi", "comm/fine_tuned"),
    ("mimic", "comm/base"),
]


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid(ROOT, "paper_comm")


@pytest.fixture(scope="module")
def folder(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both datasets, prepared from tiny files."""
    root = tmp_path_factory.mktemp("papers")
    split = {"kind": "published", "train": 32, "val": 4, "test": 4}
    for name, content in (("mimic", layout.mimic(40)), ("multibench_mosi", layout.affect((33, 4, 4)))):
        raw = grid.datasets[name].model_dump(mode="json") | {"rows": 40, "split": split}
        for m, width in layout.WIDTHS.items():
            if m in raw["modalities"]:
                raw["modalities"][m]["shape"][1] = width
        dataset, files = Dataset.model_validate(raw), root / "data/raw" / name
        layout.write(files / dataset.prepare["file"], content)
        fetch(name, dataset, files)
        prepare(name, dataset, files, root / "data/prepared" / name)
    return root


def tiny(cell: CellConfig, backend: str) -> CellConfig:
    """The encoders as they are, of narrower inputs: two steps of one seed."""
    shapes = {"vision": [50, 4], "text": [50, 5]}
    modalities = {
        m: spec.model_copy(update={"shape": shapes.get(m, spec.shape)}) for m, spec in cell.modalities.items()
    }
    stages = {s: getattr(cell, s).model_copy(update={"epochs": 1, "batch_size": 16}) for s in cell.stages}
    engine = cell.engine.model_copy(update={"backend": backend, "device": "cpu", "threads": 1})
    return cell.model_copy(update={"modalities": modalities, "seeds": [0], "engine": engine, **stages})


@pytest.mark.parametrize("backend", ["torch", "deepspeed"])
@pytest.mark.parametrize(("dataset", "name"), CASES)
def test_it_trains_and_leaves_an_embedding_of_every_row(
    grid: Grid, folder: Path, world: World, monkeypatch: pytest.MonkeyPatch, dataset: str, name: str, backend: str
) -> None:
    monkeypatch.chdir(folder)
    cell = tiny(grid.cell(dataset, *name.split("/")), backend)
    for stage in cell.stages:
        cost: dict[str, Any] = run_stage(cell, stage, LAYOUT)
    assert cost
    found = pl.read_parquet(Path(LAYOUT.stage(cell.name, cell.last_stage)) / "embeddings.parquet")
    assert len(found) == 40

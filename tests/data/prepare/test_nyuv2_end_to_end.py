"""NYUv2 from a tiny file of the official format to the scores of a pretrained cell."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmcontrast import paths
from mmcontrast.data.loading import load_split
from mmcontrast.data.prepare import nyuv2, prepare
from mmcontrast.data.scaling import write_fitted
from mmcontrast.data.streaming import write_stream
from mmcontrast.errors import DataError, TrainingError
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.paths import Layout
from mmcontrast.training.cell import run_stage
from tests.data.prepare.test_nyuv2 import official_file
from tests.grids import grid_of

ROOT = Path(__file__).parents[3]
GRID = grid_of()
N, TRAIN = 40, 28
ROOMS = ["kitchen", "office", "bedroom", "attic"]


def tiny(train=TRAIN):
    """The dataset's file with frames of 48 x 64 instead of 480 x 640, and as few as the made file has."""
    dataset = GRID.datasets["nyuv2"]
    classes = ["kitchen", "office", "bedroom", "other"]
    split = dataset.split.model_copy(update={"train": train, "test": N - train})
    return dataset.model_copy(update={"rows": N, "split": split, "classes": classes})


@pytest.fixture
def raw_dir(tmp_path, monkeypatch):
    """Rooms that colour tells apart; every fourth frame is of another kind of room."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    g = np.random.default_rng(0)
    kinds = np.arange(N) % len(ROOMS)
    rgb = (g.integers(0, 60, (N, 3, 48, 64)) + 45 * kinds[:, None, None, None]).astype(np.uint8)
    content = {
        "rgb": rgb,
        "depth": g.uniform(1, 9, (N, 48, 64)).astype(np.float32),
    }
    folder = tmp_path / "raw"
    folder.mkdir()
    scenes = [f"{ROOMS[k]}_{i // 8:04d}" for i, k in enumerate(kinds)]
    official_file(folder, content, scenes, train=range(1, TRAIN + 1), test=range(TRAIN + 1, N + 1))
    prepared = tmp_path / Path(paths.datasheet("nyuv2")).parent
    prepared.mkdir(parents=True)
    write_fitted(prepared, {}, {})
    return folder


@pytest.mark.parametrize("variant", ["base", "early"])
def test_from_the_official_file_to_the_scores(raw_dir, tmp_path, variant):
    dataset = tiny()
    written = write_stream(
        "nyuv2", dataset, nyuv2.stream("nyuv2", dataset, raw_dir), Path(paths.datasheet("nyuv2")).parent
    )
    assert {split: len(of) for split, of in written.labels[""].items()} == {"train": TRAIN, "val": 0, "test": N - TRAIN}
    data = load_split(paths.prepared("nyuv2", "train"))
    assert {m: tuple(x.shape) for m, x in data.inputs.items()} == {
        "rgb": (TRAIN, 3, 48, 64),
        "depth": (TRAIN, 1, 48, 64),
        "normals": (TRAIN, 3, 48, 64),
    }
    assert data.labels.tolist() == [i % 4 for i in range(TRAIN)]
    videos = [(i % 4, i // 8) for i in range(TRAIN)]
    assert [[int(a == b) for b in videos] for a in videos] == (data.scenes[:, None] == data.scenes).int().tolist()

    cell = GRID.cell("nyuv2", "tuple_infonce", variant)
    pretrain = cell.pretrain.model_copy(update={"epochs": 2, "batch_size": 8})
    engine = cell.engine.model_copy(update={"backend": "torch"})
    cell = cell.model_copy(
        update={"pretrain": pretrain, "engine": engine, "seeds": [0], "classes": list(dataset.classes)}
    )
    layout = Layout("tests")
    run_stage(cell, "pretrain", layout)
    history = pl.read_parquet(layout.stage(cell.name, "pretrain", "history.parquet"))
    loss = history.filter(name="train/loss").sort("epoch")["value"]
    assert loss[1] < loss[0]
    out = [tmp_path / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, Path(layout.stage(cell.name, "pretrain", "embeddings.parquet")), *out)
    metrics = pl.read_parquet(out[0]).filter(split="test", metric="acc")
    assert metrics["n"].to_list() == [N - TRAIN]
    assert metrics["value"][0] > 0.5


def test_a_video_that_fills_a_batch_is_refused(raw_dir):
    """Batches of two rows of two videos' frames: sooner or later both are of one."""
    dataset = tiny()
    write_stream("nyuv2", dataset, nyuv2.stream("nyuv2", dataset, raw_dir), Path(paths.datasheet("nyuv2")).parent)
    cell = GRID.cell("nyuv2", "tuple_infonce")
    pretrain = cell.pretrain.model_copy(update={"epochs": 40, "batch_size": 2})
    engine = cell.engine.model_copy(update={"backend": "torch"})
    cell = cell.model_copy(
        update={"pretrain": pretrain, "engine": engine, "seeds": [0], "classes": list(dataset.classes)}
    )
    with pytest.raises(TrainingError, match=r"all 2 rows of a batch are of scene \d+, so no row can lend another"):
        run_stage(cell, "pretrain", Layout("tests"))


def test_another_split_than_the_datasets_file_says_is_refused(raw_dir, tmp_path):
    dataset = tiny(train=20)
    with pytest.raises(DataError, match=r"28 instances in train, and params/datasets/nyuv2\.yaml: split says 20"):
        write_stream("nyuv2", dataset, nyuv2.stream("nyuv2", dataset, raw_dir), tmp_path / "out")


def prepared(tmp_path, scenes, train=TRAIN):
    """Data sheet of rooms whose frames are all of different noise, laid out as the official file."""
    g = np.random.default_rng(1)
    content = {
        "rgb": g.integers(0, 256, (N, 3, 48, 64), dtype=np.uint8),
        "depth": g.uniform(1, 9, (N, 48, 64)).astype(np.float32),
    }
    raw = tmp_path / "raw"
    raw.mkdir()
    official_file(raw, content, scenes, train=range(1, train + 1), test=range(train + 1, N + 1))
    dataset = tiny(train).model_copy(update={"sources": []})  # nothing is fetched, so there is no manifest
    return prepare("nyuv2", dataset, raw, tmp_path / "out")


def test_a_scene_in_two_splits_is_refused(tmp_path):
    scenes = [f"{ROOMS[i % 4]}_{i:04d}" for i in range(N)]
    scenes[N - 1] = scenes[3]
    with pytest.raises(DataError, match="nyuv2: group 'attic_0003' is in train and in test"):
        prepared(tmp_path, scenes)
    assert list((tmp_path / "out").iterdir()) == []


def test_scenes_of_one_split_each_pass(tmp_path):
    sheet = prepared(tmp_path, [f"{ROOMS[i % 4]}_{i // TRAIN:04d}" for i in range(N)])
    assert sheet["report"]["scenes"] == 2 * len(ROOMS)

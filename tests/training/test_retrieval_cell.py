"""A cell scored by retrieval, from prepared data to scores, and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from mmcontrast.data.loading import load_split
from mmcontrast.errors import DataError
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.paths import Layout
from mmcontrast.training.cell import run_stage
from mmcontrast.training.loop import SeedTrainer
from tests.multifold_data import NAME, ROOT, small_cell, write_multifold

LAYOUT = Layout("tests")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    write_multifold(tmp_path)
    return tmp_path


def scored(cell, folder):
    stored = Path(LAYOUT.stage(cell.name, "pretrain", "embeddings.parquet"))
    out = [folder / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, stored, *out)
    return tuple(map(pl.read_parquet, out))


def test_from_prepared_data_to_scores(checkout: Path) -> None:
    cell = small_cell()
    run_stage(cell, "pretrain", LAYOUT)
    folder = Path(LAYOUT.stage(cell.name, "pretrain"))
    frame = pl.read_parquet(folder / "embeddings.parquet")
    assert set(frame["epoch"]) == {1, 3}
    data = load_split(f"data/prepared/{NAME}/test.parquet")
    one = frame.filter(seed=1, epoch=3, split="test", modality="text")
    owners = [data.ids[i] for i in data.observations["text"].instance.tolist()]
    assert one["id"].to_list() == owners
    assert one["observation"].to_list() == [owners[:k].count(o) for k, o in enumerate(owners)]
    np.testing.assert_allclose(np.linalg.norm(one["embedding"].to_numpy(), axis=1), 1, atol=1e-5)
    pieces = json.loads((folder / "models" / "seed0.text.json").read_text())
    assert pieces["pieces"][:2] == ["<pad>", "<unk>"]

    metrics, curves, intervals = scored(cell, checkout)
    names = {"rsum"} | {f"{d}/{m}" for d in ("text_to_image", "image_to_text") for m in cell.metrics[1:]}
    assert set(metrics["metric"]) == set(curves["metric"]) == set(intervals["metric"]) == names
    assert set(metrics["protocol"]) == {"selected", "last", "optimistic"}
    assert set(metrics.filter(split="test")["n"]) == {16}
    recall = metrics.filter(pl.col("metric").str.contains("/rr"), protocol="last", split="test", seed=0)["value"]
    (rsum,) = metrics.filter(metric="rsum", protocol="last", split="test", seed=0)["value"]
    assert rsum == pytest.approx(recall.sum())
    for seed in cell.seeds:
        val = curves.filter(seed=seed, split="val", metric="rsum").sort("epoch")
        chosen = metrics.filter(seed=seed, protocol="selected", metric="rsum", split="test")["epoch"][0]
        assert val.filter(epoch=chosen)["value"][0] == val["value"].max()
        test = curves.filter(seed=seed, split="test", metric="rsum")["value"].max()
        assert metrics.filter(seed=seed, protocol="optimistic", metric="rsum")["value"][0] == test
    row = intervals.filter(protocol="last", metric="rsum")
    assert row["mean"][0] == pytest.approx(
        metrics.filter(protocol="last", metric="rsum", split="test")["value"].mean(), abs=1e-12
    )
    assert row["low"][0] <= row["mean"][0] <= row["high"][0]


class StoppedError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("teacher", ["self", "ema"])
def test_killed_and_started_again_it_ends_with_the_same_bytes(checkout: Path, monkeypatch, teacher) -> None:
    cell = small_cell()
    cell = cell.model_copy(update={"objective": cell.objective | {"teacher": teacher}})
    run_stage(cell, "pretrain", LAYOUT)
    folder = Path(LAYOUT.stage(cell.name, "pretrain"))
    files = ["embeddings.parquet", "history.parquet", "models/seed0.safetensors", "models/seed1.safetensors"]
    first = {f: (folder / f).read_bytes() for f in files}
    epochs = SeedTrainer._epoch

    def dies(self):
        if self.job.seed == 1 and self.epoch == 3:
            raise StoppedError
        return epochs(self)

    monkeypatch.setattr(SeedTrainer, "_epoch", dies)
    with pytest.raises(StoppedError):
        run_stage(cell, "pretrain", LAYOUT)
    monkeypatch.setattr(SeedTrainer, "_epoch", epochs)
    run_stage(cell, "pretrain", LAYOUT)
    assert {f: (folder / f).read_bytes() for f in files} == first


@pytest.mark.parametrize("method", ["clip", "tricolo", "supcon_instances", "mil_nce", "siglip"])
def test_the_comparison_losses_run_on_the_same_data(checkout: Path, method: str) -> None:
    cell = small_cell(method, epochs=1, eval_every=1)
    run_stage(cell, "pretrain", LAYOUT)
    assert scored(cell, checkout)[0]["value"].is_finite().all()


def test_an_epoch_that_is_missing_for_a_seed_or_damaged_is_named(checkout: Path) -> None:
    cell = small_cell(epochs=2, eval_every=1)
    run_stage(cell, "pretrain", LAYOUT)
    stored = Path(LAYOUT.stage(cell.name, "pretrain", "embeddings.parquet"))
    whole = pl.read_parquet(stored)
    faults = {
        r"seed 1, \w+, \w+: evaluated at other epochs": whole.filter(~((pl.col("seed") == 1) & (pl.col("epoch") == 0))),
        r"not the instances of the first modality": whole.filter(
            ~((pl.col("modality") == "text") & (pl.col("id") == "test-3"))
        ),
        r"no column observation": whole.drop("observation"),
        r"holds seeds \[0\]": whole.filter(seed=0),
        r"no rows of the test split of 'text'": whole.filter(
            ~((pl.col("modality") == "text") & (pl.col("split") == "test"))
        ),
    }
    for says, frame in faults.items():
        frame.write_parquet(stored)
        with pytest.raises(DataError, match=says):
            scored(cell, checkout)


def test_a_k_larger_than_the_gallery_is_refused(checkout: Path) -> None:
    cell = small_cell(epochs=1, eval_every=1)
    run_stage(cell, "pretrain", LAYOUT)
    stored = Path(LAYOUT.stage(cell.name, "pretrain", "embeddings.parquet"))
    few = pl.read_parquet(stored)
    few.filter(pl.col("id").is_in([f"{s}-{i}" for s in ("val", "test") for i in range(6)])).write_parquet(stored)
    with pytest.raises(DataError, match="k = 10: the gallery has 6 items"):
        scored(cell, checkout)


def test_evaluation_leaves_the_random_state_alone(checkout: Path) -> None:
    """Scoring more often changes no weight."""
    cell = small_cell(epochs=2)
    weights = []
    for every in (1, 2):
        assert cell.pretrain is not None
        changed = cell.model_copy(update={"pretrain": cell.pretrain.model_copy(update={"eval_every": every})})
        run_stage(changed, "pretrain", LAYOUT)
        frame = pl.read_parquet(LAYOUT.stage(cell.name, "pretrain", "embeddings.parquet"))
        weights.append(torch.from_numpy(frame.filter(epoch=1, split="test")["embedding"].to_numpy().copy()))
    assert torch.equal(*weights)

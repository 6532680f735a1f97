"""A text, a picture and a sequence per instance, by encoders of ours and by a BERT and a ViT that are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmcontrast import paths
from mmcontrast.config import CellConfig, Modality
from mmcontrast.data.scaling import write_fitted
from tests.real_inputs import CLASSES, NAME, picture, write_file
from tests.tiny_pretrained import SIDE, write_encoder
from tests.training import resuming

MODALITIES = {
    "photo": Modality(kind="image", shape=[3, SIDE, SIDE], encoded=True),
    "title": Modality(kind="text", shape=[]),
    "track": Modality(kind="sequence", shape=[7, 2]),
}
OURS: dict[str, Any] = {
    "image": "small_conv",
    "text": {"vocabulary": 40, "tokens": 6, "embedding": 4, "hidden": 4},
    "sequence": {"kind": "gru", "width": 6},
}
THEIRS: dict[str, Any] = {
    "sequence": {"kind": "transformer", "width": 6, "heads": 2},
    "pretrained": {"title": {"folder": "bert", "lr": 1e-3}, "image": {"folder": "vit", "gradient_checkpointing": True}},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").symlink_to(Path(__file__).parents[2] / "src")
    for seed, (split, n) in enumerate({"train": 30, "val": 8, "test": 8}.items()):
        rng = np.random.default_rng(seed)
        columns = {
            "photo": [picture(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(n)],
            "title": [f"{'a dog' if i % 2 else 'two cats'} {'ran ' * (i % 3)}" for i in range(n)],
            "track": [rng.normal(size=(1 + i % 7, 2)).astype(np.float32).tolist() for i in range(n)],
        }
        write_file(tmp_path / paths.prepared(NAME, split), columns, MODALITIES)
    write_fitted(tmp_path / Path(paths.datasheet(NAME)).parent, {}, {})
    for name in ("bert", "vit"):
        write_encoder(name, tmp_path / name)
    return tmp_path


def cell_with(model: dict[str, Any]) -> CellConfig:
    cell = resuming.small("synthetic/concat/base")
    given = cell.model.model_validate({"width": 8, "encoder_hidden": [], "head_hidden": [], **model})
    stage = cell.finetune and cell.finetune.model_copy(update={"batch_size": 10})
    changed = {"dataset": NAME, "modalities": MODALITIES, "classes": CLASSES, "metrics": ["acc"], "finetune": stage}
    return cell.model_copy(update=changed | {"model": given})


@pytest.mark.parametrize("model", [OURS, THEIRS], ids=["ours", "theirs"])
def test_they_train_and_resume_to_the_bit(folder: Path, model: dict[str, Any]) -> None:
    cell = cell_with(model)
    undisturbed, interrupted, number = resuming.with_and_without_stops(cell, "killed")
    assert number >= 3
    assert interrupted == undisturbed
    resuming.train(cell)
    file = Path(resuming.LAYOUT.stage(cell.name, "finetune", "predictions.parquet"))
    last = pl.read_parquet(file).filter(pl.col("epoch") == 2, pl.col("split") == "test")
    assert len(last) == 8
    probs = last["probs"].to_numpy()
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
    assert probs.std(0).min() > 1e-4  # rows are told apart

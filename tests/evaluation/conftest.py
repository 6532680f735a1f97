"""Cells and predictions made up for the tests; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import CellConfig, Engine, Modality, Model, Optimizer, Selection, Stage

EPOCHS = 6
EVALUATED = (1, 3, 5)


@pytest.fixture
def make_cell() -> Callable[..., CellConfig]:
    """A cell of three classes; keywords replace its fields."""

    def make(**changes: Any) -> CellConfig:
        fields: dict[str, Any] = {
            "dataset": "toy",
            "method": "m3col",
            "variant": "base",
            "implementation": "m3col",
            "modalities": {m: Modality(kind="vector", shape=[4]) for m in ("a", "b")},
            "classes": ["x", "y", "z"],
            "metrics": ["acc", "weighted_f1", "macro_f1"],
            "objective": {},
            "model": Model(width=4, encoder_hidden=[], head_hidden=[]),
            "pretrain": None,
            "finetune": Stage(epochs=EPOCHS, batch_size="full", optimizer=Optimizer(lr=0.1)),
            "selection": Selection(holdout=0.2),
            "seeds": [0, 1, 2],
            "engine": Engine(),
        }
        return CellConfig(**(fields | changes))

    return make


@pytest.fixture
def make_predictions() -> Callable[..., pl.DataFrame]:
    """Random predictions of a cell as training writes them: test cases shared by the seeds, val cases not."""

    def make(cell: CellConfig, n: int = 30, splits: tuple[str, ...] = ("val", "test"), seed: int = 0) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        c = len(cell.classes)
        labels = {"test": np.arange(n) % c}
        parts = []
        for s in cell.seeds:
            labels["val"] = rng.permutation(np.arange(n) % c)
            for epoch in EVALUATED:
                for split in splits:
                    truth = np.eye(c)[labels[split]]
                    logits = rng.normal(size=(n, c)) + truth * rng.uniform(0, 2)
                    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
                    parts.append(
                        pl.DataFrame(
                            {
                                "seed": np.full(n, s, dtype=np.int64),
                                "epoch": np.full(n, epoch, dtype=np.int64),
                                "split": [split] * n,
                                "id": [f"{split}-{s if split == 'val' else ''}-{i}" for i in range(n)],
                                "label": labels[split].astype(np.int64),
                                "probs": pl.Series(probs.astype(np.float32), dtype=pl.Array(pl.Float32, c)),
                            }
                        )
                    )
        return pl.concat(parts)

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[pl.DataFrame], Path]:
    """Write a frame as predictions.parquet and return its path."""

    def make(frame: pl.DataFrame) -> Path:
        path = tmp_path / "predictions.parquet"
        frame.write_parquet(path)
        return path

    return make

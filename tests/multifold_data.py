"""Prepared multifold data small enough to train on in a test: coloured images, and texts that name the colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmcontrast import paths
from mmcontrast.config import CellConfig, Dataset
from mmcontrast.data.scaling import write_fitted
from mmcontrast.data.table import schema
from tests.grids import grid_of

ROOT = Path(__file__).parents[1]
NAME = "emoji"
SIZES = {"train": 24, "val": 14, "test": 16}
COLOURS = ("red", "green", "blue", "yellow", "violet", "cyan", "white", "black")


def write_multifold(root: Path, dataset: Dataset | None = None) -> None:
    """data/prepared/emoji under `root`: ragged, 1 to 3 images and 1 to 4 texts an instance."""
    dataset = dataset or grid_of().datasets[NAME]
    rng = np.random.default_rng(0)
    shape = dataset.modalities["image"].shape
    start = 0
    for split, n in SIZES.items():
        images, texts = [], []
        for i in range(start, start + n):
            colour = i % len(COLOURS)
            base = np.array([(colour >> c) & 1 for c in range(3)], dtype=float)[:, None, None] * 160 + i % 5 * 10
            count = 1 + i % 3
            images.append([np.clip(base + rng.normal(0, 20, shape), 0, 255).astype(np.uint8) for _ in range(count)])
            texts.append([f"{COLOURS[colour]} thing", *(f"a {COLOURS[colour]} one {k} of {i}" for k in range(i % 4))])
        _write(root, dataset, split, [f"{split}-{i}" for i in range(n)], images, texts)
        start += n
    write_fitted(root / Path(paths.datasheet(NAME)).parent, {}, {})


def _write(
    root: Path, dataset: Dataset, split: str, ids: list[str], images: list[list[np.ndarray]], texts: list[list[str]]
) -> None:
    layout = schema(NAME, split, dataset.modalities, dataset.classes, dataset.scaling, {})
    offsets = np.cumsum([0, *map(len, images)], dtype=np.int32)
    flat = np.concatenate([d.reshape(-1) for group in images for d in group])
    item = pa.field("item", pa.uint8(), nullable=False)
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=pa.list_(item, images[0][0].size))
    labels = np.arange(len(ids), dtype=np.int64) % len(dataset.classes)
    columns = [
        pa.array(ids),
        pa.array(labels),
        pa.ListArray.from_arrays(pa.array(offsets), pixels, type=layout.field("image").type),
        pa.array(texts, layout.field("text").type),
    ]
    path = root / paths.prepared(NAME, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_arrays(columns, schema=layout), path)


def small_cell(method: str = "mxm_clr", variant: str = "base", **stage: object) -> CellConfig:
    """A cell of two seeds and four short epochs on these data."""
    cell = grid_of().cell(NAME, method, variant)
    assert cell.pretrain is not None
    assert cell.model.text is not None
    text = cell.model.text.model_copy(update={"vocabulary": 60, "tokens": 6, "embedding": 8, "hidden": 8})
    wanted = {"epochs": 4, "batch_size": 8, "eval_every": 2, "checkpoint_every": 1} | stage
    return cell.model_copy(
        update={
            "pretrain": cell.pretrain.model_copy(update=wanted),
            "model": cell.model.model_copy(update={"width": 8, "text": text}),
            "seeds": [0, 1],
            "engine": cell.engine.model_copy(update={"backend": "torch"}),
        }
    )

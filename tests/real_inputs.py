"""A small prepared dataset with a picture in a file, a sequence, a text and a vector; some rows lack some of them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from mmcontrast import paths
from mmcontrast.config import CellConfig, Engine, Modality, Model, Optimizer, Selection, Stage
from mmcontrast.data.parquet import write_parquet
from mmcontrast.data.scaling import write_fitted
from mmcontrast.data.table import schema

NAME = "real"
SIZES = {"train": 26, "val": 0, "test": 9}
CLASSES = ["no", "yes"]
MODALITIES = {
    "picture": Modality(kind="image", shape=[3, 6, 8], encoded=True, optional=True),
    "track": Modality(kind="sequence", shape=[7, 2], optional=True),
    "title": Modality(kind="text", shape=[]),
    "vector": Modality(kind="vector", shape=[3], optional=True),
}


def picture(pixels_HWC: np.ndarray, kind: str = "PNG") -> bytes:
    out = BytesIO()
    Image.fromarray(pixels_HWC).save(out, kind)
    return out.getvalue()


def rows(n: int, seed: int) -> dict[str, list[Any]]:
    """Every fourth row lacks its picture, every fifth its sequence, every sixth its vector."""
    rng = np.random.default_rng(seed)
    return {
        "picture": [
            picture(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), "PNG" if i % 2 else "JPEG") if i % 4 else None
            for i in range(n)
        ],
        "track": [rng.normal(size=(1 + i % 7, 2)).astype(np.float32).tolist() if i % 5 else None for i in range(n)],
        "title": ["abc"[: i % 3] + "x" * (i % 4) for i in range(n)],
        "vector": [rng.normal(size=3).astype(np.float32).tolist() if i % 6 else None for i in range(n)],
    }


def write_file(
    path: Path,
    columns: dict[str, list[Any]],
    modalities: dict[str, Modality] = MODALITIES,
    target: str = "classes",
    labels: list[Any] | None = None,
) -> Path:
    """The modalities that there are columns for."""
    n = len(next(iter(columns.values())))
    layout = schema(NAME, path.stem, {m: modalities[m] for m in columns}, CLASSES, "none", {}, target=target)
    # what a writer would not let through is for the reader to refuse
    layout = pa.schema([field.with_nullable(True) for field in layout], layout.metadata)
    arrays = [
        pa.array([f"{path.stem}-{i}" for i in range(n)]),
        pa.array(labels or [i % 2 for i in range(n)], layout.field("label").type),
        *(pa.array(values, layout.field(name).type) for name, values in columns.items()),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(pa.Table.from_arrays(arrays, schema=layout), path)
    return path


def write_data(root: Path) -> None:
    for seed, (split, n) in enumerate(SIZES.items()):
        write_file(root / paths.prepared(NAME, split), rows(n, seed))
    write_fitted(root / Path(paths.datasheet(NAME)).parent, {}, {})


def real_cell(**engine: Any) -> CellConfig:
    """Batches of 8 of the rows that are left to train on, over three epochs."""
    stage = Stage(epochs=3, batch_size=8, optimizer=Optimizer(lr=0.05), checkpoint_every=1)
    return CellConfig(
        dataset=NAME,
        method="m",
        variant="base",
        implementation="concat",
        modalities=MODALITIES,
        classes=CLASSES,
        metrics=["acc"],
        objective={},
        model=Model(width=4, encoder_hidden=[], head_hidden=[]),
        pretrain=None,
        finetune=stage,
        selection=Selection(holdout=0.2),
        seeds=[3, 4],
        engine=Engine(backend="torch", **engine),
    )

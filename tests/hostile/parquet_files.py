"""Parquet of the corpus: prepared splits, predictions, embeddings and metrics."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mmcontrast.config import CellConfig, Engine, Modality, Model, Optimizer, Selection, Stage
from mmcontrast.data import table
from mmcontrast.data.files import check_prepared, sha256_of, write_json
from mmcontrast.data.loading import load_split
from mmcontrast.data.parquet import seal, write_parquet
from mmcontrast.evaluation.columns import METRICS_SCHEMA
from mmcontrast.evaluation.stored import read_embeddings, read_predictions
from mmcontrast.report.results import read_table
from tests.hostile.corpus import Crafted

RNG = np.random.default_rng

MODALITIES = {"a": Modality(kind="vector", shape=[3]), "b": Modality(kind="image", shape=[1, 2, 2])}


def split_columns(n: int = 6) -> list[pa.Array]:
    a = pa.array(RNG(0).random(3 * n, dtype=np.float32))
    b = pa.array(RNG(1).integers(0, 256, 4 * n, dtype=np.uint8))
    return [
        pa.array([f"id{i}" for i in range(n)]),
        pa.array(np.arange(n) % 2),
        pa.FixedSizeListArray.from_arrays(a, 3),
        pa.FixedSizeListArray.from_arrays(b, 4),
    ]


def split_layout() -> pa.Schema:
    return table.schema("toy", "train", MODALITIES, ["x", "y"], "none", {"a": ["p", "q", "r"]})


def as_split(columns: list[pa.Array], layout: pa.Schema) -> pa.Table:
    fields = [f.with_type(c.type).with_nullable(c.null_count > 0) for f, c in zip(layout, columns, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=layout.metadata))


def write_sealed_split(folder: Path) -> Path:
    path = folder / "train.parquet"
    write_bare_split(folder)
    write_json(folder / "datasheet.json", {"prepared": {"train": sha256_of(path)}})
    return path


def write_bare_split(folder: Path) -> Path:
    path = folder / "train.parquet"
    # as prepare stores numbers
    pq.write_table(as_split(split_columns(), split_layout()), path, compression="zstd", use_dictionary=["label"])
    seal(path)
    return path


def read_split(path: Path, out: Path) -> Any:
    loaded = load_split(path)
    check_prepared(path)
    inputs = {name: x.numpy() for name, x in loaded.inputs.items()}
    return [loaded.ids, loaded.labels.numpy(), inputs, loaded.classes, str(loaded.modalities)]


def parquet_bytes(content: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(content, buffer, compression="zstd", **options)
    return buffer.getvalue()


def crafted_splits(raw: bytes) -> Crafted:
    """Well-formed Parquet that is not what `prepare` writes."""
    layout, columns = split_layout(), split_columns()
    key = table.METADATA_KEY
    described = json.loads(layout.metadata[key])

    def changed(k: int, column: pa.Array) -> bytes:
        return parquet_bytes(as_split([*columns[:k], column, *columns[k + 1 :]], layout))

    def told(text: bytes) -> bytes:
        return parquet_bytes(as_split(columns, layout.with_metadata({key: text})))

    def vector(values: list[float]) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), 3)

    huge_shape = described | {"modalities": {"a": {"kind": "vector", "shape": [10**12]}, "b": {"kind": "text"}}}
    out = {
        "no metadata": parquet_bytes(as_split(columns, layout.remove_metadata())),
        "metadata not JSON": told(b"{"),
        "metadata not UTF-8": told(b'{"dataset": "\xff"}'),
        "metadata a list": told(b"[]"),
        "metadata nested": told(b"[" * 100_000),
        "metadata with a key twice": told(b'{"classes": ["x"], ' + json.dumps(described).encode()[1:]),
        "metadata without classes": told(json.dumps({k: v for k, v in described.items() if k != "classes"}).encode()),
        "a huge shape": told(json.dumps(huge_shape).encode()),
        "NaN": changed(2, vector([float("nan")] + [0.0] * 17)),
        "infinity": changed(2, vector([float("inf")] + [0.0] * 17)),
        "labels as text": changed(1, pa.array(list("010101"))),
        "labels as float": changed(1, pa.array([0.0, 1.0] * 3)),
        "labels of no class": changed(1, pa.array([0, 1, 2, 0, 1, 2])),
        "a negative label": changed(1, pa.array([0, -1, 0, 1, 0, 1])),
        "ids as numbers": changed(0, pa.array(range(6))),
        "a null id": changed(0, pa.array(["a", None, "c", "d", "e", "f"])),
        "a null label": changed(1, pa.array([0, None, 0, 1, 0, 1])),
        "another width": changed(2, pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(24, np.float32)), 4)),
        "another type": changed(2, pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(18)), 3)),
        "a column missing": parquet_bytes(as_split(columns, layout).drop_columns(["b"])),
        "a column more": parquet_bytes(as_split(columns, layout).append_column("c", pa.array(range(6)))),
        "a column twice": parquet_bytes(as_split(columns, layout).append_column("a", columns[2])),
        "footer length beyond the file": raw[:-8] + (10**9).to_bytes(4, "little") + b"PAR1",
        "magic alone": b"PAR1PAR1",
        "a csv": b"id,label\na,0\n",
    }
    return {name: (content, True) for name, content in out.items()}


def toy_cell(kind: str) -> CellConfig:
    stage = Stage(epochs=2, batch_size="full", optimizer=Optimizer(lr=0.1))
    return CellConfig(
        dataset="toy",
        method="m3col",
        variant="base",
        implementation="m3col",
        modalities=MODALITIES,
        classes=["x", "y"],
        metrics=["acc"],
        objective={},
        model=Model(width=4, encoder_hidden=[], head_hidden=[]),
        pretrain=stage if kind == "embeddings" else None,
        finetune=None if kind == "embeddings" else stage,
        selection=Selection(holdout=0.2),
        seeds=[0, 1],
        engine=Engine(),
    )


def outputs(kind: str, n: int = 4) -> pa.Table:
    """predictions or embeddings of the cell above."""
    parts = []
    for seed in (0, 1):
        for split in ("train", "val", "test") if kind == "embeddings" else ("val", "test"):
            for epoch in (1,):
                values = RNG([seed, epoch]).random((n, 2)).astype(np.float32)
                if kind == "predictions":
                    values[:, 1] = 1 - values[:, 0]
                stored = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 2)
                keys = {"seed": pa.array([seed] * n)} | (
                    {"epoch": pa.array([epoch] * n)} if kind != "embeddings" else {}
                )
                ids = pa.array([f"{split}{i}" for i in range(n)])
                label = pa.array(np.arange(n) % 2)
                name = "embedding" if kind == "embeddings" else "probs"
                parts.append(pa.table({**keys, "split": [split] * n, "id": ids, "label": label, name: stored}))
    return pa.concat_tables(parts).combine_chunks()


def crafted_outputs(kind: str, raw: bytes) -> Crafted:
    content = outputs(kind)
    name = content.column_names[-1]

    def swap(column: str, values: Any) -> bytes:
        return parquet_bytes(content.set_column(content.column_names.index(column), column, values))

    n = len(content)
    bad = np.full(2 * n, np.nan, np.float32)
    flat = pa.array(np.zeros(2 * n, np.float32))
    out = {
        "no rows": parquet_bytes(content.slice(0, 0)),
        "NaN": swap(name, pa.FixedSizeListArray.from_arrays(pa.array(bad), 2)),
        "float64": swap(name, pa.FixedSizeListArray.from_arrays(flat.cast(pa.float64()), 2)),
        "lists of any length": swap(name, pa.array([[0.5, 0.5]] * n, pa.list_(pa.float32()))),
        "text": swap(name, pa.array(["0.5"] * n)),
        "labels as text": swap("label", pa.array(["0"] * n)),
        "labels of no class": swap("label", pa.array([7] * n)),
        "seeds as float": swap("seed", pa.array([0.0] * n)),
        "another seed": swap("seed", pa.array([5] * n)),
        "another split": swap("split", pa.array(["dev"] * n)),
        "a null": swap("id", pa.array([None] * n, pa.string())),
        "one id": swap("id", pa.array(["same"] * n)),
        "a column twice": parquet_bytes(content.append_column("id", content["id"])),
        "a column missing": parquet_bytes(content.drop_columns(["label"])),
        "footer length beyond the file": raw[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
    }
    return {what: (data, True) for what, data in out.items()}


def write_outputs(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.parquet"
    write_parquet(outputs(kind), path)
    return path


def read_outputs(kind: str, path: Path, out: Path) -> Any:
    reader = {"predictions": read_predictions, "embeddings": read_embeddings}[kind]
    found: dict[Any, Any] = reader(path, toy_cell(kind))
    return {f"{seed} {split}": vars(value) for (seed, split), value in found.items()}


def write_metrics(folder: Path) -> Path:
    rows = [(s, "selected", "test", "acc", 0.5 + s / 10, 4, 1) for s in (0, 1)]
    path = folder / "metrics.parquet"
    frame = pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row")
    write_parquet(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), path)
    return path


def read_metrics(path: Path, out: Path) -> Any:
    frame = read_table(path, METRICS_SCHEMA, "mmcontrast evaluate toy/m3col/base")
    return frame.to_dict(as_series=False)

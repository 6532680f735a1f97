"""Trifeature as Parquet: one row a pair, two image columns, one label column a probe.

`train` holds the pretraining pairs. In the biased arm `probe` holds the unbiased pairs of the same images, on which the
probes are fitted; in the unbiased arm these are the pairs of `train`. `val` and `test` are unbiased in both arms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmcontrast.data.files import replacing
from mmcontrast.data.prepare import trifeature as tri

MODALITIES = ("image1", "image2")
ROWS_AT_ONCE = 512


def layout(name: str, split: str, params: tri.Generate) -> pa.Schema:
    """Columns id, label (the shape), image1, image2, label_<task>; the metadata lists the tasks with their classes."""
    shape = [3, params.size, params.size]
    cell = pa.list_(pa.field("item", pa.uint8(), nullable=False), int(np.prod(shape)))
    fields = [pa.field("id", pa.string(), nullable=False), pa.field("label", pa.int64(), nullable=False)]
    fields += [pa.field(m, cell, nullable=False, metadata={b"shape": json.dumps(shape).encode()}) for m in MODALITIES]
    fields += [pa.field(f"label_{task}", pa.int64(), nullable=False) for task in tri.TASKS]
    described = {
        "dataset": name,
        "split": split,
        "modalities": {m: {"kind": "image", "shape": shape} for m in MODALITIES},
        "classes": params.shapes,
        "scaling": "none",
        "tasks": tri.task_classes(params),
    }
    return pa.schema(fields, metadata={b"mmcontrast": json.dumps(described).encode()})


def write_all(
    name: str,
    params: tri.Generate,
    out_dir: Path,
    progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> dict[str, dict[str, int]]:
    """train, val and test, and probe where the arm is biased.

    Args:
        progress: called with the split, the images rendered or pairs written so far, and their number.

    Returns:
        split -> {images, candidates, pairs}, for the data sheet.
    """
    counts: dict[str, dict[str, int]] = {}
    for split in tri.SPLITS:
        listed = tri.list_images(params, split)
        rendered = _render(params, listed, split, progress)
        files: dict[str, bool] = {split: params.biased and split == "train"}
        if files[split]:
            files["probe"] = False
        for file, biased in files.items():
            pairs = tri.draw_pairs(params, split, biased)
            _write(out_dir / f"{file}.parquet", layout(name, file, params), params, listed, rendered, pairs, progress)
            counts[file] = {"images": len(listed.names), "candidates": pairs.candidates, "pairs": len(pairs.rows)}
    return counts


def _render(
    params: tri.Generate, listed: tri.ImageList, split: str, progress: Callable[[str, int, int], object]
) -> np.ndarray:
    done = 0

    def report(finished: int) -> None:
        nonlocal done
        done += finished
        progress(f"{split}: images", done, len(listed.names))

    return tri.render_images(params, listed, report)


def _write(
    path: Path,
    schema: pa.Schema,
    params: tri.Generate,
    listed: tri.ImageList,
    rendered: np.ndarray,
    pairs: tri.Pairs,
    progress: Callable[[str, int, int], object],
) -> None:
    # bytes are stored as 32-bit integers unless a dictionary holds the 256 of them
    columns = [f"{m}.list.element" for m in MODALITIES] + ["label"]
    done = 0
    with replacing(path) as temp, pq.ParquetWriter(temp, schema, compression="zstd", use_dictionary=columns) as writer:
        for batch in _batches(schema, params, listed, rendered, pairs):
            writer.write_batch(batch)
            done += batch.num_rows
            progress(f"{path.stem}: pairs", done, len(pairs.rows))
        if len(pairs.rows) == 0:
            writer.write_table(schema.empty_table())


def _batches(
    schema: pa.Schema, params: tri.Generate, listed: tri.ImageList, rendered: np.ndarray, pairs: tri.Pairs
) -> Iterator[pa.RecordBatch]:
    labels = tri.task_labels(params, listed, pairs)
    names = [name.removesuffix(".png") for name in listed.names]
    for start in range(0, len(pairs.rows), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        first, second = pairs.rows[rows].T
        ids = [f"{names[a]}+{names[b]}" for a, b in zip(first, second, strict=True)]
        columns = [pa.array(ids, pa.string()), pa.array(labels["share"][rows])]
        for modality, of in zip(MODALITIES, (first, second), strict=True):
            flat = pa.array(rendered[of].reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=schema.field(modality).type))
        columns += [pa.array(labels[task][rows]) for task in tri.TASKS]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)

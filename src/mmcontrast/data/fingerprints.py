"""Short vectors of images and texts, in which near duplicates can be looked for.

P observations in a split, f numbers of a fingerprint.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmcontrast import paths
from mmcontrast.config import Modality
from mmcontrast.data import leaks

ROWS_AT_ONCE = 256
THUMBNAIL = 8
TEXT_BINS = 256


@dataclass(frozen=True)
class _Observations:
    """Of one modality in one split: `prints`, (P, f) float32, and the name of each observation."""

    prints: np.ndarray
    names: list[str]


def near_duplicates(out_dir: Path, modalities: Mapping[str, Modality]) -> dict[str, Any]:
    """What `leaks.near_duplicates` finds between the fingerprints of stored splits.

    Rows are compared as wholes. Where an instance has several observations of a modality, all observations are
    compared one by one, each modality by itself, and those with equal fingerprints are counted too: two instances may
    share a drawing or a caption without being equal. The observation at place k of instance a has the name 'a[k]'.

    An image's fingerprint is its mean colours in a grid of 8 x 8; a text's the hashed counts of its triples of letters
    and digits, without case, accents and punctuation, so that equal means equal in wording; a vector is its own.

    Args:
        out_dir: holds train.parquet, val.parquet and test.parquet in the layout of `data.table`.

    Returns:
        As `leaks.near_duplicates`; of observations, pairs of splits have the modality in their names, 'train and test
        (observations of image)', and `equal` and `threshold` of their own.
    """
    taken = {
        m: {split: _observations(out_dir / f"{split}.parquet", m, spec) for split in paths.SPLITS}
        for m, spec in modalities.items()
    }
    if not any(spec.multifold for spec in modalities.values()):
        parts, names = _joined(next(iter(taken.values())))
        inputs = {m: _all_prints(of) for m, of in taken.items()}
        return leaks.near_duplicates(inputs, parts, names)
    found: dict[str, Any] = {"share": leaks.NEAR_SHARE, "pairs": {}}
    for m, of in taken.items():
        parts, names = _joined(of)
        inputs = {m: _all_prints(of)}
        equal = leaks.duplicates_across({split: leaks.row_keys(inputs, rows) for split, rows in parts.items()})
        near = leaks.near_duplicates(inputs, parts, names)
        for pair, counted in near.get("pairs", {}).items():
            more = {"equal": equal.get(pair, 0), "threshold": near["threshold"]}
            found["pairs"][f"{pair} (observations of {m})"] = counted | more
    return found


def _joined(of: Mapping[str, _Observations]) -> tuple[dict[str, np.ndarray], list[str]]:
    """split -> rows of the joined splits, and all names."""
    ends = np.cumsum([len(seen.names) for seen in of.values()])
    starts = [0, *ends[:-1]]
    parts = {split: np.arange(start, end) for split, start, end in zip(of, starts, ends, strict=True)}
    return parts, [name for seen in of.values() for name in seen.names]


def _all_prints(of: Mapping[str, _Observations]) -> np.ndarray:
    """(P, f) of all splits; one without rows may not know f."""
    return np.concatenate([seen.prints for seen in of.values() if seen.names])


def _observations(path: Path, modality: str, spec: Modality) -> _Observations:
    prints, names = [], []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["id", modality]):
            ids, column = batch["id"].to_pylist(), batch[modality]
            if spec.multifold:
                counts = np.diff(column.offsets.to_numpy())
                ids = [f"{owner}[{k}]" for owner, n in zip(ids, counts, strict=True) for k in range(n)]
                column = column.flatten()
            names += ids
            prints.append(_fingerprints(column, spec))
    return _Observations(np.concatenate(prints) if prints else np.zeros((0, 1), dtype=np.float32), names)


def _fingerprints(column: pa.Array, spec: Modality) -> np.ndarray:
    """(P, f) float32."""
    if spec.kind == "text":
        return np.array([_text(text) for text in column.to_pylist()], dtype=np.float32).reshape(-1, TEXT_BINS)
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), *spec.shape)
    return thumbnails(values) if spec.kind == "image" else values.astype(np.float32)


def thumbnails(x_PCHW: np.ndarray) -> np.ndarray:
    """(P, C * h * w) float32 mean colours of a grid of h x w cells, 8 x 8 or as many as there are pixels."""
    height, width = x_PCHW.shape[2:]
    rows = np.linspace(0, height, min(THUMBNAIL, height) + 1).astype(int)
    columns = np.linspace(0, width, min(THUMBNAIL, width) + 1).astype(int)
    sums = np.add.reduceat(x_PCHW.astype(np.float32), rows[:-1], axis=2)
    sums = np.add.reduceat(sums, columns[:-1], axis=3)
    sizes_hw = np.diff(rows)[:, None] * np.diff(columns)
    return (sums / sizes_hw).reshape(len(x_PCHW), -1).astype(np.float32)


def _text(text: str) -> np.ndarray:
    """(TEXT_BINS,) float32 counts."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    words = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c)).split()
    padded = f" {' '.join(words)} "
    counts = np.zeros(TEXT_BINS, dtype=np.float32)
    for start in range(max(1, len(padded) - 2)):
        counts[zlib.crc32(padded[start : start + 3].encode()) % TEXT_BINS] += 1
    return counts

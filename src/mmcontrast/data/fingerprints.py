"""Short vectors of images, sequences and texts, in which near duplicates can be looked for.

P observations in a split, f numbers of a fingerprint.
"""

from __future__ import annotations

import hashlib
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmcontrast import paths
from mmcontrast.config import Modality
from mmcontrast.data import leaks
from mmcontrast.data.columns import numbers, spans
from mmcontrast.data.parquet import stored_batches
from mmcontrast.data.pictures import decode

THUMBNAIL = 8
TEXT_BINS = 256
SPANS = 8
MAX_PRINT_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class _Observations:
    """Of one modality in one split.

    Attributes:
        prints: (P, f) float32, of every observation or, where there are many, of every second, fourth, ... one.
        names: P names. keys: a digest of the fingerprint of every observation.
    """

    prints: np.ndarray
    names: list[str]
    keys: list[bytes]


def near_duplicates(out_dir: Path, modalities: Mapping[str, Modality]) -> dict[str, Any]:
    """What `leaks.near_duplicates` finds between the fingerprints of stored splits.

    Rows are compared as wholes. Where an instance has several observations of a modality, all observations are
    compared one by one, each modality by itself, and those with equal fingerprints are counted too: two instances may
    share a drawing or a caption without being equal. The observation at place k of instance a has the name 'a[k]'.

    An image's fingerprint is its mean colours in a grid of 8 x 8; a sequence's the means of eight equal spans of its
    steps; a text's the hashed counts of its triples of letters and digits, without case, accents and punctuation, so
    that equal means equal in wording; a vector is its own. Of what an instance lacks it is zeros. Of very many rows
    some are compared, evenly spread.

    Args:
        out_dir: holds train.parquet, val.parquet and test.parquet in the layout of `data.table`.

    Returns:
        As `leaks.near_duplicates`; of observations, pairs of splits have the modality in their names, 'train and test
        (observations of image)', and `equal` and `threshold` of their own.
    """
    apart = any(spec.multifold for spec in modalities.values())
    widths = {m: _width(spec) for m, spec in modalities.items()}
    # rows that are compared as wholes are thinned alike
    most = {m: _most(width if apart else sum(widths.values())) for m, width in widths.items()}
    taken = {
        m: {split: _observations(out_dir / f"{split}.parquet", m, spec, most[m]) for split in paths.SPLITS}
        for m, spec in modalities.items()
    }
    if not apart:
        parts, names = _joined(next(iter(taken.values())))
        inputs = {m: _all_prints(of) for m, of in taken.items()}
        return leaks.near_duplicates(inputs, parts, names)
    found: dict[str, Any] = {"share": leaks.NEAR_SHARE, "pairs": {}}
    for m, of in taken.items():
        parts, names = _joined(of)
        inputs = {m: _all_prints(of)}
        equal = leaks.duplicates_across({split: seen.keys for split, seen in of.items()})
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


def _width(spec: Modality) -> int:
    """f of a modality's fingerprints."""
    if spec.kind == "text":
        return TEXT_BINS
    if spec.kind == "image":
        channels, height, width = spec.shape
        return channels * min(THUMBNAIL, height) * min(THUMBNAIL, width)
    return SPANS * spec.shape[1] if spec.kind == "sequence" else spec.shape[0]


def _most(width: int) -> int:
    """How many fingerprints of so many numbers are held at a time."""
    return max(2, min(2 * leaks.MAX_NEAR_ROWS, MAX_PRINT_BYTES // (4 * width)))


def _observations(path: Path, modality: str, spec: Modality, most: int) -> _Observations:
    """Fingerprints of a stored split, of no more than `most` observations."""
    prints: list[np.ndarray] = []
    names: list[str] = []
    keys: list[bytes] = []
    stride = 1
    for batch in stored_batches(path, ["id", modality]):
        ids, column = batch["id"].to_pylist(), batch[modality]
        if spec.multifold:
            counts = np.diff(column.offsets.to_numpy())
            ids = [f"{owner}[{k}]" for owner, n in zip(ids, counts, strict=True) for k in range(n)]
            column = column.flatten()
        found = _fingerprints(column, spec)
        kept = range(-len(keys) % stride, len(ids), stride)
        # adding 0 makes one of the two zeros
        keys += [hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest() for row in found]
        prints.append(found[kept.start :: stride])
        names += [ids[i] for i in kept]
        while len(names) > most:
            prints, names, stride = [np.concatenate(prints)[::2]], names[::2], 2 * stride
    return _Observations(np.concatenate(prints) if prints else np.zeros((0, 1), dtype=np.float32), names, keys)


def _fingerprints(column: pa.Array, spec: Modality) -> np.ndarray:
    """(P, f) float32; zeros where there is nothing."""
    there = np.flatnonzero(column.is_valid())
    found = _of_values(column.drop_null(), spec)
    if len(there) == len(column):
        return found
    out = np.zeros((len(column), _width(spec)), np.float32)
    out[there] = found
    return out


def _of_values(column: pa.Array, spec: Modality) -> np.ndarray:
    """(P, f) float32."""
    if spec.kind == "text":
        return np.array([_text(text) for text in column.to_pylist()], dtype=np.float32).reshape(-1, TEXT_BINS)
    if spec.encoded:
        images = [decode(raw, spec.shape)[None] for raw in column.to_pylist()]
        return np.concatenate([thumbnails(x) for x in images]) if images else thumbnails(np.zeros((0, *spec.shape)))
    if spec.kind == "sequence":
        steps = numbers(column)
        means = [_means(steps[start:end]) for start, end in spans(column)]
        return np.array(means, np.float32).reshape(-1, SPANS * spec.shape[1])
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), *spec.shape)
    return thumbnails(values) if spec.kind == "image" else values.astype(np.float32)


def _means(x_Td: np.ndarray) -> np.ndarray:
    """(SPANS * d,) means of equal spans of the steps; a step that lies in two counts in each by its part."""
    parts = np.repeat(x_Td, SPANS, axis=0).reshape(SPANS, len(x_Td), -1)
    return parts.mean(axis=1).reshape(-1)


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

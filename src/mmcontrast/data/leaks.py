"""What must not cross splits: ids, groups and equal rows. Near duplicates are reported.

Near duplicates are looked for in fingerprints, short vectors of images, sequences and texts.

N rows of a split, d features of a modality, F features of all modalities, P observations, f numbers of a fingerprint.
"""

import hashlib
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mmcontrast import paths
from mmcontrast.config import Modality
from mmcontrast.data import scaling
from mmcontrast.data.parquet import stored_batches
from mmcontrast.data.pictures import decode
from mmcontrast.data.table import numbers, spans
from mmcontrast.errors import DataError

# Distances of independent rows lie close together: that one is a tenth of the usual distance to the nearest neighbour
# has a chance of about 0.1 ** (dimension of the data), below 1e-5 from five dimensions on. A copy with noise has it.
NEAR_SHARE = 0.1
MAX_NEAR_ROWS = 20_000
BLOCK_ROWS = 512
NOTHING = hashlib.blake2b(b"nothing", digest_size=16, person=b"null").digest()
THUMBNAIL = 8
TEXT_BINS = 256
SPANS = 8
MAX_PRINT_BYTES = 64 * 1024**2


def duplicates_across(keys: Mapping[str, Sequence[bytes]]) -> dict[str, int]:
    """Number of rows whose key an earlier split holds too.

    `keys`: split -> a key per row, in the order train, val, test.

    Returns:
        "split and other split" -> rows of the latter that the former holds; only pairs that share any.
    """
    counted = {}
    for one, other in combinations(keys, 2):
        held = set(keys[one])
        if shared := sum(key in held for key in keys[other]):
            counted[f"{one} and {other}"] = shared
    return counted


def repeats(keys: Mapping[str, Sequence[bytes]], labels: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Numbers, if not 0, of rows that equal an earlier one "within train", or any "with another label".

    `keys`: split -> a key per row. `labels`: split -> the labels of the same rows.
    """
    first: dict[bytes, bytes] = {}
    rows = [(key, label.tobytes()) for split, of in keys.items() for key, label in zip(of, labels[split], strict=True)]
    torn = {key for key, label in rows if first.setdefault(key, label) != label}
    within = len(keys["train"]) - len(set(keys["train"]))
    found = {"within train": within, "with another label": sum(key in torn for key, _ in rows)}
    return {what: n for what, n in found.items() if n}


def check_duplicates(name: str, found: Mapping[str, int], accepted: Mapping[str, int]) -> None:
    """Equal rows in two splits are an error, but for those that params/ says the data are known to hold.

    Raises DataError: more, or fewer, than accepted.
    """
    if dict(found) != dict(accepted):
        duplicates = ", ".join(f"{pair}: {n}" for pair, n in found.items())
        raise DataError(
            f"{name}: rows equal in every feature of every modality: {_told(found)}; params/datasets/{name}.yaml: "
            f"duplicates accepts {_told(accepted)}. A copy of a test row in train is a leak: look for its cause; where "
            f"the published data hold these copies, write `duplicates: {{{duplicates}}}`"
        )


def near_rows(inputs: Mapping[str, np.ndarray], parts: Mapping[str, np.ndarray], ids: Sequence[str]) -> dict[str, Any]:
    """Rows of one split that lie suspiciously close to one of an earlier split, without being equal.

    Distance: each feature in units of its spread over train, each modality's mean square over its features, summed.
    Near: closer than NEAR_SHARE of the median distance of a training row to the nearest other one.

    `inputs`: modality -> (N, d). `parts`: split -> rows. `ids`: N names.

    Returns:
        threshold, and by pair of splits the count and the closest pair; {} where a split is too small to say.
    """
    taken = {
        split: rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_NEAR_ROWS)).astype(np.int64)]
        for split, rows in parts.items()
        if len(rows)
    }
    if len(taken.get("train", ())) < 2 or len(taken) < 2:
        return {}
    scalers = {m: scaling.fit(x[parts["train"]], "standard") for m, x in inputs.items()}
    vectors = {
        split: np.concatenate([scalers[m](x[rows]) / np.sqrt(x.shape[1]) for m, x in inputs.items()], axis=1)
        for split, rows in taken.items()
    }
    own_N, _ = _nearest(vectors["train"], vectors["train"])
    if not np.isfinite(own_N).any():
        return {}
    threshold = NEAR_SHARE * float(np.median(own_N[np.isfinite(own_N)]))
    # distances have four digits: more would differ between machines
    out: dict[str, Any] = {"threshold": float(f"{threshold:.4g}"), "share": NEAR_SHARE, "pairs": {}}
    for one, other in combinations(taken, 2):
        distance_N, nearest_N = _nearest(vectors[other], vectors[one])
        apart = np.flatnonzero(np.isfinite(distance_N))
        if len(apart) == 0:
            continue
        i = int(apart[np.argmin(distance_N[apart])])
        j = int(nearest_N[i])
        out["pairs"][f"{one} and {other}"] = {
            "count": int((distance_N < threshold).sum()),
            "of": len(distance_N),
            "closest": [ids[taken[one][j]], ids[taken[other][i]]],
            "distance": float(f"{np.linalg.norm(vectors[other][i] - vectors[one][j]):.4g}"),
        }
    return out


def _nearest(some_NF: np.ndarray, all_MF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to, and row of, the nearest one that is not equal, block by block; equal rows are infinitely far."""
    distance_N, nearest_N = np.empty(len(some_NF)), np.empty(len(some_NF), dtype=np.int64)
    square_M = (all_MF * all_MF).sum(axis=1)
    for start in range(0, len(some_NF), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        sizes_bM = (some_NF[block] ** 2).sum(axis=1)[:, None] + square_M
        square_bM = sizes_bM - 2 * some_NF[block] @ all_MF.T
        # the expansion leaves rounding where rows are equal
        square_bM = np.where(square_bM <= 1e-12 * sizes_bM, np.inf, square_bM)
        nearest_N[block] = square_bM.argmin(axis=1)
        distance_N[block] = np.sqrt(square_bM.min(axis=1))
    return distance_N, nearest_N


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} in {pair}" for pair, n in counts.items()) or "none"


def stored_rows(path: Path, modalities: Sequence[str]) -> tuple[list[str], list[bytes]]:
    """N ids, and N keys that are equal where every cell of every modality is.

    `path`: a file in the layout of `data.table`, just written here.
    """
    ids: list[str] = []
    keys: list[bytes] = []
    for batch in stored_batches(path, ["id", *modalities]):
        ids += batch["id"].to_pylist()
        cells = [_cells(batch[name]) for name in modalities]
        keys += [_digest(b"".join(row)) for row in zip(*cells, strict=True)]
    return ids, keys


def _cells(column: pa.Array) -> list[bytes]:
    """A digest of each cell, so that joined cells can be read in one way alone."""
    if column.null_count:
        found = iter(_cells(column.drop_null()))
        return [next(found) if there else NOTHING for there in column.is_valid().to_pylist()]
    if pa.types.is_fixed_size_list(column.type):
        rows = numbers(column)
        # adding 0 makes one of the two zeros
        return [_digest(row.tobytes()) for row in (rows if rows.dtype == np.uint8 else rows + 0)]
    if pa.types.is_list(column.type):
        if pa.types.is_fixed_size_list(column.type.value_type):
            rows = numbers(column)
            return [_digest(rows[start:end].tobytes()) for start, end in spans(column)]
        inner = _cells(column.flatten())
        return [_digest(b"".join(inner[start:end])) for start, end in spans(column)]
    return [_digest(x.encode() if isinstance(x, str) else x) for x in column.to_pylist()]


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


class _Observations(NamedTuple):
    """P fingerprints of a split with their names, where there are many of every second, and a digest of every one."""

    prints: np.ndarray
    names: list[str]
    keys: list[bytes]


def near_duplicates(out_dir: Path, modalities: Mapping[str, Modality]) -> dict[str, Any]:
    """What `near_rows` finds between the fingerprints of stored splits.

    Rows are compared as wholes. Where an instance has several observations of a modality, all observations are
    compared one by one, each modality by itself, and those with equal fingerprints are counted too: two instances may
    share a drawing or a caption without being equal. The observation at place k of instance a has the name 'a[k]'.

    An image's fingerprint is its mean colours in a grid of 8 x 8; a sequence's the means of eight equal spans of its
    steps; a text's the hashed counts of its triples of letters and digits, without case, accents and punctuation, so
    that equal means equal in wording; a vector is its own. Of what an instance lacks it is zeros. Of very many rows
    some are compared, evenly spread.

    `out_dir`: holds train.parquet, val.parquet and test.parquet in the layout of `data.table`.

    Returns:
        As `near_rows`; of observations, pairs of splits have the modality in their names, 'train and test
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
        return _near(taken)
    found: dict[str, Any] = {"share": NEAR_SHARE, "pairs": {}}
    for m, of in taken.items():
        equal, near = duplicates_across({split: seen.keys for split, seen in of.items()}), _near({m: of})
        for pair, counted in near.get("pairs", {}).items():
            more = {"equal": equal.get(pair, 0), "threshold": near["threshold"]}
            found["pairs"][f"{pair} (observations of {m})"] = counted | more
    return found


def _near(taken: Mapping[str, Mapping[str, _Observations]]) -> dict[str, Any]:
    """`near_rows` of modality -> split -> observations; a split without rows may not know f."""
    of = next(iter(taken.values()))
    ends = np.cumsum([len(seen.names) for seen in of.values()])
    parts = {split: np.arange(start, end) for split, start, end in zip(of, [0, *ends[:-1]], ends, strict=True)}
    inputs = {m: np.concatenate([s.prints for s in of.values() if s.names]) for m, of in taken.items()}
    return near_rows(inputs, parts, [name for seen in of.values() for name in seen.names])


def _width(spec: Modality) -> int:
    if spec.kind == "text":
        return TEXT_BINS
    if spec.kind == "image":
        channels, height, width = spec.shape
        return channels * min(THUMBNAIL, height) * min(THUMBNAIL, width)
    return SPANS * spec.shape[1] if spec.kind == "sequence" else spec.shape[0]


def _most(width: int) -> int:
    """How many fingerprints of so many numbers are held at a time."""
    return max(2, min(2 * MAX_NEAR_ROWS, MAX_PRINT_BYTES // (4 * width)))


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
        keys += [_digest((row + 0.0).tobytes()) for row in found]
        prints.append(found[kept.start :: stride])
        names += [ids[i] for i in kept]
        while len(names) > most:
            prints, names, stride = [np.concatenate(prints)[::2]], names[::2], 2 * stride
    return _Observations(np.concatenate(prints) if prints else np.zeros((0, 1), dtype=np.float32), names, keys)


def _fingerprints(column: pa.Array, spec: Modality) -> np.ndarray:
    """(P, f) float32; zeros where there is nothing."""
    there = column.drop_null()
    if spec.kind == "text":
        found = np.array([_text(text) for text in there.to_pylist()], dtype=np.float32).reshape(-1, TEXT_BINS)
    elif spec.encoded:
        # one at a time, as all of them decoded may be large
        images = [thumbnails(decode(raw, spec.shape)[None]) for raw in there.to_pylist()]
        found = np.concatenate([np.zeros((0, _width(spec)), np.float32), *images])
    elif spec.kind == "sequence":
        steps = numbers(there)
        means = [_means(steps[start:end]) for start, end in spans(there)]
        found = np.array(means, np.float32).reshape(-1, _width(spec))
    else:
        values = there.flatten().to_numpy(zero_copy_only=False).reshape(len(there), *spec.shape)
        found = thumbnails(values) if spec.kind == "image" else values.astype(np.float32)
    if len(there) == len(column):
        return found
    out = np.zeros((len(column), _width(spec)), np.float32)
    out[np.flatnonzero(column.is_valid())] = found
    return out


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
    plain = unicodedata.normalize("NFKD", text.casefold())
    words = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c)).split()
    padded = f" {' '.join(words)} "
    counts = np.zeros(TEXT_BINS, dtype=np.float32)
    for start in range(max(1, len(padded) - 2)):
        counts[zlib.crc32(padded[start : start + 3].encode()) % TEXT_BINS] += 1
    return counts

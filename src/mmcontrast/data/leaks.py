"""What must not cross splits: rows that are equal in every modality. N rows of a split."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmcontrast.data.parquet import stored_batches
from mmcontrast.data.table import numbers, spans
from mmcontrast.errors import DataError

NOTHING = hashlib.blake2b(b"nothing", digest_size=16, person=b"null").digest()


def duplicates_across(keys: Mapping[str, Sequence[bytes]]) -> dict[str, int]:
    """Rows whose key an earlier split holds too: "split and later split" -> how many; only pairs that share any."""
    counted = {}
    for one, other in combinations(keys, 2):
        held = set(keys[one])
        if shared := sum(key in held for key in keys[other]):
            counted[f"{one} and {other}"] = shared
    return counted


def repeats(keys: Mapping[str, Sequence[bytes]], labels: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Numbers, if not 0, of rows that equal an earlier one "within train", or any "with another label"."""
    first: dict[bytes, bytes] = {}
    rows = [(key, label.tobytes()) for split, of in keys.items() for key, label in zip(of, labels[split], strict=True)]
    torn = {key for key, label in rows if first.setdefault(key, label) != label}
    within = len(keys["train"]) - len(set(keys["train"]))
    found = {"within train": within, "with another label": sum(key in torn for key, _ in rows)}
    return {what: n for what, n in found.items() if n}


def check_duplicates(name: str, found: Mapping[str, int], accepted: Mapping[str, int]) -> None:
    """Raise DataError unless two splits have as many rows in common as params/ says the data are known to have."""
    if dict(found) != dict(accepted):
        duplicates = ", ".join(f"{pair}: {n}" for pair, n in found.items())
        raise DataError(
            f"{name}: rows equal in every feature of every modality: {_told(found)}; params/datasets/{name}.yaml: "
            f"duplicates accepts {_told(accepted)}. A copy of a test row in train is a leak: look for its cause; where "
            f"the published data hold these copies, write `duplicates: {{{duplicates}}}`"
        )


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} in {pair}" for pair, n in counts.items()) or "none"


def stored_rows(path: Path, modalities: Sequence[str]) -> tuple[list[str], list[bytes]]:
    """N ids of a split just written here, and N keys that are equal where every cell of every modality is."""
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

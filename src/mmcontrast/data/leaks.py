"""What must not cross splits: ids, groups and equal rows. Near duplicates are reported.

N rows of a split, d features of a modality, F features of all modalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mmcontrast.data import scaling
from mmcontrast.errors import DataError

# Distances of independent rows lie close together: that one is a tenth of the usual distance to the nearest neighbour
# has a chance of about 0.1 ** (dimension of the data), below 1e-5 from five dimensions on. A copy with noise has it.
NEAR_SHARE = 0.1
MAX_NEAR_ROWS = 20_000
BLOCK_ROWS = 512


def check_apart(name: str, what: str, by_split: Mapping[str, Sequence[str]]) -> None:
    """No value may be in two splits.

    Args:
        what: what the values are, in the singular: id, patient, family. by_split: split -> a value per row.

    Raises:
        DataError: names the first such value, its splits, and how many there are.
    """
    for (one, first), (other, second) in combinations(by_split.items(), 2):
        if shared := set(first).intersection(second):
            raise DataError(
                f"{name}: {what} '{min(shared)}' is in {one} and in {other} ({len(shared)} such); what is tested on "
                "must not be trained on: prepare again, with a split that keeps them together"
            )


def duplicates_across(keys: Mapping[str, Sequence[bytes]]) -> dict[str, int]:
    """Number of rows whose key an earlier split holds too.

    Args:
        keys: split -> a key per row, in the order train, val, test.

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
    """Numbers of rows that equal another one; only those that are not 0.

    Args:
        keys: split -> a key per row. labels: split -> the labels of the same rows.

    Returns:
        "within train": rows of train that an earlier one equals. "with another label": rows of any split that equal a
        row whose label differs, which nothing can tell apart.
    """
    first: dict[bytes, bytes] = {}
    rows = [(key, label.tobytes()) for split, of in keys.items() for key, label in zip(of, labels[split], strict=True)]
    torn = {key for key, label in rows if first.setdefault(key, label) != label}
    within = len(keys["train"]) - len(set(keys["train"]))
    found = {"within train": within, "with another label": sum(key in torn for key, _ in rows)}
    return {what: n for what, n in found.items() if n}


def check_duplicates(name: str, found: Mapping[str, int], accepted: Mapping[str, int]) -> None:
    """Equal rows in two splits are an error, but for those that params/ says the data are known to hold.

    Raises:
        DataError: more, or fewer, than accepted.
    """
    if dict(found) != dict(accepted):
        raise DataError(
            f"{name}: rows equal in every feature of every modality: {_told(found)}; params/datasets/{name}.yaml: "
            f"duplicates accepts {_told(accepted)}. A copy of a test row in train is a leak: look for its cause; where "
            f"the published data hold these copies, write `duplicates: {_yaml(found)}`"
        )


def near_duplicates(
    inputs: Mapping[str, np.ndarray], parts: Mapping[str, np.ndarray], ids: Sequence[str]
) -> dict[str, Any]:
    """Rows of one split that lie suspiciously close to one of an earlier split, without being equal.

    Distance: each feature in units of its spread over train, each modality's mean square over its features, summed.
    Near: closer than NEAR_SHARE of the median distance of a training row to the nearest other one.

    Args:
        inputs: modality -> (N, d). parts: split -> rows. ids: N names.

    Returns:
        threshold, and by pair of splits the count and the closest pair; {} where a split is too small to say.
    """
    taken = {split: _thinned(rows) for split, rows in parts.items() if len(rows)}
    if len(taken.get("train", ())) < 2 or len(taken) < 2:
        return {}
    vectors = dict(zip(taken, _in_units(inputs, parts["train"], list(taken.values())), strict=True))
    own_N, _ = _nearest(vectors["train"], vectors["train"])
    if not np.isfinite(own_N).any():
        return {}
    threshold = NEAR_SHARE * float(np.median(own_N[np.isfinite(own_N)]))
    out: dict[str, Any] = {"threshold": _rounded(threshold), "share": NEAR_SHARE, "pairs": {}}
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
            "distance": _rounded(float(np.linalg.norm(vectors[other][i] - vectors[one][j]))),
        }
    return out


def _in_units(inputs: Mapping[str, np.ndarray], train: np.ndarray, parts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """(N, F) float64 of each part; the squared distance of two rows is that of `near_duplicates`."""
    scalers = {m: scaling.fit(x[train], "standard") for m, x in inputs.items()}
    for rows in parts:
        yield np.concatenate([scalers[m](x[rows]) / np.sqrt(x.shape[1]) for m, x in inputs.items()], axis=1)


def _squares(some_NF: np.ndarray, all_MF: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared distances of blocks of rows to all others; equal rows are infinitely far."""
    square_M = (all_MF * all_MF).sum(axis=1)
    for start in range(0, len(some_NF), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        square_bM = (some_NF[block] ** 2).sum(axis=1)[:, None] + square_M - 2 * some_NF[block] @ all_MF.T
        # the expansion leaves rounding where rows are equal
        floor_bM = 1e-12 * ((some_NF[block] ** 2).sum(axis=1)[:, None] + square_M)
        yield block, np.where(square_bM <= floor_bM, np.inf, square_bM)


def _nearest(some_NF: np.ndarray, all_MF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to, and row of, the nearest one that is not equal."""
    distance_N, nearest_N = np.empty(len(some_NF)), np.empty(len(some_NF), dtype=np.int64)
    for block, square_bM in _squares(some_NF, all_MF):
        nearest_N[block] = square_bM.argmin(axis=1)
        distance_N[block] = np.sqrt(square_bM.min(axis=1))
    return distance_N, nearest_N


def _thinned(rows: np.ndarray) -> np.ndarray:
    """At most MAX_NEAR_ROWS of them, evenly spread."""
    if len(rows) <= MAX_NEAR_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MAX_NEAR_ROWS).astype(np.int64)]


def _rounded(x: float) -> float:
    """Four digits: more would differ between machines."""
    return float(f"{x:.4g}")


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} in {pair}" for pair, n in counts.items()) or "none"


def _yaml(counts: Mapping[str, int]) -> str:
    return "{" + ", ".join(f"{pair}: {n}" for pair, n in counts.items()) + "}"

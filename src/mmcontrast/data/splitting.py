"""Stratified splits by seed, in numpy alone, and what no split may have.

Every class is shuffled by a generator of its own (seed, class), so that one class's rows never move another's. Rows are
dealt by largest remainder within each class; the first part always gets at least one row of each class.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from mmcontrast.errors import DataError


def stratified(labels_N: np.ndarray, shares: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Deal N rows, each into one part, class by class: part -> sorted row indices.

    `labels_N`: int64 class indices. `shares` sum to 1; the first part keeps at least one row of each class. Equal
    labels, shares and seed give equal parts.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in shares}
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        shuffled = np.random.default_rng([seed, int(label)]).permutation(rows)
        start = 0
        for name, count in zip(shares, _counts(len(rows), list(shares.values())), strict=True):
            parts[name].append(shuffled[start : start + count])
            start += count
    return {name: np.sort(np.concatenate(rows)) if rows else np.zeros(0, int) for name, rows in parts.items()}


def _counts(n: int, shares: list[float]) -> list[int]:
    """n rows by largest remainder; ties go to the earlier part, and the first part is never empty."""
    exact = [n * share for share in shares]
    counts = [int(np.floor(x + 1e-9)) for x in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: n - sum(counts)]:
        counts[i] += 1
    if counts[0] == 0:
        counts[int(np.argmax(counts))] -= 1
        counts[0] = 1
    return counts


def by_group(labels: Sequence[int], groups: Sequence[str], shares: Mapping[str, float], seed: int) -> list[str]:
    """A part for each of N rows: groups whole, and the shares kept within each class as well as groups allow.

    A group goes where the class of its first row lacks most, large groups first, equal ones in an order drawn by
    `seed`.
    """
    members: dict[str, list[int]] = {}
    for i, name in enumerate(groups):
        members.setdefault(name, []).append(i)
    names = sorted(members)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(members))]
    order.sort(key=lambda name: -len(members[name]))
    sizes = Counter(labels)
    lacking = {c: {s: share * n for s, share in shares.items()} for c, n in sizes.items()}
    out = [""] * len(labels)
    for name in order:
        lacks = lacking[labels[members[name][0]]]
        part = max(lacks, key=lambda s: lacks[s])
        lacks[part] -= len(members[name])
        for i in members[name]:
            out[i] = part
    return out


def refuse_unseen(dataset_name: str, classes: list[str], train_N: np.ndarray, others: Mapping[str, np.ndarray]) -> None:
    """Raise DataError, with label and split, where train lacks a class of another: no method could ever name it."""
    seen = set(np.unique(train_N).tolist())
    for split, labels in others.items():
        for label in np.unique(labels).tolist():
            if label not in seen:
                name = classes[label] if 0 <= label < len(classes) else "not a class"
                count = int(np.sum(labels == label))
                raise DataError(
                    f"{dataset_name}: label {label} ({name}) is in the {split} split ({count} rows) but in no row of "
                    "train; use a split in which train has every class"
                )


def check_apart(name: str, what: str, by_split: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError where a value is in two splits. `what`: its name in the singular, such as id or patient."""
    for (one, first), (other, second) in combinations(by_split.items(), 2):
        if shared := set(first).intersection(second):
            raise DataError(
                f"{name}: {what} '{min(shared)}' is in {one} and in {other} ({len(shared)} such); what is tested on "
                f"must not be trained on; run `mmcontrast data prepare {name}` with a split that keeps them together"
            )

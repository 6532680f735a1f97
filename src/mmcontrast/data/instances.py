"""What a dataset's reader hands over, and the checks every dataset passes before it is written.

N instances, d features of a modality.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmcontrast.config import Dataset, PublishedSplit
from mmcontrast.errors import DataError


@dataclass(frozen=True)
class Instances:
    """All instances of a dataset, before splitting and scaling.

    Attributes:
        ids: N names.
        labels: (N,) int64 class indices.
        inputs: modality -> (N, d) float64.
        feature_names: modality -> d names.
        splits: N split names where the data came with a split, else None.
        tasks: task -> (N,) int64 class indices, further labels of the same instances.
        groups: N names of what must not be split, such as the patient; None = every instance is its own. Where the
            dataset says `scenes`, they are the scenes.
    """

    ids: list[str]
    labels: np.ndarray
    inputs: dict[str, np.ndarray]
    feature_names: dict[str, list[str]]
    splits: list[str] | None = None
    tasks: dict[str, np.ndarray] = field(default_factory=dict)
    groups: list[str] | None = None


@dataclass(frozen=True)
class Written:
    """What a reader tells that writes its splits itself, because they do not fit in memory or are no vectors.

    Attributes:
        labels: split -> (N,) int64 class indices; train, val and test are all there.
        tasks: split -> task -> (N,) int64 class indices.
        report: counts and names of what was left out, for the datasheet.
        duplicates: pair of splits -> instances they share, where more is known than that cells are equal.
        groups: split -> N names of what must not be split; {} = every instance is its own.
        split_rule: how instances came into splits, where the reader decides it; else the dataset's file says.
    """

    labels: dict[str, np.ndarray]
    tasks: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    split_rule: str | None = None


def check(instances: Instances, name: str, dataset: Dataset) -> None:
    """Hold instances against the dataset's file.

    Raises:
        DataError: rows, features, labels or ids are not what params/datasets/<name>.yaml says.
    """
    where = f"params/datasets/{name}.yaml"
    n = len(instances.ids)
    if n != dataset.rows:
        raise DataError(f"{name}: {n} instances read, and {where}: rows says {dataset.rows}")
    if list(instances.inputs) != list(dataset.modalities):
        raise DataError(
            f"{name}: modalities {list(instances.inputs)} read, and {where}: modalities says {list(dataset.modalities)}"
        )
    for modality, spec in dataset.modalities.items():
        shape = instances.inputs[modality].shape
        if shape != (n, *spec.shape):
            raise DataError(f"{name}: modality '{modality}': shape {shape} read, {(n, *spec.shape)} expected ({where})")
    _check_ids(instances, name)
    if instances.groups is not None and len(instances.groups) != n:
        raise DataError(f"{name}: {len(instances.groups)} groups for {n} instances")
    if dataset.scenes is not None and instances.groups is None:
        raise DataError(f"{name}: {where}: scenes says '{dataset.scenes}', and the reader gives no groups; remove it")
    _check_labels(instances.labels, name, dataset.classes)
    if list(instances.tasks) != list(dataset.tasks):
        raise DataError(f"{name}: tasks {list(instances.tasks)} read, and {where}: tasks says {list(dataset.tasks)}")
    for task, labels_N in instances.tasks.items():
        if labels_N.shape != (n,):
            raise DataError(f"{name}: task '{task}': labels of shape {labels_N.shape}, expected {(n,)}")
        _check_labels(labels_N, f"{name}: task '{task}'", dataset.targets[task].names)
    if isinstance(dataset.split, PublishedSplit):
        counts = Counter(instances.splits or [])
        for split in ("train", "val", "test"):
            expected = getattr(dataset.split, split)
            if counts[split] != expected:
                raise DataError(f"{name}: {counts[split]} rows in {split}, and {where}: split says {expected}")


def _check_ids(instances: Instances, name: str) -> None:
    splits = instances.splits or [""] * len(instances.ids)
    first: dict[str, str] = {}
    for identity, split in zip(instances.ids, splits, strict=True):
        if not identity:
            raise DataError(f"{name}: an instance has an empty id")
        if identity not in first:
            first[identity] = split
        elif first[identity] != split:
            raise DataError(f"{name}: id '{identity}' is in two splits, {first[identity]} and {split}")
        else:
            raise DataError(f"{name}: id '{identity}' occurs twice")


def _check_labels(labels_N: np.ndarray, name: str, classes: list[str]) -> None:
    present = set(np.unique(labels_N).tolist())
    known = range(len(classes))
    unknown = sorted(present - set(known))
    if unknown:
        raise DataError(f"{name}: labels {unknown}; accepted are 0 to {known[-1]} ({', '.join(classes)})")
    absent = [classes[c] for c in known if c not in present]
    if absent:
        raise DataError(f"{name}: no instance of class {', '.join(absent)}; classes lists what the data holds")

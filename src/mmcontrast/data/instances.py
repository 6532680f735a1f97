"""What a dataset's reader hands over, and what is known of it when it is written.

N instances, d features of a modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmcontrast.data.scaling import Scaler


@dataclass(frozen=True)
class Instances:
    """All instances of a dataset of vectors, before splitting and scaling.

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
class Instance:
    """One instance of a dataset that is read one after another.

    Attributes:
        id: unique in the dataset.
        values: modality -> what it has of it: (d,) numbers of a vector, NaN where one is missing; (C, H, W) uint8, or
            the bytes of a file where images are encoded; (T, d) numbers of a sequence; a text; a list of these where
            the modality is multifold. None, or no entry, where the instance lacks an optional modality.
        label: class index; of several labels at once C numbers 0 or 1; of a regression R numbers.
        split: train, val or test where the data came with a split.
        tasks: task -> the same of a further label.
        group: name of what must not be split, such as the patient; None = every instance is its own. Where the dataset
            says `scenes`, it is the scene.
        weights: task -> what it counts as a case of it, of the main target under the empty name; where the dataset says
            `case_weights`.
    """

    id: str
    values: Mapping[str, Any]
    label: Any
    split: str | None = None
    tasks: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """What is known of splits that were written an instance at a time.

    Attributes:
        labels: task -> split -> labels as they are stored, (N,) int64, (N, C) uint8 or (N, R) float32; of the main
            target under the empty name.
        groups: split -> N names of what must not be split; {} = every instance is its own.
        scalers: modality -> what was fitted on train, of vectors and sequences.
        inputs: modality -> counts of what was missing, filled in, cut or empty; only what there was.
        constant: modality -> features that do not vary within train.
    """

    labels: dict[str, dict[str, np.ndarray]]
    groups: dict[str, list[str]]
    scalers: dict[str, Scaler]
    inputs: dict[str, dict[str, Any]]
    constant: dict[str, list[str]]

"""What a reader hands over, checked against the dataset's file instance by instance. N instances, d features."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from mmcontrast.config import Dataset, Modality, PublishedSplit, RandomSplit
from mmcontrast.data.pictures import decode, jpeg, log_mel, pixels, read_wav, resized
from mmcontrast.data.scaling import Scaler
from mmcontrast.data.splitting import by_group, stratified
from mmcontrast.errors import ConfigError, DataError, nearest
from mmcontrast.paths import SPLITS

LABELS = {"classes": np.int64, "multilabel": np.uint8, "regression": np.float32}


@dataclass(frozen=True)
class Instance:
    """One instance of a dataset that is read one after another.

    Attributes:
        id: unique in the dataset. split: train, val or test where the data came with a split.
        values: modality -> (d,) numbers of a vector, NaN where one is missing; (C, H, W) uint8, or the bytes of a file
            where images are encoded; (T, d) numbers of a sequence; a text; a list of these where the modality is
            multifold. None, or no entry, where the instance lacks an optional modality.
        label: class index; of several labels at once C numbers 0 or 1; of a regression R numbers. tasks: task -> such.
        group: name of what must not be split, such as the patient, or of the scene where the dataset says `scenes`;
            None = every instance is its own.
        weights: task ("" = the main target) -> what it counts as a case of it; where the dataset says `case_weights`.
    """

    id: str
    values: Mapping[str, Any]
    label: Any
    split: str | None = None
    tasks: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """What a reader gives.

    Attributes:
        instances: one after another; they are asked for once.
        feature_names: modality -> d names of a vector's or a step's features; numbers stand for them where it has none.
        cells: modality -> how its table has numbers, `missing` and `decimal` of `scaling.Scaler`.
        report: counts and names of what was left out, for the datasheet; complete when the instances have been read.
        split_rule: how instances came into splits, where the reader decides it; else the dataset's file says.
        group_rows: rows of a row group of the files.
        in_memory: all instances are held and taken as one batch; what is fitted on them is numpy's own to the bit.
    """

    instances: Iterable[Instance]
    feature_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, kw_only=True)
    report: dict[str, Any] = field(default_factory=dict)
    split_rule: str | None = None
    group_rows: int = 4096
    in_memory: bool = False


def train_and_test(dataset: Dataset, where: str) -> dict[str, int]:
    """Rows of these two parts. Raises ConfigError, which begins as `where`, unless the split has them and no other."""
    if not isinstance(dataset.split, PublishedSplit) or dataset.split.val:
        raise ConfigError(f"{where} with a train and a test part, no other")
    return {"train": dataset.split.train, "test": dataset.split.test}


def from_arrays(
    labels_N: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    feature_names: Mapping[str, Sequence[str]] | None = None,
    parts: Mapping[str, int] | None = None,
    tasks: Mapping[str, np.ndarray] | None = None,
) -> Stream:
    """N instances of vectors in memory, called by their numbers; labels and tasks are int64 class indices.

    `inputs`: modality -> (N, d) float64. `feature_names`: modality -> d names; numbered where the data name none.
    `parts`: split -> how many of the N are of it, one split after another, where the data came with a split.
    """
    places = [(f"{part}-{i:04d}", part) for part, rows in (parts or {}).items() for i in range(rows)]
    instances = (
        Instance(
            *(identity, {m: x_Nd[i] for m, x_Nd in inputs.items()}, int(labels_N[i]), split),
            tasks={task: int(of[i]) for task, of in (tasks or {}).items()},
        )
        for i, (identity, split) in enumerate(places or [(f"row-{i:05d}", None) for i in range(len(labels_N))])
    )
    numbered = {m: [f"{m}_{j}" for j in range(x_Nd.shape[1])] for m, x_Nd in inputs.items()}
    return Stream(instances, feature_names or numbered, in_memory=True)


@dataclass(frozen=True)
class Written:
    """What is known of splits that were written an instance at a time.

    Attributes:
        labels: task ("" = the main target) -> split -> as stored, (N,) int64, (N, C) uint8 or (N, R) float32.
        groups: split -> N names of what must not be split; {} = every instance is its own.
        scalers: modality -> what was fitted on train, of vectors and sequences.
        inputs: modality -> counts of what was missing, filled in, cut or empty; only what there was.
        constant: modality -> features that do not vary within train.
        alone: modality -> features of which one value lies far from all others, in any split.
    """

    labels: dict[str, dict[str, np.ndarray]]
    groups: dict[str, list[str]]
    scalers: dict[str, Scaler]
    inputs: dict[str, dict[str, Any]]
    constant: dict[str, list[str]]
    alone: dict[str, list[str]]


class Intake:
    """Takes one instance after another. `splits`: of each, "" if not known yet; `alone`: of `Written`, by number."""

    def __init__(self, name: str, dataset: Dataset) -> None:
        self.splits: list[str] = []
        self.alone: dict[str, list[int]] = {}
        self._name, self._dataset, self._where = name, dataset, f"params/datasets/{name}.yaml"
        self._ids: set[str] = set()
        self._targets = dataset.targets
        self._labels: dict[str, list[Any]] = {task: [] for task in self._targets}
        self._groups: list[str] = []
        self._counts: dict[str, Counter[str]] = {m: Counter() for m in dataset.modalities}

    def row(self, one: Instance) -> list[Any]:
        """The instance as cells in the order of `table.schema`; DataError: it is not what the dataset's file says."""
        if not one.id or one.id in self._ids:
            what = f"the id '{one.id}' stands on two instances" if one.id else "an instance has an empty id"
            raise DataError(f"{self._name}: {what}; an id is unique in the dataset")
        self._check_place(one)
        labels = {task: one.tasks.get(task) if task else one.label for task in self._labels}
        for task, label in labels.items():
            self._labels[task].append(self._label(one.id, task, label))
        self._ids.add(one.id)
        scene = [] if self._dataset.scenes is None else [one.group]
        return [one.id, *(of[-1] for of in self._labels.values()), *self._weights(one), *scene, *self._values(one)]

    def _weights(self, one: Instance) -> list[float]:
        asked = list(self._targets) if self._dataset.case_weights else []
        if list(one.weights) != asked or not all(0 <= w < float("inf") for w in one.weights.values()):
            raise DataError(
                f"{self._name}: instance '{one.id}': weights {dict(one.weights)}; accepted are numbers of at least 0 "
                f"for {asked or 'nothing'} (case_weights of {self._where})"
            )
        return list(one.weights.values())

    def _check_place(self, one: Instance) -> None:
        """The instance's split and group, which all have or none has."""
        published = not isinstance(self._dataset.split, RandomSplit)
        if published != (one.split is not None) or (published and one.split not in SPLITS):
            accepted = f"is published, so {', '.join(SPLITS)} are accepted" if published else "is random"
            found = f"{self._name}: instance '{one.id}' is in split {one.split}"
            raise DataError(f"{found}, and that of {self._where} {accepted}")
        if self._dataset.scenes is not None and one.group is None:
            found = f"{self._where}: scenes says '{self._dataset.scenes}'"
            raise DataError(f"{self._name}: {found}, and instance '{one.id}' has none; remove it")
        if self.splits and (one.group is None) != (not self._groups):
            raise DataError(
                f"{self._name}: some instances have a group, and '{one.id}' differs; all have one or none has"
            )
        self.splits.append(one.split or "")
        if one.group is not None:
            self._groups.append(one.group)

    def _label(self, identity: str, task: str, label: Any) -> Any:
        target, names = self._targets[task].kind, self._targets[task].names
        where = f"{self._name}: instance '{identity}': " + (f"task '{task}': " if task else "")
        if target == "classes":
            if label not in range(len(names)):
                raise DataError(f"{where}label {label}; accepted are 0 to {len(names) - 1} ({', '.join(names)})")
            return int(label)
        accepted = "finite" if target == "regression" else "0 or 1"
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                given = np.asarray(label, np.float64)
                stored = given.astype(LABELS[target])
            except (TypeError, ValueError):
                given = stored = np.full(len(names), np.nan)
        fits = np.isfinite(stored) if target == "regression" else np.isin(given, (0, 1))
        if given.shape != (len(names),) or not fits.all():
            wanted = f"{len(names)} numbers, each {accepted} ({', '.join(names)})"
            raise DataError(f"{where}label {label}; accepted are {wanted}")
        return stored

    def _values(self, one: Instance) -> list[Any]:
        if unknown := [m for m in one.values if m not in self._dataset.modalities]:
            hint = nearest(unknown[0], self._dataset.modalities)
            raise DataError(f"{self._name}: instance '{one.id}': no modality '{unknown[0]}' in {self._where}; {hint}")
        cells = []
        for m, spec in self._dataset.modalities.items():
            where = f"{self._name}: instance '{one.id}': modality '{m}'"
            cells.append(checked(one.values.get(m), spec, where, self._counts[m]))
        if all(cell is None for cell in cells):
            raise DataError(f"{self._name}: instance '{one.id}' has no input, every modality is missing; leave it out")
        for (m, spec), cell in zip(self._dataset.modalities.items(), cells, strict=True):
            if cell is None and not spec.optional:
                raise DataError(
                    f"{self._name}: instance '{one.id}' has no {m}; leave it out, or say `optional: true` of that "
                    f"modality in {self._where} if instances may lack it"
                )
            self._counts[m]["missing"] += cell is None
        return cells

    def deal(self) -> None:
        """Decide the split of every instance, once all are taken; DataError: a published split has another size."""
        split = self._dataset.split
        if isinstance(split, RandomSplit):
            shares = {s: getattr(split, s) for s in SPLITS}
            stratum = self._labels[""] if self._dataset.target == "classes" else [0] * len(self.splits)
            if self._groups:
                self.splits = by_group(stratum, self._groups, shares, split.seed)
                return
            for part, rows in stratified(np.array(stratum, np.int64), shares, split.seed).items():
                for i in rows.tolist():
                    self.splits[i] = part
            return
        for part, found in ((s, self.splits.count(s)) for s in SPLITS):
            if found != getattr(split, part):
                expected = f"{self._where}: split says {getattr(split, part)}"
                raise DataError(f"{self._name}: {found} instances in {part}, and {expected}")

    def located(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, dict[str, np.ndarray]]]:
        """Each batch of rows, in the order they were taken, with split -> its rows in the batch."""
        start = 0
        for batch in batches:
            names = np.array(self.splits[start : start + len(batch)])
            yield batch, {s: np.flatnonzero(names == s) for s in SPLITS}
            start += len(batch)

    def written(self, scalers: Mapping[str, Scaler], feature_names: Mapping[str, Sequence[str]]) -> Written:
        """All that was remembered, by split. `scalers`: modality -> what was fitted on train."""
        names = np.array(self.splits)
        rows = {s: np.flatnonzero(names == s) for s in SPLITS}
        of = {t: np.array(y, LABELS[self._targets[t].kind]) for t, y in self._labels.items()}
        constant = {m: np.flatnonzero(scaler.constant_d).tolist() for m, scaler in scalers.items()}
        return Written(
            labels={t: {s: y[at] for s, at in rows.items()} for t, y in of.items()},
            groups={s: [self._groups[i] for i in at] for s, at in rows.items()} if self._groups else {},
            scalers=dict(scalers),
            inputs={m: found for m, counts in self._counts.items() if (found := _told(counts))},
            constant={m: [_name(feature_names, m, j) for j in at] for m, at in constant.items()},
            alone={m: [_name(feature_names, m, j) for j in at] for m, at in self.alone.items()},
        )


def in_file(path: Path, spec: Modality) -> Any:
    """A file's value as in `Instance.values`: a picture, cut and resized; of a WAV file log-mel frames or, where a step
    is one number, its samples; a text in UTF-8. Raises DataError: it is missing, or not such a file.
    """
    if spec.kind == "image":
        return picture(path, spec)
    if spec.kind == "sequence":
        samples_S, rate = read_wav(path)
        return samples_S[:, None] if spec.shape[1] == 1 else log_mel(samples_S, rate, spec.shape[1])
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeError, OSError) as e:
        raise DataError(f"{path}: not a text in UTF-8 ({e})") from None


def picture(file: Path | IO[bytes], spec: Modality) -> Any:
    """What is stored of a picture: cut and resized, its pixels or a JPEG. Raises DataError: see `resized`."""
    cut = resized(file, spec.shape)
    return jpeg(cut) if spec.encoded else pixels(cut)


def checked(value: Any, spec: Modality, where: str, counts: Counter[str]) -> Any:
    """What is stored of a value, or None; `counts` what is cut, empty, imputed. DataError: not what `spec` says."""
    if value is None:
        return None
    if spec.multifold:
        return [_one(v, spec, f"{where}: observation {k + 1}", counts) for k, v in enumerate(value)] or None
    return _one(value, spec, where, counts)


def _one(value: Any, spec: Modality, where: str, counts: Counter[str]) -> Any:
    if spec.kind == "text":
        if not isinstance(value, str):
            raise DataError(f"{where}: {type(value).__name__}, expected a text")
        counts["empty"] += not value.strip()
        return value
    if spec.encoded:
        try:
            decode(value, spec.shape)
        except ValueError as e:
            raise DataError(f"{where}: the picture cannot be decoded ({e})") from None
        return value
    given = np.asarray(value)
    if spec.kind == "image":
        if given.dtype != np.uint8 or list(given.shape) != spec.shape:
            raise DataError(f"{where}: {given.dtype} of shape {list(given.shape)}, expected uint8 of {spec.shape}")
        return given
    return _numbers(given.astype(np.float64), counts, spec, where)


def _numbers(given: np.ndarray, counts: Counter[str], spec: Modality, where: str) -> Any:
    """Of a vector or a sequence. One without a single value counts as missing, and so does one without steps."""
    free = spec.kind == "sequence"
    shape = ["any number of steps", spec.shape[1]] if free else spec.shape
    if given.ndim != len(spec.shape) or list(given.shape[free:]) != spec.shape[free:]:
        raise DataError(f"{where}: shape {list(given.shape)}, expected {shape}")
    if np.isinf(given).any():
        raise DataError(f"{where}: holds a number that is infinite; give NaN where a value is missing")
    if free and len(given) > spec.shape[0]:
        counts["cut"] += 1
        counts["longest"] = max(counts["longest"], len(given))
        given = given[: spec.shape[0]]
    missing = int(np.isnan(given).sum())
    if missing == given.size:
        return None
    counts["values"] += given.size
    counts["imputed"] += missing
    return given


def _told(counts: Counter[str]) -> dict[str, Any]:
    """Only what there was; what was imputed also as a share of all values."""
    told: dict[str, Any] = {what: n for what, n in counts.items() if n and what != "values"}
    if "imputed" in told:
        told["imputed_share"] = round(told["imputed"] / counts["values"], 6)
    return told


def _name(feature_names: Mapping[str, Sequence[str]], m: str, j: int) -> str:
    return feature_names[m][j] if m in feature_names else f"number {j + 1}"

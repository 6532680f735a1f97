"""Pickles of feature sequences: MultiBench's and MulT's, those of MMSA, and `im.pk` of MIMIC-III.

`multibench`, `mmsa`: {train, valid, test} of {vision, audio, text: (n, T, d), id: n rows of names, and labels (n, 1) or
(n, 1, 1), in MMSA's files regression_labels (n,)}. As MultiBench's loader does, rows whose text sums to 0 are left out,
-inf in audio counts as 0, and steps of all modalities before the first with a text are padding. MMSA's are padded
behind: `audio_lengths`, `vision_lengths` and the mask in `text_bert` (n, 3, T) say how many steps there are, the mask
alone where the file is aligned. A class is 1 where the label is above 0; a regression has the label itself.

`mimic`: {ep_tdata: (N, 24, 12), adm_features_all: (N, 5), y_icd9: (N, 20), adm_labels_all: (N, 6 or more)}; the first
two are the modalities `series` and `static`. What is no finite number counts as 0, and the split is MultiBench's.

A pickle is read as a whole: memory holds the file and a copy of its largest array. n, N rows, T steps, d features.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.unpickle import read_pickle
from mmcontrast.errors import ConfigError, DataError, nearest
from mmcontrast.paths import SPLITS

KEYS = {"train": "train", "val": "valid", "test": "test"}
LABELS = {"multibench": "labels", "mmsa": "regression_labels"}
MIMIC = {"series": "ep_tdata", "static": "adm_features_all"}


class MultiBenchOptions(Strict):
    """`prepare` in the dataset's file."""

    file: str = Field(description="Name of the pickle in data/raw/<dataset>/.")
    layout: Literal["multibench", "mmsa", "mimic"] = Field(description="Whose it is.")
    icd9: int | None = Field(
        default=None,
        ge=0,
        lt=20,
        description="mimic: group of diagnoses (binary); null = time of death in six classes.",
    )
    standardise_all: bool = Field(default=False, description="mimic: scale by all rows, test too, as released.")


class Pickle(NamedTuple):
    """What is read, and what it is compared with. `where`: file of the dataset in params/."""

    where: str
    path: Path
    dataset: Dataset
    options: MultiBenchOptions
    report: defaultdict[str, Counter[str]]

    def array(self, fields: Mapping[str, Any], key: str, place: str, width: int | None = None) -> np.ndarray:
        """Numbers by key; `place` as `train.` is that of `fields`. Raises DataError: none, or not of that `width`."""
        if key not in fields:
            raise DataError(f"{self.path}: no key '{place}{key}'; {nearest(key, map(str, fields))}")
        try:
            found = np.asarray(fields[key])
        except ValueError as e:
            raise DataError(f"{self.path}: {place}{key}: {e}") from None
        if found.dtype.kind not in "fiub" or found.ndim == 0:
            raise DataError(f"{self.path}: {place}{key}: {found.dtype} of shape {found.shape}, expected numbers by row")
        if width is not None and found.shape[-1] != width:
            said = f"{place}{key}: {found.shape[-1]} features, and modalities in {self.where} says {width}"
            raise DataError(f"{self.path}: {said}")
        return found


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All rows, in the file's order; ids are `<split>-<row in the file>`, of `mimic` `row-<row>`."""
    where = f"params/datasets/{name}.yaml"
    options = validate(MultiBenchOptions, dataset.prepare, where, prefix="prepare")
    known = list(MIMIC) if options.layout == "mimic" else ["vision", "audio", "text"]
    for m, spec in dataset.modalities.items():
        if m not in known or spec.kind not in ("sequence", "vector") or (spec.kind == "vector") != (m == "static"):
            raise ConfigError(f"{where}: modalities: '{m}' of kind {spec.kind}; sequences {known} (static: vector)")
    path = raw_dir / options.file
    if not isinstance(content := read_pickle(path), dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected a dict")
    pickle = Pickle(where, path, dataset, options, defaultdict(Counter))
    parts = [_mimic(pickle, content)] if options.layout == "mimic" else [_part(pickle, content, s) for s in SPLITS]
    return Stream(chain.from_iterable(parts), {}, pickle.report)


def _part(pickle: Pickle, content: dict[str, Any], split: str) -> Iterator[Instance]:
    fields = content.get(KEYS[split])
    if not isinstance(fields, dict):
        raise DataError(f"{pickle.path}: no dict '{KEYS[split]}'; {nearest(KEYS[split], map(str, content))}")
    key, place = LABELS[pickle.options.layout], f"{KEYS[split]}."
    modalities = pickle.dataset.modalities
    widths = {m: modalities[m].shape[1] if m in modalities else None for m in (*modalities, "text")}
    arrays = {m: pickle.array(fields, m, place, width) for m, width in widths.items()}
    labels = pickle.array(fields, key, place)
    n, steps = len(labels), arrays["text"].shape[1:2]
    for m, x in arrays.items():
        aligned = pickle.options.layout == "mmsa" or x.shape[1:2] == steps
        if x.ndim != 3 or len(x) != n or not aligned:
            raise DataError(f"{pickle.path}: {place}{m}: shape {x.shape}, expected ({n}, {steps}, features)")
    if labels.size != n:
        raise DataError(f"{pickle.path}: {place}{key}: shape {labels.shape}, expected a number for each of {n} rows")
    lengths = _lengths(pickle, fields, place, arrays) if pickle.options.layout == "mmsa" else {}
    for i, label in enumerate(labels.ravel().tolist()):
        values = {m: of[i].astype(np.float64) for m, of in arrays.items()}
        if values["text"].sum() == 0:
            pickle.report["left_out_without_text"][split] += 1
            continue
        if not np.isfinite(label):
            raise DataError(f"{pickle.path}: {place}{key}: row {i} holds {label}; a label is a number")
        if "audio" in values and np.isneginf(values["audio"]).any():
            pickle.report["rows_with_minus_infinity_in_audio"][split] += 1
            values["audio"][np.isneginf(values["audio"])] = 0
        first = 0 if lengths else int(values["text"].any(axis=1).argmax())
        cut = {m: values[m][first : lengths[m][i] if lengths else None] for m in modalities}
        kinds = {task: target.kind for task, target in pickle.dataset.targets.items()}
        targets = {task: [label] if kind == "regression" else int(label > 0) for task, kind in kinds.items()}
        yield Instance(f"{split}-{i:05d}", cut, targets.pop(""), split, targets)


def _lengths(pickle: Pickle, fields: dict[str, Any], place: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Modality -> steps of each row."""
    mask = pickle.array(fields, "text_bert", place)
    if mask.ndim != 3 or mask.shape[1] != 3 or len(mask) != len(arrays["text"]):
        raise DataError(f"{pickle.path}: {place}text_bert: shape {mask.shape}, expected (rows, 3, steps)")
    words = mask[:, 1].sum(axis=1).astype(int)
    out = dict.fromkeys(arrays, words)
    for m in arrays:
        if m != "text" and f"{m}_lengths" in fields:
            out[m] = pickle.array(fields, f"{m}_lengths", place).astype(int).ravel()
        if len(out[m]) != len(words) or (out[m] < 1).any() or (out[m] > arrays[m].shape[1]).any():
            raise DataError(f"{pickle.path}: {place}{m}: lengths that are not 1 to {arrays[m].shape[1]} of every row")
    return out


def _mimic(pickle: Pickle, content: dict[str, Any]) -> Iterator[Instance]:
    options, modalities = pickle.options, pickle.dataset.modalities
    arrays = {m: pickle.array(content, MIMIC[m], "", spec.shape[-1]) for m, spec in modalities.items()}
    key, width = ("adm_labels_all", 6) if options.icd9 is None else ("y_icd9", 20)
    labels = pickle.array(content, key, "")
    for m, x in {**arrays, key: labels}.items():
        axes = len(modalities[m].shape) + 1 if m in modalities else 2
        if len(x) != len(labels) or x.ndim != axes or (m == key and x.shape[1] < width):
            expected = f"{axes} axes and {len(labels)} rows ({key}: {width} columns)"
            raise DataError(f"{pickle.path}: {MIMIC.get(m, m)}: shape {x.shape}, expected {expected}")
    if options.icd9 is None:
        # the first of the columns 1 to 5 that is above 0
        died = labels[:, 1:6] > 0
        classes = np.where(died.any(axis=1), died.argmax(axis=1) + 1, 0)
    else:
        classes = labels[:, options.icd9].astype(np.int64)
    arrays = {m: np.nan_to_num(x.astype(np.float64), posinf=0, neginf=0) for m, x in arrays.items()}
    if options.standardise_all:
        flat = {m: x.reshape(-1, x.shape[-1]) for m, x in arrays.items()}
        arrays = {m: (x - flat[m].mean(axis=0)) / flat[m].std(axis=0) for m, x in arrays.items()}
    rows = list(range(len(labels)))
    random.Random(10).shuffle(rows)  # the seed of the released loaders: its order is the split
    for at, i in enumerate(rows):
        split = "val" if at < len(rows) // 10 else "test" if at < len(rows) // 5 else "train"
        yield Instance(f"row-{i:05d}", {m: x[i] for m, x in arrays.items()}, int(classes[i]), split)

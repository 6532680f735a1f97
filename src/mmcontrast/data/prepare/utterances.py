"""Spoken sentences as their authors gave them out: a text and a label each, and features of the voice and the face.

`mustard` (github soujanyaporia/MUStARD): sarcasm_data.json, id -> {utterance, show, sarcasm, ...}; split_indices.p with
five pairs of arrays, the rows of train and of test; features by id, in a pickle (d, frames), in HDF5 (frames, d).
Without a `fold` the series Friends is the test split, as in the released code, whose comment names another.

`ur_funny` (github ROC-HCI/UR-FUNNY, V2): data_folds.pkl {train, dev, test: ids}, humor_label_sdk.pkl id -> 0 or 1,
language_sdk.pkl id -> {punchline_sentence, punchline_embedding_indexes, ...}, word_embedding_list.pkl (words, 300), and
openface_features_sdk.pkl and covarep_features_sdk.pkl, id -> {punchline_features: (words, d), ...}. The punchline alone
is read, not its context. Minus infinity counts as 0, as in MultiBench's loader of these features.

`meld` (github declare-lab/MELD): {train,dev,test}_sent_emo.csv; features in lists of three dicts (train, dev, test),
"<dialogue>_<utterance>" -> (d,). In train the letters U+0080 to U+009F stand for those of Windows-1252, as for an
apostrophe; they are put right and counted. A vector of features by frame or word is their mean. d features.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.files import told_json
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.prepare.readers import column, read_sheet
from mmcontrast.data.unpickle import read_pickle
from mmcontrast.errors import ConfigError, DataError, nearest
from mmcontrast.paths import SPLITS

# lists of numbers: 10,000 punchlines with contexts of some 75 words, of 371 numbers each, are 300 million
MOST = 1_000_000_000
NAMED = {"train": "train", "val": "dev", "test": "test"}
WINDOWS_1252 = re.compile("[\x80-\x9f]")
WORDS = "word_embedding_list.pkl"
FUNNY = {"vision": "openface_features_sdk.pkl", "audio": "covarep_features_sdk.pkl", "text": "language_sdk.pkl"}


class UtteranceOptions(Strict):
    """`prepare` in the dataset's file."""

    layout: Literal["mustard", "ur_funny", "meld"] = Field(description="Whose files they are.")
    fold: int | None = Field(default=None, ge=0, lt=5, description="mustard: which fold; null = Friends is tested on.")
    features: dict[str, str] = Field(default={}, description="mustard, meld: modality -> its file of features.")
    zeros: bool = Field(default=False, description="meld: zeros where features are missing, as in the released loader.")


class Files(NamedTuple):
    """Where everything is. `paths`: modality that is no text -> its file of features; `texts`: those that are."""

    raw_dir: Path
    paths: Mapping[str, Path]
    texts: list[str]
    dataset: Dataset
    options: UtteranceOptions
    report: defaultdict[str, Counter[str]]


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All utterances, of `mustard` in the file's order, else split by split."""
    where = f"params/datasets/{name}.yaml"
    options = validate(UtteranceOptions, dataset.prepare, where, prefix="prepare")
    known = FUNNY if options.layout == "ur_funny" else options.features
    kinds = {m: spec.kind for m, spec in dataset.modalities.items()}
    if wrong := [m for m, kind in kinds.items() if kind == "image" or (kind != "text" and m not in known)]:
        raise ConfigError(f"{where}: modalities: '{wrong[0]}' has no file of features; {nearest(wrong[0], known)}")
    paths = {m: raw_dir / known[m] for m, kind in kinds.items() if kind != "text"}
    files = Files(raw_dir, paths, [m for m in kinds if m not in paths], dataset, options, defaultdict(Counter))
    return Stream(_instances(files), {}, files.report)


def _instances(files: Files) -> Iterator[Instance]:
    layout = files.options.layout
    for one in {"mustard": _mustard, "ur_funny": _ur_funny, "meld": _meld}[layout](files):
        values = dict(one.values)
        for m, path in files.paths.items():
            x = _numbers(values[m], f"{path}: '{one.id}'")
            if layout == "ur_funny" and np.isneginf(x).any():
                files.report[f"rows_with_minus_infinity_in_{m}"][str(one.split)] += 1
                x = np.where(np.isneginf(x), 0, x)
            pool = x.ndim == 2 and files.dataset.modalities[m].kind == "vector"
            values[m] = None if not x.size else x.mean(axis=0) if pool else x
        yield replace(one, values=values)


def _numbers(value: Any, place: str) -> np.ndarray:
    try:
        return np.asarray([] if value is None else value, np.float64)
    except (TypeError, ValueError) as e:
        raise DataError(f"{place}: not numbers of one length by step ({e})") from None


def _dict(path: Path) -> dict[Any, Any]:
    if not isinstance(content := read_pickle(path, MOST), dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected a dict by id")
    return content


def _of(content: Any, key: Any, path: Path) -> Any:
    if not isinstance(content, dict) or key not in content:
        hint = nearest(str(key), map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: no '{key}'; {hint}")
    return content[key]


def _mustard(files: Files) -> Iterator[Instance]:
    path, kinds = files.raw_dir / "sarcasm_data.json", {"utterance": str, "show": str, "sarcasm": bool}
    records = told_json(path, "MUStARD's sentences", "see `mmcontrast data status`")
    for key, record in records.items():
        for field, kind in kinds.items():
            if not isinstance(record, dict) or not isinstance(record.get(field), kind):
                raise DataError(f"{path}: '{key}': expected an object with `{field}`, a {kind.__name__}")
    held_out = {i for i, record in enumerate(records.values()) if record["show"] == "FRIENDS"}
    if files.options.fold is not None:
        held_out = _fold(files.raw_dir / "split_indices.p", files.options.fold, len(records))
    with ExitStack() as opened:
        read = {m: _frames(at, opened) for m, at in files.paths.items()}
        for i, (key, record) in enumerate(records.items()):
            values = dict.fromkeys(files.texts, record["utterance"]) | {m: of(key) for m, of in read.items()}
            yield Instance(key, values, int(record["sarcasm"]), "test" if i in held_out else "train")


def _fold(path: Path, fold: int, rows: int) -> set[int]:
    """Rows of the test part."""
    try:
        train, test = ({*np.asarray(part).tolist()} for part in read_pickle(path)[fold])
    except (TypeError, ValueError, LookupError):
        train = test = set()
    if train & test or train | test != set(range(rows)):
        raise DataError(f"{path}: fold {fold}: expected two arrays, which share the rows 0 to {rows - 1} out")
    return test


def _frames(path: Path, opened: ExitStack) -> Callable[[str], np.ndarray]:
    """Id -> (frames, d)."""
    if path.suffix not in (".h5", ".hdf5"):
        by_id = _dict(path)
        return lambda key: _numbers(_of(by_id, key, path), f"{path}: '{key}'").T
    from mmcontrast.data.prepare import hdf5  # an optional library, which a pickle does without

    file = opened.enter_context(hdf5.opened(path))
    return lambda key: hdf5.array(file, key, (None, None))[:]


def _ur_funny(files: Files) -> Iterator[Instance]:
    paths = [files.raw_dir / name for name in ("data_folds.pkl", "humor_label_sdk.pkl", FUNNY["text"], WORDS)]
    folds, labels, language = map(_dict, paths[:3])
    read = {m: _dict(path) for m, path in files.paths.items() if m != "text"}
    words = _numbers(read_pickle(paths[3], MOST), str(paths[3])) if "text" in files.paths else np.zeros(0)
    for split in SPLITS:
        ids = _of(folds, NAMED[split], paths[0])
        if not isinstance(ids, list | tuple) or not all(isinstance(key, int | str | np.integer) for key in ids):
            raise DataError(f"{paths[0]}: '{NAMED[split]}': expected a list of ids")
        for key in ids:
            spoken = _of(language, key, paths[2])
            said = _of(spoken, "punchline_sentence", paths[2])
            text = said if isinstance(said, str) else " ".join(map(str, said))
            values: dict[str, Any] = dict.fromkeys(files.texts, text)
            for m, of in read.items():
                values[m] = _of(_of(of, key, files.paths[m]), "punchline_features", files.paths[m])
            if "text" in files.paths:
                numbers = _numbers(_of(spoken, "punchline_embedding_indexes", paths[2]), f"{paths[2]}: '{key}'")
                if any(n not in range(len(words)) for n in numbers.ravel()):
                    raise DataError(f"{paths[2]}: '{key}': a word is none of the {len(words)} in {paths[3]}")
                values["text"] = words[numbers.astype(np.int64)]
            yield Instance(str(key), values, _of(labels, key, paths[1]), split)


def _meld(files: Files) -> Iterator[Instance]:
    targets = files.dataset.targets
    by_split = {}
    for m, path in files.paths.items():
        content = read_pickle(path, MOST)
        if not isinstance(content, list | tuple) or [type(of) for of in content] != [dict] * len(SPLITS):
            raise DataError(f"{path}: expected a list of three dicts, of train, dev and test")
        by_split[m] = dict(zip(SPLITS, content, strict=True))
    columns = {task: (task or files.dataset.label or "emotion").title() for task in targets}
    index = {task: {name: k for k, name in enumerate(target.names)} for task, target in targets.items()}
    for split in SPLITS:
        sheet = read_sheet(files.raw_dir / f"{NAMED[split]}_sent_emo.csv", header=True)
        dialogues, numbers, texts = (column(sheet, name) for name in ("Dialogue_ID", "Utterance_ID", "Utterance"))
        named = {task: column(sheet, name) for task, name in columns.items()}
        for i, (dialogue, text) in enumerate(zip(dialogues, texts, strict=True)):
            key, group = f"{dialogue}_{numbers[i]}", f"{split}-{dialogue}"
            # an unknown name of a class is refused as it is
            labels = {t: index[t].get(of[i], of[i]) for t, of in named.items()}
            right = WINDOWS_1252.sub(lambda letter: letter[0].encode("latin-1").decode("cp1252", "ignore"), text)
            files.report["texts_put_right"][split] += right != text
            values: dict[str, Any] = dict.fromkeys(files.texts, right)
            for m, features in by_split.items():
                values[m] = features[split].get(key)
                if values[m] is None:
                    files.report[f"without_{m}"][split] += 1
                    values[m] = np.zeros(files.dataset.modalities[m].shape) if files.options.zeros else None
            yield Instance(f"{split}-{key}", values, labels.pop(""), split, labels, group)

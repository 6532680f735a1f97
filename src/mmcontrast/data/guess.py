"""What tables hold, as far as can be seen (id, label, modalities); every guess is said, and may be told instead."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from mmcontrast.data.pictures import read_wav
from mmcontrast.data.prepare.table import SPLIT_NAMES
from mmcontrast.data.prepare.table_files import TEXTS, Table, TableFile, encoding_of, load
from mmcontrast.errors import DataError, nearest

MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "None", "?"]
# names that columns of a role usually have
USUAL = {
    "id": ("id", "sample", "sample_id", "name", "patient", "patient_id", "subject", "index", ""),
    "label": ("label", "class", "target", "y", "category", "diagnosis", "subtype", "outcome", "status"),
    "group": ("group", "patient", "patient_id", "subject", "subject_id", "family", "video"),
    "split": ("split", "fold", "set", "partition"),
}
# endings of files in a folder, by what they hold
IN_FOLDERS = {"image": (".jpg", ".jpeg", ".png"), "sound": (".wav",), "text": (".txt",)}
BANDS, STEP = 40, 0.010  # of log-mel frames, and seconds from one to the next
MOST_CLASSES = 50
SIDE = 32


class Guess:
    """Keys of a dataset's file, as far as its data decide them (`values`), and a sentence for each guess (`said`).

    `files`: tables, and folders of pictures, sounds or texts, as in `sources`. `told`: role of USUAL -> its column.
    Raises DataError: a file cannot be read, a told column is not there, or there are not two modalities to be seen.
    """

    def __init__(self, files: Sequence[str], told: Mapping[str, str]) -> None:
        folders = [f for f in files if Path(f).is_dir() and not (Path(f) / "state.json").exists()]
        paths = {_word(Path(f).stem): f for f in files if f not in folders}
        if not paths or len(paths) + len(folders) < len(files):
            raise DataError(
                "give files of tables with different names, and beside them folders of pictures, sounds or texts"
            )
        self.told, self.said = told, list[str]()
        self.files: dict[str, dict[str, Any]] = {}
        self.tables = {name: self._load(name, path) for name, path in paths.items()}
        self.frames = {name: table.frame for name, table in self.tables.items()}
        self.used: dict[str, set[str]] = {name: set() for name in paths}
        self.modalities: dict[str, dict[str, Any]] = {}
        self.columns: dict[str, dict[str, Any]] = {}
        self.options: dict[str, Any] = {}
        self._id()
        split, target = self._split(), self._label()
        if group := self._role("group", lambda cells: 1 < cells.n_unique() < len(cells)):
            self.options["group"] = group
        for folder in folders:
            self._folder(folder)
        for name in self.tables:
            self._inputs(name)
        self._check(target)
        files_said = {n: of["path"] if len(of) == 1 else of for n, of in self.files.items()}
        first = next(iter(self.frames.values()))
        rows = first[self.options["id"]].n_unique() if "id" in self.options else len(first)
        kinds = {of["kind"] for of in self.modalities.values()}
        self.values: dict[str, Any] = {
            "sources": [{"kind": "local", "path": of["path"]} for of in self.files.values()]
            + [{"kind": "local", "path": folder, "folder": True} for folder in folders],
            "modalities": self.modalities, "reader": "table",
            "prepare": {"tables": files_said, **self.options, **({"modalities": self.columns} if self.columns else {})},
            **target, "rows": rows, "split": split,
            "scaling": "standard" if kinds & {"vector", "sequence"} else "none",
        }  # fmt: skip

    def _load(self, name: str, path: str) -> Table:
        """A table; what `prepare.tables` says of it is kept."""
        self.files[name] = {"path": path}
        text = Path(path).suffix.lower() in TEXTS
        if (encoding := encoding_of(Path(path))) != "utf-8":
            self.files[name]["encoding"] = encoding
        table = load(name, TableFile.model_validate(self.files[name]), Path())
        if text and table.said["separator"] != ",":
            self.files[name]["separator"] = table.said["separator"]
            cells = table.frame.unpivot()["value"].drop_nulls()
            if cells.str.contains(r"^-?\d+,\d+$").sum() > cells.str.contains(r"^-?\d+\.\d+$").sum():
                self.files[name]["decimal"] = ","
        if len(self.files[name]) > 1:
            self.said.append(f"{path}: " + ", ".join(f"{k} {v!r}" for k, v in self.files[name].items() if k != "path"))
        return load(name, TableFile.model_validate(self.files[name]), Path())

    def _id(self) -> None:
        """A column of every file that is unique in one of them, which then says which instances there are."""
        shared = [c for c in next(iter(self.tables.values())).names if all(c in t.names for t in self.tables.values())]
        lower = {c.lower(): c for c in shared}
        usual = [lower[name] for name in USUAL["id"] if name in lower]
        tried = [self.told["id"]] if "id" in self.told else [*usual, *(c for c in shared if c not in usual)]
        for column in tried:
            if column not in shared:
                raise DataError(f"--id {column}: no such column in every file; {nearest(column, shared)}")
            unique = [n for n, f in self.frames.items() if f[column].n_unique() == len(f) and not f[column].has_nulls()]
            wordy = unique and self.frames[unique[0]][column].dtype != pl.Float64 and self._share(unique[0], column) < 1
            if "id" in self.told or (unique and (column in usual or wordy)):
                main = next(iter(unique), next(iter(self.tables)))
                self.tables = {main: self.tables[main], **self.tables}
                self.frames = {name: self.frames[name] for name in self.tables}
                self.files = {name: self.files[name] for name in self.tables}
                for used in self.used.values():
                    used.add(column)
                self.options["id"] = column
                self.said.append(f"id: column '{column}'; the instances are those of {main}")
                return
        sizes = ", ".join(f"{name} {len(table)}" for name, table in self.tables.items())
        if len({len(table) for table in self.tables.values()}) > 1:
            raise DataError(
                f"no column names the rows in every file, and their numbers differ ({sizes}); give --id COLUMN"
            )
        self.said.append("id: no column names the rows, so row i of every file is instance i")

    def _role(self, role: str, fits: Callable[[pl.Series], bool]) -> str | None:
        """The column that is told, or has a usual name and fits; as `prepare` names it."""
        for name, frame in self.frames.items():
            lower = {c.lower(): c for c in frame.columns if c not in self.used[name]}
            usual = [lower[word] for word in USUAL[role] if word in lower and fits(frame[lower[word]])]
            for column in [self.told[role]] if role in self.told else usual:
                if column in frame.columns:
                    return self._take(role, name, column, "as told" if role in self.told else "by its name")
        if role in self.told:
            known = [c for frame in self.frames.values() for c in frame.columns[:50]]
            raise DataError(f"--{role} {self.told[role]}: no such column; {nearest(self.told[role], known)}")
        return None

    def _take(self, role: str, table: str, column: str, why: str) -> str:
        self.used[table].add(column)
        self.said.append(f"{role}: column '{column}' of {table}, {why}")
        self.cells = self.frames[table][column]
        return column if sum(column in f.columns for f in self.frames.values()) == 1 else f"{table}/{column}"

    def _split(self) -> dict[str, Any]:
        known = {name: split for split, names in SPLIT_NAMES.items() for name in names}
        found = self._role("split", lambda cells: set(cells.cast(pl.String).unique().to_list()) <= set(known))
        if found is None:
            self.said.append("split: 60, 20 and 20 % at random, by class; no column says that one is published")
            return {"kind": "random", "train": 0.6, "val": 0.2, "test": 0.2, "seed": 0}
        self.options["split"] = found
        counts = [known.get(str(cell), "") for cell in self.cells.to_list()]
        return {"kind": "published", **{split: counts.count(split) for split in SPLIT_NAMES}}

    def _label(self) -> dict[str, Any]:
        found = self._role("label", lambda cells: cells.n_unique() > 1) or self._few_values()
        if found is None:
            self.said.append("label: no column looks like one, so the dataset is scored by retrieval")
            return {"classes": ["instance"], "metrics": ["rsum", "rr1", "rr5", "rr10", "mrr"]}
        self.options["label"] = found
        words = [re.sub(r"\.0+$", "", str(cell)) for cell in self.cells.drop_nulls().to_list()]
        classes = sorted(set(words), key=lambda w: (len(w), w) if w.isdigit() else (0, w))
        if _numbers(self.cells) == 1 and (len(classes) > MOST_CLASSES or any("." in word for word in classes)):
            self.said.append(f"target: {len(classes)} numbers, so it is a regression")
            return {"classes": [found], "target": "regression", "metrics": ["rmse", "mae", "pearson"]}
        if rare := [c for c in classes if words.count(c) < 5]:
            self.said.append(f"warning: fewer than 5 rows of class {', '.join(rare)}; a split may lack it")
        metrics = ["acc", "f1", "auc"] if len(classes) == 2 else ["acc", "macro_f1", "weighted_f1"]
        return {"classes": classes, "metrics": metrics}

    def _few_values(self) -> str | None:
        found = [
            (name, c) for name, f in self.frames.items() for c in f.columns
            if c not in self.used[name] and self._share(name, c) < 0.5
            and 1 < f[c].n_unique() <= min(MOST_CLASSES, len(f) // 5)
        ]  # fmt: skip
        why = "the only one of few values that are no numbers"
        return self._take("label", *found[0], why) if len(found) == 1 else None

    def _folder(self, folder: str) -> None:
        """A modality of files that a column names, with or without their ending."""
        endings = {ending: what for what, of in IN_FOLDERS.items() for ending in of}
        there = {p.name: p for p in sorted(Path(folder).iterdir()) if p.suffix.lower() in endings}
        for name, frame in self.frames.items():
            for column, suffix in ((c, s) for c in frame.columns for s in ("", *endings)):
                cells = set(frame[column].cast(pl.String, strict=False).drop_nulls().to_list())
                if cells and all(f"{cell}{suffix}" in there for cell in cells):
                    files = [there[f"{cell}{suffix}"] for cell in cells]
                    what = endings[files[0].suffix.lower()]
                    spec, how = _in_files(what, files)
                    self.used[name].add(column)
                    self._add(name, what, spec, {"file": f"{folder}/{{{column}}}{suffix}"})
                    self.said.append(f"{what}: files named by column '{column}' of {name}, {how}")
                    return
        raise DataError(f"{folder}: no column of the tables names its files, with or without {', '.join(endings)}")

    def _add(self, table: str, name: str, spec: dict[str, Any], columns: dict[str, Any]) -> None:
        name = name if name not in self.modalities else f"{table}_{name}"
        key, frame = self.options.get("id", ""), self.frames[table]
        several = key in frame.columns and frame[key].n_unique() < len(frame)
        self.modalities[name] = spec | ({"multifold": True} if several else {})
        where = {"table": table} if len(self.tables) > 1 and name != table else {}
        if where or columns:
            self.columns[name] = where | columns

    def _inputs(self, name: str) -> None:
        """Modalities of a table: its arrays, its texts, and its numbers, which in an only table may be several."""
        frame, only = self.frames[name], len(self.tables) == 1
        for array in self.tables[name].arrays:
            shape = list(self.tables[name].array(array).shape[1:])
            if kind := {1: "vector", 2: "sequence", 3: "image"}.get(len(shape)):
                self._add(name, _word(array), {"kind": kind, "shape": shape}, {"array": array})
                self.said.append(f"{_word(array)}: array '{array}' of {name}")
        free = [c for c in frame.columns if c not in self.used[name]]
        numeric = [c for c in free if self._share(name, c) > 0.5]
        words = [c for c in free if c not in numeric and _words(frame[c]) >= 2]
        for column in words:
            self._add(name, _word(column), {"kind": "text", "shape": []}, {"columns": [column]})
            self.said.append(f"{_word(column)}: texts in column '{column}' of {name}")
        left = [c for c in free if c not in numeric and c not in words]
        if left:
            shown = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
            self.said.append(f"left out: {shown} of {name}, neither numbers nor texts of several words")
        if missing := _missing(frame.select(numeric)):
            self.files[name]["missing"] = missing
            self.said.append(f"{name}: cells {missing} count as missing, and as their mean over train")
        for prefix, columns in _grouped(numeric, name, only).items():
            all_of_them = not only and len(columns) == len(numeric)
            taken: dict[str, Any] = {"columns": columns}
            if all_of_them:
                taken = {"without": left} if left else {}
            if not all_of_them and columns == [c for c in free if c.startswith(prefix)]:
                taken = {"prefix": prefix}
            self._add(name, _word(prefix), {"kind": "vector", "shape": [len(columns)]}, taken)
            self.said.append(f"{_word(prefix)}: {len(columns)} columns of numbers of {name}")

    def _share(self, table: str, column: str) -> float:
        return _numbers(self.frames[table][column], self.files[table].get("decimal", "."))

    def _check(self, target: dict[str, Any]) -> None:
        """At least two modalities; for retrieval two, which are then lists of observations."""
        names = list(self.modalities)
        if len(names) < 2:
            raise DataError(
                f"{', '.join(self.files)}: {len(names)} modalities are to be seen ({', '.join(names)}), and there must "
                "be two: give a file each, or call columns <modality>_<name>; by hand: docs/inputs.md"
            )
        if "label" not in self.options:
            if len(names) > 2:
                raise DataError(
                    f"no label is to be seen, and retrieval is between two of {', '.join(names)}; give --label"
                )
            target["retrieval"] = {"gallery": names[0], "queries": names[1]}
            for spec in self.modalities.values():
                spec["multifold"] = True


def _in_files(what: str, files: Sequence[Path]) -> tuple[dict[str, Any], str]:
    """A modality of these files, and what becomes of one."""
    if what == "text":
        return {"kind": "text", "shape": []}, "one text each"
    if what == "sound":
        seconds = max(len(samples_S) / rate for samples_S, rate in map(read_wav, files))
        steps = max(1, round(seconds / STEP))
        return {"kind": "sequence", "shape": [steps, BANDS]}, f"log-mel frames of {BANDS} bands, at most {steps}"
    with Image.open(files[0]) as image:
        channels = 1 if image.mode in ("1", "L") else 3
    return {"kind": "image", "shape": [channels, SIDE, SIDE], "encoded": True}, f"cut to {SIDE} x {SIDE} pixels"


def _word(text: str) -> str:
    word = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return word if word[:1].isalpha() else f"m{word}"


def _grouped(columns: Sequence[str], table: str, by_prefix: bool) -> dict[str, list[str]]:
    """Columns by the beginning of their names, those alone with theirs together; or all under the table's name."""
    if not by_prefix:
        return {table: list(columns)} if columns else {}
    groups: dict[str, list[str]] = {}
    for column in columns:
        groups.setdefault(re.split(r"(?<=[_.:\- ])", column, maxsplit=1)[0].rstrip("0123456789"), []).append(column)
    alone = [c for of in groups.values() if len(of) == 1 for c in of]
    return {p: of for p, of in groups.items() if len(of) > 1} | ({"numbers": alone} if alone else {})


def _numbers(cells: pl.Series, decimal: str = ".") -> float:
    there = cells.drop_nulls()
    if there.dtype == pl.String:
        there = there.filter(~there.is_in(MISSING))
        there = there.str.replace(",", ".", literal=True) if decimal == "," else there
    if not len(there) or not (there.dtype == pl.String or there.dtype.is_numeric()):
        return 0.0
    return float(there.cast(pl.Float64, strict=False).is_not_null().sum() / len(there))


def _words(cells: pl.Series) -> float:
    texts = cells.drop_nulls().to_list() if cells.dtype == pl.String else []
    return float(np.mean([len(text.split()) for text in texts])) if texts else 0.0


def _missing(frame: pl.DataFrame) -> list[str]:
    found = {""} if any(cells.has_nulls() for cells in frame.iter_columns()) else set()
    for cells in frame.iter_columns():
        if cells.dtype == pl.String:
            found |= set(cells.filter(cells.is_in(MISSING)).to_list())
        elif cells.dtype.is_float() and cells.is_nan().any():
            found.add("nan")
    return [word for word in MISSING if word in found]

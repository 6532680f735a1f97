"""Tables of any format, joined by the id of an instance: columns to modalities, label, group and split.

Pictures, sounds and texts may lie in files that a column names. A picture is cut and resized to the size that is
trained once, here; a sound becomes log-mel frames, or, of shape [limit, 1], its samples. N instances, in the order of
the first table, d features of a modality.
"""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from mmcontrast.config import Dataset, Modality, validate
from mmcontrast.config.base import Strict, known
from mmcontrast.config.metrics import Target
from mmcontrast.data.instances import Instance, Stream, in_file, picture
from mmcontrast.data.manifest import raw_path
from mmcontrast.data.prepare.readers import named_file
from mmcontrast.data.prepare.table_files import Split, Table, TableFile, load
from mmcontrast.errors import ConfigError, DataError, nearest

SHOWN = 20
COLUMN = re.compile(r"\{([^{}]+)\}")
ALWAYS = "a label is a number, and never missing"
SPLIT_NAMES: dict[Split, list[str]] = {
    "train": ["train", "training"],
    "val": ["val", "valid", "validation", "dev"],
    "test": ["test", "testing"],
}


class UndecodableError(DataError):
    """A picture, sound or text that is missing or cannot be read."""


class Columns(Strict):
    """What of a table is a modality: one of the keys below, or else every column that is used for nothing else."""

    table: str | None = Field(default=None, description="Default: the one of the modality's name, or the only one.")
    columns: list[str] | None = Field(default=None, min_length=1, description="Of a text, or of bytes, one.")
    prefix: str | None = Field(default=None, min_length=1, description="Beginning of the names of its columns.")
    without: list[str] = Field(default=[], description="Columns that are not among them.")
    array: str | None = Field(default=None, description="Array of an npz, or a column of lists: (N, d), (N, C, H, W)")
    file: Annotated[str, Field(pattern=r"\{[^{}]+\}")] | None = Field(
        default=None, description="Picture, WAV file or text, with columns in braces: imgs/{image_id}.jpg"
    )


class TableOptions(Strict):
    """`prepare` in the dataset's file. A column of one name in several tables is written table/column."""

    tables: dict[str, str | TableFile] = Field(min_length=1, description="Name of a table -> its file, or more of it.")
    id: str | dict[str, str] | None = Field(
        default=None,
        description="Column that names an instance, in every table, or table -> column; null = row i of every table "
        "is instance i, and called by `row`. Several rows of one id are observations of a multifold modality.",
    )
    row: str = Field(default="row-", description="What stands before the number of a row, from 0, where `id` is null.")
    modalities: dict[str, Columns] = Field(default={}, description="Modality -> its columns.")
    label: str | None = Field(
        default=None,
        description="Column of the class, by name or number, or of several labels with | between; null = columns of "
        "the names in `classes` (multilabel: 0 or 1, regression: numbers).",
    )
    tasks: dict[str, str] = Field(default={}, description="Task -> its column, as `label`.")
    group: str | None = Field(default=None, description="Column of what no split may part, e.g. a patient.")
    group_pattern: str | None = Field(default=None, description="Regular expression: start of `group` that names it.")
    split: str | None = Field(default=None, description="Column of a published split.")
    splits: dict[Split, list[str]] = Field(default=SPLIT_NAMES, description="Split -> its names in that column.")
    common: bool = Field(default=False, description="Leave out and count instances that a table lacks.")
    skip_undecodable: bool = Field(default=False, description="Leave out, and count, rows whose file is unreadable.")


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All instances."""
    return _Reading(f"params/datasets/{name}.yaml", dataset, raw_dir).result()


class _Source(NamedTuple):
    """Where a modality is: a cell of every row of a table, names of a vector's features, and the folder of files."""

    table: str
    cells: Sequence[Any] | np.ndarray
    names: list[str]
    folder: Path | None = None


class _Reading:
    def __init__(self, where: str, dataset: Dataset, raw_dir: Path) -> None:
        self.where, self.dataset, self.raw_dir = where, dataset, raw_dir
        self.options = options = validate(TableOptions, dataset.prepare, where, prefix="prepare")
        self.tables = {t: load(t, file, raw_dir) for t, file in options.tables.items()}
        self.main_name, self.main = next(iter(self.tables.items()))
        known(f"{where}: prepare.modalities", "modality", options.modalities, dataset.modalities)
        self.ids = self._ids()
        self.rows = {name: self._rows(name, table) for name, table in self.tables.items()}
        lacking = {i for rows in self.rows.values() for i, of in enumerate(rows) if not of}
        self.kept = [i for i in range(len(self.ids)) if not (options.common and i in lacking)]
        self.sources = {m: self._source(m, spec) for m, spec in dataset.modalities.items()}
        self.labels = {t: self._labels(t, target) for t, target in dataset.targets.items()}
        self.groups, self.splits = self._groups(), self._splits()

    def result(self) -> Stream:
        names = {m: source.names for m, source in self.sources.items() if source.names}
        report: dict[str, Any] = {}
        if left := len(self.ids) - len(self.kept):
            report["left_out_as_a_table_lacks_them"] = left
        if self.options.skip_undecodable:
            report["undecodable"] = {"count": 0, "which": []}
        vectors = all(of.kind == "vector" for of in self.dataset.modalities.values())
        cells = {m: self.tables[source.table].written for m, source in self.sources.items() if source.names}
        return Stream(self._instances(report), names, report, cells=cells, in_memory=vectors)

    def _instances(self, report: dict[str, Any]) -> Iterator[Instance]:
        for k, i in enumerate(self.kept):
            values: dict[str, Any] = {}
            try:
                for m, spec in self.dataset.modalities.items():
                    source = self.sources[m]
                    rows = self.rows[source.table][i]
                    if source.folder is not None:  # a file that several rows name is one observation
                        rows = list({source.cells[row]: row for row in reversed(rows)}.values())[::-1]
                    several = [self._value(spec, source, row) for row in rows]
                    several = [value for value in several if value is not None]
                    values[m] = (several or None) if spec.multifold else (several[0] if several else None)
            except UndecodableError as e:
                if not self.options.skip_undecodable:
                    remedy = "mend it, or say `skip_undecodable: true` under `prepare` to leave such rows out"
                    raise DataError(f"{e}; {remedy}") from None
                report["undecodable"]["count"] += 1
                report["undecodable"]["which"] = [*report["undecodable"]["which"], self.ids[i]][:SHOWN]
                continue
            labels = {t: of[k] for t, of in self.labels.items()}
            split, group = (of[k] if of else None for of in (self.splits, self.groups))
            yield Instance(self.ids[i], values, labels.pop(""), split, labels, group)

    def _value(self, spec: Modality, source: _Source, row: int) -> Any:
        cell, table = source.cells[row], self.tables[source.table]
        if spec.kind == "text" and cell is None and table.of_text and not spec.optional and source.folder is None:
            return ""
        if cell is None or spec.kind == "vector":
            return cell
        if source.folder is not None:
            cell = named_file(source.folder, cell, table.at(row))
        try:
            if isinstance(cell, Path):
                return in_file(cell, spec)
            return _picture(cell, spec) if spec.kind == "image" else cell
        except DataError as e:
            raise UndecodableError(f"{table.at(row)}: {e}") from None

    def _id_column(self, table: str) -> str | None:
        given = self.options.id
        if isinstance(given, dict) and table not in given:
            raise ConfigError(f"{self.where}: prepare.id: no column for table '{table}'; give each table one")
        return given[table] if isinstance(given, dict) else given

    def _ids(self) -> list[str]:
        key = self._id_column(self.main_name)
        if key is None:
            return [f"{self.options.row}{i:04d}" for i in range(len(self.main))]
        named = self.main.texts(key)
        if None in named:
            raise DataError(f"{self.main.at(named.index(None))}: column '{key}' is empty; it names the instance")
        return list(dict.fromkeys(map(str, named)))

    def _rows(self, name: str, table: Table) -> list[list[int]]:
        key = self._id_column(name)
        if key is None:
            if len(table) != len(self.ids):
                remedy = "give `id`, the column that names an instance, or tables of equal length"
                raise DataError(f"{table.path}: {len(table)} rows, and {self.main.path} has {len(self.ids)}; {remedy}")
            return [[i] for i in range(len(table))]
        found: dict[str, list[int]] = {}
        for i, identity in enumerate(table.texts(key)):
            found.setdefault(str(identity), []).append(i)
        specs = [of for m, of in self.dataset.modalities.items() if self._table_of(m) == name]
        twice = [identity for identity, rows in found.items() if len(rows) > 1]
        if twice and not any(of.multifold for of in specs):
            one, other = found[twice[0]][:2]
            raise DataError(
                f"{table.at(other)}: '{twice[0]}' in column '{key}' stands also at {table.at(one)}; an id names one "
                "row, but of a modality that is `multifold`"
            )
        missing, extra = [i for i in self.ids if i not in found], sorted(set(found) - set(self.ids))
        missing = [] if specs and all(of.optional for of in specs) else missing
        if (missing or extra) and not self.options.common:
            of = self.main.path.name
            said = f"{len(extra)} ids are not in {of}"
            if missing:
                said = f"{len(missing)} of {len(self.ids)} ids of {of} are missing"
            raise DataError(
                f"{table.path}: {said}, the first is '{(missing or extra)[0]}'; say `common: true` under `prepare` in "
                f"{self.where} to leave such instances out, or `optional: true` of a modality that an instance may lack"
            )
        return [found.get(identity, []) for identity in self.ids]

    def _table_of(self, modality: str) -> str:
        given = self.options.modalities.get(modality, Columns()).table
        name = given or (modality if modality in self.tables or len(self.tables) > 1 else self.main_name)
        known(f"{self.where}: prepare.modalities.{modality}.table", "table", name, self.tables)
        return name

    def _place(self, key: str, given: str) -> tuple[str, str]:
        having = [t for t, table in self.tables.items() if given in (*table.names, *table.arrays)]
        table, _, column = given.partition("/")
        if len(having) != 1 and table in self.tables and column in self.tables[table].names:
            return table, column
        if len(having) > 1:
            remedy = f"write {having[0]}/{given}, or the other"
            raise ConfigError(f"{self.where}: prepare.{key}: the tables {having} have a column '{given}'; {remedy}")
        if not having:
            names = [name for table in self.tables.values() for name in table.names[:50]]
            files = ", ".join(str(table.path) for table in self.tables.values())
            raise DataError(f"{files}: no column '{given}' ({self.where}: prepare.{key}); {nearest(given, names)}")
        return having[0], given

    def _of(self, table: str, cells: Sequence[Any], key: str) -> list[tuple[Any, str]]:
        """Cell and place of every instance that is kept. Raises DataError where one has none."""
        out, at = [], self.tables[table].at
        for i in self.kept:
            rows = self.rows[table][i]
            if not rows or cells[rows[0]] is None:
                place = at(rows[0]) if rows else f"{self.tables[table].path}: '{self.ids[i]}'"
                raise DataError(f"{place}: no {key}; leave the row out, or fill it in")
            if other := [row for row in rows if cells[row] != cells[rows[0]]]:
                places = f"{at(other[0])}: another {key} than at {at(rows[0])}"
                raise DataError(f"{places}, and both rows are of '{self.ids[i]}'")
            out.append((cells[rows[0]], at(rows[0])))
        return out

    def _groups(self) -> list[str] | None:
        if self.options.group is None:
            return None
        table, column = self._place("group", self.options.group)
        groups = []
        for text, place in self._of(table, self.tables[table].texts(column), "group"):
            found = re.match(self.options.group_pattern or ".*", text)
            if not found:
                raise DataError(f"{place}: column '{column}': '{text}' is not as `group_pattern` says")
            groups.append(found[0])
        each_its_own = self.dataset.scenes is None and len(set(groups)) == len(groups)
        return None if each_its_own else groups

    def _splits(self) -> list[str] | None:
        options, kind = self.options, self.dataset.split.kind
        by_file = [self.main.splits[i] for i in self.kept]
        if (options.split is not None or any(by_file)) != (kind == "published"):
            remedy = "say `kind: published`" if kind == "random" else "name its column by `split`, or a file per split"
            raise ConfigError(f"{self.where}: split is {kind}, and `prepare` says otherwise; {remedy}")
        if kind == "random":
            return None
        if options.split is None:
            return [str(split) for split in by_file]
        table, column = self._place("split", options.split)
        split_of = {name: str(split) for split, names in options.splits.items() for name in names}
        out = []
        for text, place in self._of(table, self.tables[table].texts(column), "split"):
            if text not in split_of:
                accepted = f"accepted by `prepare.splits`: {', '.join(split_of)}"
                raise DataError(f"{place}: column '{column}': '{text}' is no split; {accepted}")
            out.append(split_of[text])
        return out

    def _labels(self, task: str, target: Target) -> list[Any]:
        given = self.options.tasks.get(task) if task else self.options.label
        key = f"tasks.{task}" if task else "label"
        if given is None and target.kind == "classes":
            if len(target.names) > 1:
                raise ConfigError(f"{self.where}: prepare.{key}: required; name the column of the class")
            return [0] * len(self.kept)
        if given is None or target.kind == "regression":
            places = [self._place(key, name) for name in ([given] if given else target.names)]
            columns = [self._of(t, self.tables[t].numbers([c], ALWAYS)[:, 0].tolist(), key) for t, c in places]
            return [[x for x, _ in row] for row in zip(*columns, strict=True)]
        table, column = self._place(key, given)
        texts = self.tables[table].texts(column)
        if target.kind == "classes":
            return _class_indices(column, self._of(table, texts, f"{key} in column '{column}'"), target.names)
        out = []
        for text, place in self._of(table, [text or "" for text in texts], key):
            found = text.split("|") if text else []
            if unknown := [c for c in found if c not in target.names]:
                raise DataError(f"{place}: {column}: '{unknown[0]}'; {nearest(unknown[0], target.names)}")
            out.append([int(name in found) for name in target.names])
        return out

    def _source(self, m: str, spec: Modality) -> _Source:
        name, given = self._table_of(m), self.options.modalities.get(m, Columns())
        table, shape = self.tables[name], tuple(spec.shape)
        if given.file is not None:
            if spec.kind == "vector":
                raise ConfigError(f"{self.where}: prepare.modalities.{m}.file: of kind image, sequence or text alone")
            return _Source(name, *self._files(table, given.file))
        if given.array is not None:
            values = table.array(given.array)
            if spec.kind != "vector":
                return _Source(name, values, [])
            if values.shape[1:] != shape or values.dtype.kind not in "fiub":
                found = f"{values.dtype} of shape {list(values.shape[1:])} per row"
                raise DataError(
                    f"{table.path}: array '{given.array}': {found}, and {self.where}: modalities.{m} says {list(shape)}"
                )
            return _Source(name, values.astype(np.float64), [f"{given.array}_{j}" for j in range(*shape)])
        columns = self._columns(m, table, name, given)
        if spec.kind != "vector":
            return _Source(name, table.cells(columns[0]), [])
        if len(columns) != spec.shape[0]:
            said = f"{len(columns)} feature columns, and {self.where}: modalities.{m} says {spec.shape[0]}"
            raise DataError(f"{table.path}: {said}")
        remedy = (
            f'in {self.where}, `missing` of the table says which cells stand for no number, `decimal: ","` that '
            f"numbers have a comma, and `without` of prepare.modalities.{m} which columns are left out"
        )
        return _Source(name, table.numbers(columns, remedy), columns)

    def _files(self, table: Table, pattern: str) -> tuple[list[str | None], list[str], Path]:
        """A path of every row, from a folder that no cell leads out of; None where a column that says it is empty."""
        start = pattern[: pattern.index("{")].rpartition("/")[0]
        rest = pattern[len(start) :].lstrip("/") if start else pattern
        cells = {c: table.texts(c) for c in COLUMN.findall(rest)}
        out: list[str | None] = []
        for i in range(len(table)):
            row = {c: texts[i] for c, texts in cells.items()}
            whole = all(row.values())
            out.append(COLUMN.sub(lambda found: str(row[found[1]]), rest) if whole else None)  # noqa: B023
        return out, [], raw_path(self.raw_dir, start) if start else self.raw_dir

    def _columns(self, m: str, table: Table, name: str, given: Columns) -> list[str]:
        there = set(table.names)
        for column in (*(given.columns or ()), *given.without):
            if column not in there:
                hint = nearest(column, table.names[:50])
                raise DataError(f"{table.path}: no column '{column}' ({self.where}: prepare.modalities.{m}); {hint}")
        taken = set(given.without) | (set() if given.columns else self._taken(name))
        found = [c for c in given.columns or table.names if c not in taken and c.startswith(given.prefix or "")]
        if not found:
            raise DataError(f"{table.path}: no column is left for '{m}' ({self.where}: prepare.modalities.{m})")
        return found

    def _taken(self, table: str) -> set[str]:
        """Columns of a table that are used for something else than a modality without `columns`."""
        o = self.options
        used = {"label": o.label, "group": o.group, "split": o.split} | {f"tasks.{t}": c for t, c in o.tasks.items()}
        places = [self._place(key, given) for key, given in used.items() if given is not None]
        if o.label is None and self.dataset.target != "classes":
            places += [self._place("label", name) for name in self.dataset.classes]
        others = [of.columns or () for m, of in o.modalities.items() if self._table_of(m) == table]
        taken = {column for t, column in places if t == table} | {c for of in others for c in of}
        key = self._id_column(table)
        return taken if key is None else taken | {key}


def _class_indices(column: str, cells: Sequence[tuple[str, str]], names: Sequence[str]) -> list[int]:
    """Of classes written by name, or, where no cell is a name, by number."""
    index = {name: i for i, name in enumerate(names)}
    written = [(_plain(text), place) for text, place in cells]
    if not any(text in index for text, _ in written) and all(_plain(t).isdigit() for t, _ in written):
        index = {str(i): i for i in range(len(names))}
    for text, place in written:
        if text not in index:
            accepted = ", ".join(key if key == names[i] else f"{key} = {names[i]}" for key, i in index.items())
            raise DataError(f"{place}: {column}: label '{text}'; {nearest(text, index)} (accepted: {accepted})")
    return [index[text] for text, _ in written]


def _plain(text: str) -> str:
    """1.0 as 1, and all else as it is."""
    whole, _, rest = text.partition(".")
    return whole if rest and set(rest) == {"0"} and whole.isdigit() else text


def _picture(value: Any, spec: Modality) -> Any:
    """What is stored of pixels (C, H, W) uint8, or of a file's bytes, also as the library datasets has them."""
    data = value.get("bytes") if isinstance(value, dict) else value
    return picture(io.BytesIO(data), spec) if isinstance(data, bytes) else np.asarray(value)

"""A folder of pictures or sounds beside tables of texts and labels, as N24News and MM-IMDb are.

A table is a csv file with a header, a JSON list of objects, or a file with one JSON object per line. It is read a row
at a time. A picture is cut and resized to the size that is trained once, here, and stored as a JPEG; a sound becomes
log-mel frames.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mmcontrast.config import Dataset, Modality, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.audio import log_mel, read_wav
from mmcontrast.data.files import CHUNK_BYTES, inside
from mmcontrast.data.instances import Instance
from mmcontrast.data.pictures import jpeg, resized
from mmcontrast.data.streaming import Stream
from mmcontrast.errors import ConfigError, DataError, FetchError, nearest

SHOWN = 20
COLUMN = re.compile(r"\{(\w+)\}")
BETWEEN = re.compile(r"[\s,\[\]]*")
MAX_OBJECT = 16 * 1024**2


FilePattern = Annotated[str, Field(pattern=r"\{\w+\}")]
# what is read of each kind of modality
OPTION_OF = {"image": "picture", "text": "text", "sequence": "sound"}


class UndecodableError(DataError):
    """A picture or sound that is missing or cannot be read."""


class FolderOptions(Strict):
    """`prepare` in the dataset's file. Columns are keys of the objects where a table is JSON."""

    tables: dict[Literal["train", "val", "test", "all"], str] = Field(
        min_length=1, description="Split -> its table; `all` alone where the split is random."
    )
    id: str = Field(description="Column of the name of an instance.")
    text: str | None = Field(default=None, description="Column of the text.")
    picture: FilePattern | None = Field(default=None, description="Picture, e.g. imgs/{image_id}.jpg by a column.")
    sound: FilePattern | None = Field(default=None, description="WAV file, likewise.")
    label: str | None = Field(
        default=None,
        description="Column of the class, or of a list of labels (in csv with | between); quantities have columns of "
        "their own names.",
    )
    skip_undecodable: bool = Field(
        default=False, description="Leave out and count rows whose picture or sound is missing or cannot be decoded."
    )


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All rows of all tables.

    Raises:
        DataError: a table or picture is missing or not what it should be; the row is named.
        ConfigError: the modalities or options are not those of such a folder.
    """
    where = f"params/datasets/{name}.yaml"
    options = validate(FolderOptions, dataset.prepare, where, prefix="prepare")
    given = {m: OPTION_OF.get(spec.kind, "") for m, spec in dataset.modalities.items()}
    if sorted(given.values()) != sorted(o for o in OPTION_OF.values() if getattr(options, o)):
        raise ConfigError(
            f"{where}: prepare: give `picture` for a modality of kind image, `text` for one of kind text, and `sound` "
            f"for one of kind sequence, each at most once and no other; the modalities are {list(dataset.modalities)}"
        )
    for m, spec in dataset.modalities.items():
        if spec.multifold or (spec.kind == "image" and not spec.encoded):
            remedy = "remove `multifold`" if spec.multifold else "give `encoded: true`; pictures are stored as JPEG"
            raise ConfigError(f"{where}: modalities.{m}: {remedy}")
    if (dataset.split.kind == "random") != (list(options.tables) == ["all"]):
        raise ConfigError(f"{where}: prepare.tables: give `all` alone for a random split, and else a table per split")
    if (dataset.target == "regression") != (options.label is None):
        raise ConfigError(f"{where}: prepare.label: required, but for a regression, whose quantities are columns")
    report: dict[str, Any] = {"undecodable": {"count": 0, "which": []}} if options.skip_undecodable else {}
    return Stream(_instances(dataset, options, raw_dir, report), report=report)


def _instances(dataset: Dataset, options: FolderOptions, raw_dir: Path, report: dict[str, Any]) -> Iterator[Instance]:
    """Every row. `report`: counts those that are left out."""
    for split, file in options.tables.items():
        for where, row in _rows(raw_dir / file):
            identity = str(_cell(row, options.id, where))
            values = {}
            try:
                for m, spec in dataset.modalities.items():
                    values[m] = _value(spec, getattr(options, OPTION_OF[spec.kind]), row, raw_dir, where)
            except UndecodableError as e:
                if not options.skip_undecodable:
                    remedy = "mend it, or say `skip_undecodable: true` under `prepare` to leave such rows out"
                    raise DataError(f"{where}: instance '{identity}': {e}; {remedy}") from None
                report["undecodable"]["count"] += 1
                report["undecodable"]["which"] = [*report["undecodable"]["which"], identity][:SHOWN]
                continue
            label = _label(dataset, options, row, where)
            yield Instance(identity, values, label, None if split == "all" else split)


def _value(spec: Modality, source: str, row: dict[str, Any], raw_dir: Path, where: str) -> Any:
    if spec.kind == "text":
        text = _cell(row, source, where)
        return None if text is None else str(text)
    path = _path(source, row, raw_dir, where)
    if path is None:
        return None
    try:
        return jpeg(resized(path, spec.shape)) if spec.kind == "image" else log_mel(*read_wav(path), spec.shape[1])
    except DataError as e:
        raise UndecodableError(str(e)) from None


def _label(dataset: Dataset, options: FolderOptions, row: dict[str, Any], where: str) -> Any:
    if options.label is None:
        try:
            return [float(_cell(row, name, where)) for name in dataset.classes]
        except (TypeError, ValueError):
            found = {name: row[name] for name in dataset.classes}
            raise DataError(f"{where}: {found}; each quantity is a number") from None
    given = _cell(row, options.label, where)
    if dataset.target == "classes":
        names = [given]
    else:
        names = given.split("|") if isinstance(given, str) else given if isinstance(given, list) else [given]
    for found in names:
        if found not in dataset.classes and not (dataset.target == "multilabel" and found == ""):
            raise DataError(f"{where}: {options.label}: '{found}'; {nearest(str(found), dataset.classes)}")
    return dataset.classes.index(given) if dataset.target == "classes" else [int(c in names) for c in dataset.classes]


def _cell(row: dict[str, Any], column: str, where: str) -> Any:
    if column not in row:
        raise DataError(f"{where}: no column '{column}'; {nearest(column, [str(key) for key in row])}")
    return row[column]


def _path(pattern: str, row: dict[str, Any], raw_dir: Path, where: str) -> Path | None:
    """Where the picture is; None where a column that says it is empty."""
    cells = {column: _cell(row, column, where) for column in COLUMN.findall(pattern)}
    if any(cell is None or cell == "" for cell in cells.values()):
        return None
    try:
        return inside(raw_dir, COLUMN.sub(lambda found: str(cells[found[1]]), pattern))
    except FetchError as e:
        raise DataError(f"{where}: {e}") from None


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a row is, and its cells by column."""
    try:
        with path.open(encoding="utf-8", newline="" if path.suffix == ".csv" else None) as file:
            if path.suffix == ".csv":
                reader = csv.DictReader(file, strict=True)
                for row in reader:
                    if None in row or None in row.values():
                        raise DataError(f"{path}: line {reader.line_num}: another number of cells than the header has")
                    yield f"{path}: line {reader.line_num}", row
                return
            for number, item in enumerate(_objects(file), start=1):
                if not isinstance(item, dict):
                    raise DataError(f"{path}: row {number}: {type(item).__name__}, expected an object of columns")
                yield f"{path}: row {number}", item
    except FileNotFoundError:
        raise DataError(f"{path}: no such table; see `mmcontrast data status`") from None
    except (UnicodeDecodeError, csv.Error, ValueError, RecursionError) as e:
        raise DataError(f"{path}: not a csv, JSON list or file of JSON lines ({e})") from None


def _objects(file: Any) -> Iterator[Any]:
    """Values of a JSON list, or of a file that has one after another, without holding the file.

    Raises:
        ValueError: what is left is no JSON.
    """
    decoder, text, at, more = json.JSONDecoder(), "", 0, True
    while True:
        at = BETWEEN.match(text, at).end()  # type: ignore[union-attr]
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            if not more and at == len(text):
                return
            if not more or len(text) - at > MAX_OBJECT:
                raise
            chunk = file.read(CHUNK_BYTES)
            text, at, more = text[at:] + chunk, 0, bool(chunk)
            continue
        yield value
        at = end

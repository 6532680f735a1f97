"""Pictures with a text each, in folders as they were released: UPMC Food-101 and MM-IMDb.

`food101`: train.csv and test.csv with the columns id (a file name), annotation (its class), label and text (the title
of its page); images/{train,test}/<class>/<id> and texts_txt/<class>/<id without ending>.txt, the text of the page.

`mmimdb`: mmimdb/split.json {train, dev, test: ids}; mmimdb/dataset/<id>.jpeg and <id>.json, a record of IMDb of which
`plot`, a list of texts, and `genres` are read. Genres that the dataset's file does not name are left out and counted.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.files import inside, told_json
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.pictures import jpeg, resized
from mmcontrast.errors import ConfigError, DataError, FetchError, nearest

COLUMNS = ("id", "text", "annotation", "label")
MODALITIES = {"image": ("image", True), "text": ("text", False)}
JSON = ("a JSON file", "see `mmcontrast data status`")
MMIMDB = {"train": "train", "dev": "val", "test": "test"}
NO_LETTER, SINGLE = re.compile(r"[^a-zA-Z]"), re.compile(r"\b[a-zA-Z]\b")


class PictureTextOptions(Strict):
    """`prepare` in the dataset's file."""

    layout: Literal["food101", "mmimdb"] = Field(description="Whose files they are.")
    text: Literal["page", "title"] = Field(default="page", description="food101: which text; a page is cleaned.")
    skip_undecodable: bool = Field(
        default=False, description="Leave out and count rows whose picture is missing or cannot be decoded."
    )


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All pictures with a text, split by split."""
    where = f"params/datasets/{name}.yaml"
    options = validate(PictureTextOptions, dataset.prepare, where, prefix="prepare")
    if {m: (s.kind, s.encoded) for m, s in dataset.modalities.items()} != MODALITIES:
        raise ConfigError(f"{where}: modalities: give `image` of kind image, `encoded: true`, and `text` of kind text")
    report: Counter[str] = Counter()
    rows = {"food101": _food101, "mmimdb": _mmimdb}[options.layout](dataset, raw_dir, options, report)
    return Stream(_decodable(rows, dataset.modalities["image"].shape, options, report), {}, report)


def _decodable(rows: Any, shape: list[int], options: PictureTextOptions, report: Counter[str]) -> Iterator[Instance]:
    """Instances of (file of the picture, identity, text, label, split)."""
    for picture, identity, text, label, split in rows:
        try:
            cut = resized(picture, shape)
        except DataError as e:
            if not options.skip_undecodable:
                remedy = "mend it, or say `skip_undecodable: true` under `prepare` to leave such rows out"
                raise DataError(f"{e}; {remedy}") from None
            report["undecodable"] += 1
            continue
        yield Instance(identity, {"image": jpeg(cut), "text": text}, label, split)


def _food101(dataset: Dataset, raw_dir: Path, options: PictureTextOptions, report: Counter[str]) -> Iterator[Any]:
    class_of: dict[str, str] = {}
    for split in ("train", "test"):
        for place, row in csv_rows(raw_dir / f"{split}.csv", COLUMNS):
            if any("\n" in cell for cell in row.values()):
                raise DataError(f"{place}: a cell of several lines; a quotation mark before it is not closed")
            kind, file = row["annotation"], row["id"]
            if kind not in dataset.classes:
                raise DataError(f"{place}: annotation '{kind}'; {nearest(kind, dataset.classes)}")
            if class_of.setdefault(row["label"], kind) != kind:
                raise DataError(f"{place}: label {row['label']} of '{kind}', and before of '{class_of[row['label']]}'")
            picture = _inside(raw_dir, f"images/{split}/{kind}/{file}", place)
            text = row["text"]
            if options.text == "page":
                page = _inside(raw_dir, f"texts_txt/{kind}/{Path(file).stem}.txt", place)
                text = cleaned(page.read_text(encoding="utf-8", errors="replace")) if page.is_file() else ""
            if not text.strip():
                report["left_out_without_text"] += 1
                continue
            yield picture, file, text, dataset.classes.index(kind), split


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a csv, each with where it is.

    Raises DataError: no such file, not UTF-8, one of `columns` is not there, or a row has more or fewer cells.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if missing := [c for c in columns if c not in (rows.fieldnames or [])]:
                raise DataError(f"{path}: no column {', '.join(missing)}; expected {', '.join(columns)}")
            for row in rows:
                place = f"{path}: line {rows.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{place}: not {len(rows.fieldnames or [])} cells, as the header has")
                yield place, row
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; see `mmcontrast data status`") from None
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: not UTF-8 text ({e.reason} at byte {e.start})") from None


def cleaned(text: str) -> str:
    """Words of two letters and more, in lower case, as the released code of M3CoL leaves them.

    Symbols and digits count as blanks, and so does every single letter.
    """
    return " ".join(SINGLE.sub(" ", NO_LETTER.sub(" ", text)).lower().split())


def _mmimdb(dataset: Dataset, raw_dir: Path, options: PictureTextOptions, report: Counter[str]) -> Iterator[Any]:
    folder = raw_dir / "mmimdb"
    splits = told_json(folder / "split.json", *JSON)
    if set(splits) != set(MMIMDB):
        raise DataError(f"{folder / 'split.json'}: keys {sorted(splits)}, expected {sorted(MMIMDB)}")
    for key, split in MMIMDB.items():
        for movie in splits[key]:
            path = _inside(folder, f"dataset/{movie}.json", f"{folder / 'split.json'}: {key}")
            record = told_json(path, *JSON)
            plots, genres = (_texts(record, key, path) for key in ("plot", "genres"))
            found = [genre.lower() for genre in genres]
            report["genres_left_out"] += sum(genre not in dataset.classes for genre in found)
            label = [int(name in found) for name in dataset.classes]
            # of several plots the longest, as in the code of MMBT
            yield path.with_suffix(".jpeg"), str(movie), max(plots, key=len), label, split


def _texts(record: dict[str, Any], key: str, path: Path) -> list[str]:
    found = record.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise DataError(f"{path}: expected lists of texts `plot` and `genres`")
    return found


def _inside(folder: Path, name: str, place: str) -> Path:
    try:
        return inside(folder, name)
    except FetchError as e:
        raise DataError(f"{place}: {e}") from None

"""Pictures with texts, in folders as they were released: one each in UPMC Food-101 and MM-IMDb, several in the others.

`food101`: train.csv and test.csv with the columns id (a file name), annotation (its class), label and text (the title
of its page); images/{train,test}/<class>/<id> and texts_txt/<class>/<id without ending>.txt, the text of the page.

`mmimdb`: mmimdb/split.json {train, dev, test: ids}; mmimdb/dataset/<id>.jpeg and <id>.json, a record of IMDb of which
`plot`, a list of texts, and `genres` are read. Genres that the dataset's file does not name are left out and counted.

`flickr30k`, with Karpathy's split: `dataset_flickr30k.json` of his caption datasets ({"images": [{"filename", "split",
"sentences": [{"raw"}]}]}) and the folder `flickr30k-images` of the data's own release: 29,000 / 1,014 / 1,000
photographs, five captions each. Some papers count 29,783 / 1,000 / 1,000; what params/ says is compared with what is
found.

`tricolo`, `parts2words`: Text2Shape, chairs and tables of ShapeNet, each with some five descriptions, as rendered views
and texts. `captions.tablechair.csv` of text2shape-data.zip (columns modelId, description, category), a folder `views`
with a folder of pictures for each model id (ShapeNet's shapes need a registration, and renderings are the user's own),
and `split_<layout>/{train,val,test}.txt`, a model id a line. Two test galleries are in use, and numbers on one say
nothing of the other: `tricolo` (some 1,490 shapes) and `parts2words` (1,434). So each is a dataset of its own.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmcontrast.config import Dataset, Modality, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.files import told_json
from mmcontrast.data.instances import Instance, Stream, picture
from mmcontrast.data.pictures import check_modalities
from mmcontrast.data.prepare.readers import named_file
from mmcontrast.errors import ConfigError, DataError, nearest
from mmcontrast.paths import SPLITS

COLUMNS = ("id", "text", "annotation", "label")
MODALITIES = {"image": ("image", True), "text": ("text", False)}
JSON = ("a JSON file", "see `mmcontrast data status`")
MMIMDB = {"train": "train", "dev": "val", "test": "test"}
NO_LETTER, SINGLE = re.compile(r"[^a-zA-Z]"), re.compile(r"\b[a-zA-Z]\b")
CAPTIONS, IMAGES = "dataset_flickr30k.json", "flickr30k-images"
DESCRIPTIONS, VIEWS, PICTURES = "captions.tablechair.csv", "views", (".png", ".jpg", ".jpeg")
# identity, files of its pictures, text or texts, label and split
Row = tuple[str, list[Path], str | list[str], Any, str]


class PictureTextOptions(Strict):
    """`prepare` in the dataset's file."""

    layout: Literal["food101", "mmimdb", "flickr30k", "tricolo", "parts2words"] = Field(
        description="Whose files they are; of Text2Shape whose split, since their test galleries differ."
    )
    text: Literal["page", "title"] = Field(default="page", description="food101: which text; a page is cleaned.")
    skip_undecodable: bool = Field(default=False, description="Leave out, and count, rows without a readable picture.")
    views: int = Field(default=6, ge=1, description="Text2Shape: views of a shape, evenly spaced in its folder.")


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All pictures with their texts, split by split."""
    where = f"params/datasets/{name}.yaml"
    options = validate(PictureTextOptions, dataset.prepare, where, prefix="prepare")
    if options.layout not in ("food101", "mmimdb"):
        check_modalities(name, dataset)
    elif {m: (s.kind, s.encoded) for m, s in dataset.modalities.items()} != MODALITIES:
        raise ConfigError(f"{where}: modalities: give `image` of kind image, `encoded: true`, and `text` of kind text")
    report: defaultdict[str, Any] = defaultdict(int)
    read = {"food101": _food101, "mmimdb": _mmimdb, "flickr30k": _photographs}.get(options.layout, _shapes)
    rows = read(dataset, raw_dir, options, report)
    return Stream(_instances(rows, dataset.modalities["image"], options.skip_undecodable, report), {}, report)


def _instances(rows: Iterator[Row], spec: Modality, skip: bool, report: dict[str, Any]) -> Iterator[Instance]:
    for identity, files, texts, label, split in rows:
        try:
            cut = [picture(file, spec) for file in files]
        except DataError as e:
            if not skip:
                remedy = "mend it, or say `skip_undecodable: true` under `prepare` to leave such rows out"
                raise DataError(f"{e}; {remedy}") from None
            report["undecodable"] += 1
            continue
        yield Instance(identity, {"image": cut if spec.multifold else cut[0], "text": texts}, label, split)


def _food101(dataset: Dataset, raw_dir: Path, options: PictureTextOptions, report: dict[str, Any]) -> Iterator[Row]:
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
            image = named_file(raw_dir, f"images/{split}/{kind}/{file}", place)
            text = row["text"]
            if options.text == "page":
                page = named_file(raw_dir, f"texts_txt/{kind}/{Path(file).stem}.txt", place)
                text = cleaned(page.read_text(encoding="utf-8", errors="replace")) if page.is_file() else ""
            if not text.strip():
                report["left_out_without_text"] += 1
                continue
            yield file, [image], text, dataset.classes.index(kind), split


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a csv, each with where it is. Raises DataError: no such file, not UTF-8, no such column, a ragged row."""
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
    """Words of two letters and more, in lower case, as the code of M3CoL leaves them; all else counts as blanks."""
    return " ".join(SINGLE.sub(" ", NO_LETTER.sub(" ", text)).lower().split())


def _mmimdb(dataset: Dataset, raw_dir: Path, options: PictureTextOptions, report: dict[str, Any]) -> Iterator[Row]:
    folder = raw_dir / "mmimdb"
    splits = told_json(folder / "split.json", *JSON)
    if set(splits) != set(MMIMDB):
        raise DataError(f"{folder / 'split.json'}: keys {sorted(splits)}, expected {sorted(MMIMDB)}")
    for key, split in MMIMDB.items():
        for movie in splits[key]:
            path = named_file(folder, f"dataset/{movie}.json", f"{folder / 'split.json'}: {key}")
            record = told_json(path, *JSON)
            plots, genres = (_texts(record, key, path) for key in ("plot", "genres"))
            found = [genre.lower() for genre in genres]
            report["genres_left_out"] += sum(genre not in dataset.classes for genre in found)
            label = [int(name in found) for name in dataset.classes]
            # of several plots the longest, as in the code of MMBT
            yield str(movie), [path.with_suffix(".jpeg")], max(plots, key=len), label, split


def _texts(record: dict[str, Any], key: str, path: Path) -> list[str]:
    found = record.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise DataError(f"{path}: expected lists of texts `plot` and `genres`")
    return found


def _photographs(dataset: Dataset, raw_dir: Path, options: PictureTextOptions, report: dict[str, Any]) -> Iterator[Row]:
    path = raw_dir / CAPTIONS
    content = told_json(path, "Karpathy's caption file", "see `mmcontrast data status`")
    try:
        for entry in content["images"]:
            texts = [s["raw"].strip() for s in entry["sentences"] if s["raw"].strip()]
            if entry["split"] in SPLITS:
                yield entry["filename"], [raw_dir / IMAGES / entry["filename"]], texts, 0, entry["split"]
    except (AttributeError, KeyError, TypeError) as e:
        raise DataError(f"{path}: not Karpathy's caption file ({type(e).__name__}: {e})") from None


def _shapes(dataset: Dataset, raw_dir: Path, options: PictureTextOptions, report: dict[str, Any]) -> Iterator[Row]:
    described = _descriptions(raw_dir / DESCRIPTIONS, dataset.classes)
    folder = raw_dir / f"split_{options.layout}"
    split_of: dict[str, str] = {}
    # a split without validation part has no val.txt
    for split in (s for s in SPLITS if getattr(dataset.split, s)):
        for model in _ids(folder / f"{split}.txt"):
            if model in split_of:
                raise DataError(f"{folder}: shape '{model}' is in {split_of[model]} and in {split}, or twice in one")
            split_of[model] = split
    report |= {"gallery": options.layout, "shapes_with_captions": len(described), "shapes_in_split": len(split_of)}
    for model, split in split_of.items():
        if model not in described:
            raise DataError(f"{raw_dir / DESCRIPTIONS}: no description of shape '{model}', which the split names")
        folder = raw_dir / VIEWS / model
        found = sorted(p for p in folder.glob("*") if p.suffix.lower() in PICTURES) if folder.is_dir() else []
        if not found:
            raise DataError(f"{folder}: no rendered view of shape '{model}'; give .png or .jpg files")
        views = min(options.views, len(found))
        label, texts = described[model]
        yield model, [found[i * len(found) // views] for i in range(views)], texts, label, split


def _descriptions(path: Path, classes: list[str]) -> dict[str, tuple[int, list[str]]]:
    """model id -> (class, its descriptions in the file's order)."""
    out: dict[str, tuple[int, list[str]]] = {}
    for place, row in csv_rows(path, ("modelId", "description", "category")):
        kind = row["category"].lower()
        if kind not in classes:
            raise DataError(f"{place}: category '{kind}'; accepted: {', '.join(classes)}")
        if text := row["description"].strip():
            out.setdefault(row["modelId"], (classes.index(kind), []))[1].append(text)
    return out


def _ids(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the model ids of this split, one a line") from None

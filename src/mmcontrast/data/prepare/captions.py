"""Pictures with several captions each: Flickr30K, and the shapes of Text2Shape.

`flickr30k`, with Karpathy's split: `dataset_flickr30k.json` of his caption datasets ({"images": [{"filename", "split",
"sentences": [{"raw"}]}]}) and the folder `flickr30k-images` of the data's own release: 29,000 / 1,014 / 1,000
photographs, five captions each. Some papers count 29,783 / 1,000 / 1,000; what params/ says is compared with what is
found.

Text2Shape: chairs and tables of ShapeNet, each with some five descriptions, as rendered views and texts.
`captions.tablechair.csv` of text2shape-data.zip (columns modelId, description, category), a folder `views` with a
folder of pictures for each model id (ShapeNet's shapes need a registration, and renderings are the user's own), and
`split_<layout>/{train,val,test}.txt`, a model id a line. Two test galleries are in use, and numbers on one say nothing
of the other: `tricolo` (some 1,490 shapes) and `parts2words` (1,434). So each is a dataset of its own, which says by
name which it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.files import told_json
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.pictures import check_modalities, pixels, resized
from mmcontrast.data.prepare.picture_texts import csv_rows
from mmcontrast.errors import DataError
from mmcontrast.paths import SPLITS

CAPTIONS = "dataset_flickr30k.json"
IMAGES = "flickr30k-images"
DESCRIPTIONS = "captions.tablechair.csv"
VIEWS = "views"
PICTURES = (".png", ".jpg", ".jpeg")


class CaptionOptions(Strict):
    """`prepare` in the dataset's file."""

    layout: Literal["flickr30k", "tricolo", "parts2words"] = Field(
        description="Flickr30K, or whose split of Text2Shape; their test galleries differ."
    )
    views: int = Field(default=6, ge=1, description="Views of a shape, evenly spaced among those in its folder.")


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All photographs, or all shapes of one gallery, split by split."""
    options = validate(CaptionOptions, dataset.prepare, f"params/datasets/{name}.yaml", prefix="prepare")
    check_modalities(name, dataset)
    report: dict[str, Any] = {}
    found = _photographs(raw_dir) if options.layout == "flickr30k" else _shapes(raw_dir, dataset, options, report)
    shape = dataset.modalities["image"].shape
    instances = (
        Instance(one, {"image": [pixels(resized(p, shape)) for p in files], "text": texts}, label, split)
        for one, files, texts, label, split in found
    )
    return Stream(instances, report=report)


def _photographs(raw_dir: Path) -> Iterator[tuple[str, list[Path], list[str], int, str]]:
    """Name, its file, captions, class and split."""
    path = raw_dir / CAPTIONS
    content = told_json(path, "Karpathy's caption file", "see `mmcontrast data status`")
    try:
        for entry in content["images"]:
            texts = [s["raw"].strip() for s in entry["sentences"] if s["raw"].strip()]
            if entry["split"] in SPLITS:
                yield entry["filename"], [raw_dir / IMAGES / entry["filename"]], texts, 0, entry["split"]
    except (AttributeError, KeyError, TypeError) as e:
        raise DataError(f"{path}: not Karpathy's caption file ({type(e).__name__}: {e})") from None


def _shapes(
    raw_dir: Path, dataset: Dataset, options: CaptionOptions, report: dict[str, Any]
) -> Iterator[tuple[str, list[Path], list[str], int, str]]:
    """Model id, files of its views, descriptions, class and split."""
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

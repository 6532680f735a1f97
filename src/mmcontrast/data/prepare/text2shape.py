"""Text2Shape: chairs and tables of ShapeNet, each with some five descriptions, as rendered views and texts.

Layout: `captions.tablechair.csv` of text2shape-data.zip (columns modelId, description, category), a folder `views` with
a folder of pictures for each model id (ShapeNet's shapes need a registration, and renderings are the user's own), and
`split_<gallery>/{train,val,test}.txt`, a model id a line.

Two test galleries are in use, and numbers on one say nothing of the other: `tricolo` (some 1,490 shapes) and
`parts2words` (1,434). So each is a dataset of its own, which says by name which it is.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.instances import Instance
from mmcontrast.data.pictures import check_modalities, pixels, resized
from mmcontrast.data.streaming import Stream
from mmcontrast.errors import DataError
from mmcontrast.paths import SPLITS

CAPTIONS = "captions.tablechair.csv"
VIEWS = "views"
COLUMNS = ("modelId", "description", "category")
PICTURES = (".png", ".jpg", ".jpeg")


class Text2ShapeOptions(Strict):
    """`prepare` in the dataset's file."""

    gallery: Literal["tricolo", "parts2words"] = Field(description="Whose split; their test galleries differ.")
    views: int = Field(default=6, ge=1, description="Views of a shape, evenly spaced among those in its folder.")


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All shapes of one gallery, split by split.

    Raises:
        DataError: a file is missing or not what it should be, a shape is in two splits, or has no caption or view.
        ConfigError: `prepare` or the modalities are not accepted.
    """
    options = validate(Text2ShapeOptions, dataset.prepare, f"params/datasets/{name}.yaml", prefix="prepare")
    check_modalities(name, dataset)
    captions = _captions(raw_dir / CAPTIONS, dataset.classes)
    folder = raw_dir / f"split_{options.gallery}"
    # a split without validation part has no val.txt
    members = {s: _ids(folder / f"{s}.txt") if getattr(dataset.split, s) else [] for s in SPLITS}
    _refuse_shared(folder, members)
    shared = sum(len(ids) for ids in members.values())
    report = {"gallery": options.gallery, "shapes_with_captions": len(captions), "shapes_in_split": shared}
    shape = dataset.modalities["image"].shape
    return Stream(_instances(members, captions, raw_dir, options.views, shape), report=report)


def _instances(
    members: dict[str, list[str]],
    captions: dict[str, tuple[int, list[str]]],
    raw_dir: Path,
    views: int,
    shape: list[int],
) -> Iterator[Instance]:
    for split, model in ((split, model) for split, ids in members.items() for model in ids):
        if model not in captions:
            raise DataError(f"{raw_dir / CAPTIONS}: no description of shape '{model}', which the split names")
        label, texts = captions[model]
        folder = raw_dir / VIEWS / model
        found = sorted(p for p in folder.glob("*") if p.suffix.lower() in PICTURES) if folder.is_dir() else []
        if not found:
            raise DataError(f"{folder}: no rendered view of shape '{model}'; give .png or .jpg files")
        spaced = [found[i * len(found) // min(views, len(found))] for i in range(min(views, len(found)))]
        yield Instance(model, {"image": [pixels(resized(p, shape)) for p in spaced], "text": texts}, label, split)


def _captions(path: Path, classes: list[str]) -> dict[str, tuple[int, list[str]]]:
    """model id -> (class, its descriptions in the file's order)."""
    out: dict[str, tuple[int, list[str]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = csv.DictReader(handle)
            if missing := [c for c in COLUMNS if c not in (rows.fieldnames or [])]:
                raise DataError(f"{path}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
            for number, row in enumerate(rows, start=2):
                kind = (row["category"] or "").lower()
                if kind not in classes:
                    raise DataError(f"{path}: line {number}: category '{kind}'; accepted: {', '.join(classes)}")
                text = (row["description"] or "").strip()
                if text:
                    out.setdefault(row["modelId"], (classes.index(kind), []))[1].append(text)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; see `mmcontrast data status`") from None
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: not UTF-8 text ({e.reason} at byte {e.start})") from None
    return out


def _ids(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the model ids of this split, one a line") from None


def _refuse_shared(folder: Path, members: dict[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for split, ids in members.items():
        for model in ids:
            if model in seen:
                raise DataError(f"{folder}: shape '{model}' is in {seen[model]} and in {split}, or twice in one")
            seen[model] = split

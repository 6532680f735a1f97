"""Flickr30K with Karpathy's split: 29,000 / 1,014 / 1,000 photographs, five captions each.

Layout: `dataset_flickr30k.json` of Karpathy's caption datasets ({"images": [{"filename", "split", "sentences":
[{"raw"}]}]}) and the folder `flickr30k-images` of the data's own release. Some papers count 29,783 / 1,000 / 1,000;
what params/ says is compared with what is found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Written
from mmcontrast.data.prepare.multifold_files import Pictured, check_counts, check_modalities, write_pictured
from mmcontrast.errors import DataError
from mmcontrast.paths import SPLITS

CAPTIONS = "dataset_flickr30k.json"
IMAGES = "flickr30k-images"


def write(name: str, dataset: Dataset, raw_dir: Path, out_dir: Path) -> Written:
    """Write the splits.

    Raises:
        DataError: a file is missing or not what it should be, or a split has not the size that params/ says.
        ConfigError: the dataset's file names other modalities or another kind of split.
    """
    check_modalities(name, dataset)
    path = raw_dir / CAPTIONS
    entries = _entries(path)
    members = {split: [e for e in entries if e["split"] == split] for split in SPLITS}
    check_counts(name, dataset, members, path)
    labels = {s: write_pictured(name, dataset, s, _instances(own, raw_dir), out_dir) for s, own in members.items()}
    return Written(labels=labels)


def _instances(entries: list[dict[str, Any]], raw_dir: Path) -> Iterator[Pictured]:
    for entry in entries:
        texts = [s["raw"].strip() for s in entry["sentences"] if s["raw"].strip()]
        yield Pictured(entry["filename"], 0, [raw_dir / IMAGES / entry["filename"]], texts)


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["images"]
        for entry in entries:
            _ = entry["filename"], entry["split"], [s["raw"] for s in entry["sentences"]]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; see `mmcontrast data status`") from None
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"{path}: not Karpathy's caption file ({type(e).__name__}: {e})") from None
    return entries

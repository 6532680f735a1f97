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
from mmcontrast.data.instances import Instance
from mmcontrast.data.pictures import check_modalities, pixels, resized
from mmcontrast.data.streaming import Stream
from mmcontrast.errors import DataError
from mmcontrast.paths import SPLITS

CAPTIONS = "dataset_flickr30k.json"
IMAGES = "flickr30k-images"


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All photographs, split by split.

    Raises:
        DataError: a file is missing or not what it should be.
        ConfigError: the dataset's file names other modalities.
    """
    check_modalities(name, dataset)
    entries = _entries(raw_dir / CAPTIONS)
    return Stream(_instances(entries, raw_dir, dataset.modalities["image"].shape))


def _instances(entries: list[dict[str, Any]], raw_dir: Path, shape: list[int]) -> Iterator[Instance]:
    for entry in entries:
        if entry["split"] in SPLITS:
            texts = [s["raw"].strip() for s in entry["sentences"] if s["raw"].strip()]
            image = pixels(resized(raw_dir / IMAGES / entry["filename"], shape))
            yield Instance(entry["filename"], {"image": [image], "text": texts}, 0, entry["split"])


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

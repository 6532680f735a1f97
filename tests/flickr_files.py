"""Flickr30K's files, tiny and in the layout of the real ones."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from mmcontrast.data.prepare import picture_texts


def draw(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def write_flickr(raw: Path, splits: list[str]) -> None:
    """One image and five captions for each of `splits`, the split that it is in."""
    images = []
    for i, split in enumerate(splits):
        draw(raw / picture_texts.IMAGES / f"{i}.jpg", (40 * i % 256, 0, 0))
        sentences = [{"raw": f" caption {k} of {i}.", "tokens": []} for k in range(5)]
        images.append({"filename": f"{i}.jpg", "split": split, "imgid": i, "sentences": sentences})
    (raw / picture_texts.CAPTIONS).write_text(json.dumps({"images": images, "dataset": "flickr30k"}))

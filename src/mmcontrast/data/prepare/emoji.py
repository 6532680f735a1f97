"""Emoji as multifold data: one emoji is an instance, drawn by up to four vendors and worded in several ways.

Drawings come as SVG paths from Iconify's packages of Noto, Twemoji, OpenMoji and Fluent; texts are the CLDR name, the
keywords of CLDR (or Emojibase) and of emojilib, and the short codes of chat programs. Skin tones are left out:
their drawings differ in one colour and their texts in one word.

Variants of one base (woman / man / person, families, facing right) share a family, and a family is never split.
"""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image
from pydantic import Field
from rich.console import Console
from rich.progress import track

from mmcontrast.config import Dataset, RandomSplit
from mmcontrast.config.base import Strict
from mmcontrast.config.validation import validate
from mmcontrast.data.instances import Instance
from mmcontrast.data.pictures import check_modalities
from mmcontrast.data.prepare.emoji_files import read_emoji
from mmcontrast.data.streaming import Stream
from mmcontrast.errors import ConfigError, DataError

# of a drawing, what it refers to counted where it does so; real ones are 6 deep
MAX_DEPTH, MAX_ELEMENTS = 64, 100_000
REFERENCE = re.compile(r"url\(\s*['\"]?([^'\")]*)")


class EmojiOptions(Strict):
    """`prepare` in the dataset's file: an emoji with fewer is left out and counted in the datasheet."""

    min_drawings: int = Field(default=1, ge=1)
    min_texts: int = Field(default=1, ge=1)


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """The emoji of the dataset's classes, by family, drawn in the size of its modality `image`; they are in memory.

    Args:
        raw_dir: the fetched packages, a folder each.

    Raises:
        DataError: a file is missing or not what it should be, or an id is not unique.
        ConfigError: the dataset's file names other modalities, an unknown group, or another kind of split.
    """
    where = f"params/datasets/{name}.yaml"
    options = validate(EmojiOptions, dataset.prepare, where, prefix="prepare")
    check_modalities(name, dataset)
    shape = dataset.modalities["image"].shape
    if shape[1] != shape[2]:
        raise ConfigError(f"{where}: modalities.image.shape: {shape}; drawings are square")
    if not isinstance(dataset.split, RandomSplit):
        raise ConfigError(f"{where}: split: give `kind: random`; nobody publishes a split")
    emoji_read = read_emoji(raw_dir, dataset.classes)
    kept, images, texts, skipped, short = [], [], [], [], []
    shown = track(emoji_read, "drawing emoji", console=Console(file=sys.stderr), disable=not sys.stderr.isatty())
    for emoji in shown:
        # in the order of VENDORS, a missing vendor left out
        drawn = []
        for vendor, svg in emoji.drawings.items():
            try:
                drawn.append(draw(svg, shape[1]))
            except DataError as e:
                skipped.append({"id": emoji.id, "name": emoji.name, "vendor": vendor, "reason": str(e)})
        if len(drawn) < options.min_drawings or len(emoji.texts) < options.min_texts:
            short.append(f"{emoji.id} ({emoji.name}: {len(drawn)} drawings, {len(emoji.texts)} texts)")
            continue
        images.append(drawn)
        texts.append(emoji.texts)
        kept.append(Instance(emoji.id, {"image": drawn, "text": emoji.texts}, emoji.label, group=emoji.family))
    report: dict[str, Any] = {
        "drawings": sum(map(len, images)),
        "texts": sum(map(len, texts)),
        "drawings_per_instance": _histogram(map(len, images)),
        "texts_per_instance": _histogram(map(len, texts)),
        "texts_shared_by_instances": _shared(texts),
        "families": len({one.group for one in kept}),
        "svg_not_drawn": skipped,
        "left_out": {"count": len(short), **options.model_dump(), "which": short},
    }
    return Stream(kept, report=report)


def _refuse_unsafe(svg: str) -> None:
    """Raise DataError for a drawing that would end the process that draws it, or show files of this machine."""
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as e:
        raise DataError(f"cannot be drawn ({e})") from None
    named = {element.get("id"): element for element in root.iter()}
    met, ahead = 0, [(root, 1)]
    while ahead:
        element, depth = ahead.pop()
        met += 1
        if depth > MAX_DEPTH or met > MAX_ELEMENTS:
            raise DataError(f"more than {MAX_DEPTH} elements within one another, or {MAX_ELEMENTS} in all")
        inner = list(element)
        for key, value in element.items():
            for target in [value] if key.endswith("href") else REFERENCE.findall(value):
                if not target.startswith("#"):
                    raise DataError(f"refers to {target[:60]!r}, which is outside of it")
                inner += [named[target[1:]]] if target[1:] in named else []
        ahead += [(other, depth + 1) for other in inner]


def draw(svg: str, size: int) -> npt.NDArray[np.uint8]:
    """(3, size, size) pixels of a square SVG on white.

    Raises:
        DataError: it cannot be drawn, is nested too deep, refers to a file, or nothing of it shows.
    """
    _refuse_unsafe(svg)
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg, width=size, height=size, background="#ffffff", skip_system_fonts=True
        )
    except ValueError as e:
        raise DataError(f"cannot be drawn ({e})") from None
    pixels_HWC = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    if pixels_HWC.min() == pixels_HWC.max():
        raise DataError("came out blank")
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1))


def _shared(texts: list[list[str]]) -> int:
    """Texts that also stand, letter for letter, with another instance: as a query they have no one answer."""
    counts = Counter(text.casefold() for own in texts for text in own)
    return sum(n for n in counts.values() if n > 1)


def _histogram(numbers: Iterable[int]) -> dict[str, int]:
    values, counts = np.unique(list(numbers), return_counts=True)
    return {str(v): int(c) for v, c in zip(values, counts, strict=True)}

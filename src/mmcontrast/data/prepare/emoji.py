"""Emoji as multifold data: one emoji is an instance, drawn by up to four vendors and worded in several ways.

Drawings come as SVG paths from Iconify's packages of Noto, Twemoji, OpenMoji and Fluent; texts are the CLDR name, the
keywords of CLDR (or Emojibase) and of emojilib, and the short codes of chat programs. Skin tones are left out:
their drawings differ in one colour and their texts in one word.

Variants of one base (woman / man / person, families, facing right) share a family, and a family is never split.
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


class EmojiOptions(Strict):
    """`prepare` in the dataset's file: an emoji with fewer is left out and counted in the datasheet."""

    min_drawings: int = Field(default=1, ge=1)
    min_texts: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class Built:
    """The dataset in memory.

    Attributes:
        ids, labels, families: (N,) of each instance.
        images: (N,) lists of (3, size, size) uint8 drawings, in the order of VENDORS, a missing vendor left out.
        texts: (N,) lists of texts.
        report: counts and the names of all that was left out, for the datasheet.
    """

    ids: list[str]
    labels: npt.NDArray[np.int64]
    families: list[str]
    images: list[list[npt.NDArray[np.uint8]]]
    texts: list[list[str]]
    report: dict[str, Any] = field(default_factory=dict)


def build(dataset: Dataset, raw_dir: Path, *, min_drawings: int = 3, min_texts: int = 1) -> Built:
    """Read and draw the emoji of the dataset's classes.

    Args:
        dataset: its modality `image` gives the size of the drawings.
        raw_dir: the fetched packages, a folder each.
        min_drawings, min_texts: an emoji with fewer is left out and counted.

    Raises:
        DataError: a file is missing or not what it should be, or an id is not unique.
        ConfigError: the dataset's file names other modalities, an unknown group, or another kind of split.
    """
    check_modalities("emoji", dataset)
    shape = dataset.modalities["image"].shape
    if shape[1] != shape[2]:
        raise ConfigError(f"emoji: modalities.image.shape: {shape}; drawings are square")
    if not isinstance(dataset.split, RandomSplit):
        raise ConfigError("emoji: split: give `kind: random`; nobody publishes a split")
    emoji_read = read_emoji(raw_dir, dataset.classes)
    kept, images, skipped, short = [], [], [], []
    shown = track(emoji_read, "drawing emoji", console=Console(file=sys.stderr), disable=not sys.stderr.isatty())
    for emoji in shown:
        drawn = []
        for vendor, svg in emoji.drawings.items():
            try:
                drawn.append(draw(svg, shape[1]))
            except DataError as e:
                skipped.append({"id": emoji.id, "name": emoji.name, "vendor": vendor, "reason": str(e)})
        if len(drawn) < min_drawings or len(emoji.texts) < min_texts:
            short.append(f"{emoji.id} ({emoji.name}: {len(drawn)} drawings, {len(emoji.texts)} texts)")
            continue
        kept.append(emoji)
        images.append(drawn)
    labels = np.array([e.label for e in kept], dtype=np.int64)
    families = [e.family for e in kept]
    report: dict[str, Any] = {
        "drawings": sum(map(len, images)),
        "texts": sum(len(e.texts) for e in kept),
        "drawings_per_instance": _histogram(map(len, images)),
        "texts_per_instance": _histogram(len(e.texts) for e in kept),
        "texts_shared_by_instances": _shared([e.texts for e in kept]),
        "families": len(set(families)),
        "svg_not_drawn": skipped,
        "left_out": {"count": len(short), "min_drawings": min_drawings, "min_texts": min_texts, "which": short},
    }
    return Built([e.id for e in kept], labels, families, images, [e.texts for e in kept], report)


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All emoji, by family; what they hold is in memory.

    Raises:
        DataError, ConfigError: as `build`.
    """
    options = validate(EmojiOptions, dataset.prepare, f"params/datasets/{name}.yaml", prefix="prepare")
    built = build(dataset, raw_dir, min_drawings=options.min_drawings, min_texts=options.min_texts)
    instances = (
        Instance(identity, {"image": images, "text": of}, label, group=family)
        for identity, images, of, label, family in zip(
            built.ids, built.images, built.texts, built.labels.tolist(), built.families, strict=True
        )
    )
    return Stream(instances, report=built.report)


def draw(svg: str, size: int) -> npt.NDArray[np.uint8]:
    """(3, size, size) pixels of a square SVG on white.

    Raises:
        DataError: it cannot be drawn, or nothing of it shows.
    """
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

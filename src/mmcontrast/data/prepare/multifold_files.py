"""Writing a multifold split of pictures and texts, a batch of instances at a time: it need not fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from mmcontrast.config import Dataset, PublishedSplit
from mmcontrast.data.files import replacing
from mmcontrast.data.table import schema
from mmcontrast.errors import ConfigError, DataError

ROWS_AT_ONCE = 256
PIXEL = pa.field("item", pa.uint8(), nullable=False)


@dataclass(frozen=True)
class Pictured:
    """One instance.

    Attributes:
        id: unique in the dataset. label: index of its class. pictures: files, at least one. texts: at least one.
    """

    id: str
    label: int
    pictures: Sequence[Path]
    texts: Sequence[str]


def check_modalities(name: str, dataset: Dataset) -> None:
    """Raise ConfigError unless the dataset has `image` and `text`, both multifold."""
    found = {m: (s.kind, s.multifold) for m, s in dataset.modalities.items()}
    if found != {"image": ("image", True), "text": ("text", True)} or dataset.modalities["image"].shape[0] != 3:
        raise ConfigError(
            f"params/datasets/{name}.yaml: modalities: give `image` of kind image with 3 channels and `text` of kind "
            "text, both with `multifold: true`"
        )


def check_counts(name: str, dataset: Dataset, members: Mapping[str, Sequence[object]], path: Path) -> None:
    """Hold the splits that were found against those of params/.

    Args:
        members: split -> its instances. path: where they were found.

    Raises:
        ConfigError: the dataset's file gives no published split.
        DataError: a split is of another size.
    """
    where = f"params/datasets/{name}.yaml: split"
    if not isinstance(dataset.split, PublishedSplit):
        raise ConfigError(f"{where}: give `kind: published`; these data come with their split")
    for split, found in members.items():
        expected = getattr(dataset.split, split)
        if len(found) != expected:
            raise DataError(f"{path}: {len(found)} instances in {split}, and {where} says {expected}")


def write_pictured(name: str, dataset: Dataset, split: str, instances: Iterable[Pictured], out_dir: Path) -> np.ndarray:
    """Write <split>.parquet, and return its (N,) labels.

    Raises:
        DataError: an id stands twice, an instance has no picture or no text, or a picture cannot be read.
    """
    layout = schema(name, split, dataset.modalities, dataset.classes, dataset.scaling, {})
    shape = dataset.modalities["image"].shape
    labels: list[int] = []
    seen: set[str] = set()
    out_dir.mkdir(parents=True, exist_ok=True)
    with (
        replacing(out_dir / f"{split}.parquet") as temp,
        pq.ParquetWriter(temp, layout, compression="zstd", use_dictionary=["label"]) as writer,
    ):
        for batch in _batches(instances):
            for one in batch:
                _check(name, one, seen)
            labels += [one.label for one in batch]
            writer.write_table(_table(batch, shape, layout))
        if not labels:
            writer.write_table(layout.empty_table())
    return np.array(labels, dtype=np.int64)


def picture(path: Path, shape: Sequence[int]) -> np.ndarray:
    """(3, H, W) uint8: the picture's largest centred part of the wanted proportions, resized.

    Raises:
        DataError: it is missing, or no picture.
    """
    _, height, width = shape
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such picture") from None
    except (UnidentifiedImageError, OSError) as e:
        raise DataError(f"{path}: not a picture that can be read ({e})") from None
    scale = min(rgb.width / width, rgb.height / height)
    cut = (round(width * scale), round(height * scale))
    left, top = (rgb.width - cut[0]) // 2, (rgb.height - cut[1]) // 2
    part = rgb.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + cut[0], top + cut[1]))
    return np.ascontiguousarray(np.asarray(part).transpose(2, 0, 1))


def _check(name: str, one: Pictured, seen: set[str]) -> None:
    if one.id in seen:
        raise DataError(f"{name}: the id '{one.id}' stands on two instances")
    seen.add(one.id)
    for what, found in (("picture", one.pictures), ("text", one.texts)):
        if not found:
            raise DataError(f"{name}: instance '{one.id}' has no {what}; leave it out, or add one")


def _table(batch: list[Pictured], shape: Sequence[int], layout: pa.Schema) -> pa.Table:
    pixels = np.stack([picture(path, shape) for one in batch for path in one.pictures])
    starts = np.cumsum([0, *(len(one.pictures) for one in batch)], dtype=np.int32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), type=pa.list_(PIXEL, pixels[0].size))
    columns = [
        pa.array([one.id for one in batch], pa.string()),
        pa.array([one.label for one in batch], pa.int64()),
        pa.ListArray.from_arrays(pa.array(starts), flat, type=layout.field("image").type),
        pa.array([list(one.texts) for one in batch], layout.field("text").type),
    ]
    return pa.Table.from_arrays(columns, schema=layout)


def _batches(instances: Iterable[Pictured]) -> Iterator[list[Pictured]]:
    left = iter(instances)
    while batch := list(islice(left, ROWS_AT_ONCE)):
        yield batch

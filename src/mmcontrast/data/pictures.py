"""Pictures: files cut and resized once, and the bytes of JPEG and PNG files as they are stored and decoded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmcontrast.config import Dataset
from mmcontrast.errors import ConfigError, DataError

FORMATS = ("JPEG", "PNG")
MODES = {1: "L", 3: "RGB"}
QUALITY = 95


def check_modalities(name: str, dataset: Dataset) -> None:
    """Raise ConfigError unless the dataset has `image` and `text`, both multifold."""
    found = {m: (s.kind, s.multifold) for m, s in dataset.modalities.items()}
    if found != {"image": ("image", True), "text": ("text", True)} or dataset.modalities["image"].shape[0] != 3:
        raise ConfigError(
            f"params/datasets/{name}.yaml: modalities: give `image` of kind image with 3 channels and `text` of kind "
            "text, both with `multifold: true`"
        )


def resized(path: Path | IO[bytes], shape: Sequence[int]) -> Image.Image:
    """The largest centred part of a picture that has the wanted proportions, resized.

    Args:
        shape: [C, H, W]; grey with one channel, colours with three.

    Raises:
        DataError: it is missing, or no picture.
    """
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            whole = image.convert(MODES[channels])
    except FileNotFoundError:
        raise DataError(f"{path}: no such picture") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        what = path if isinstance(path, Path) else "its bytes"
        raise DataError(f"{what}: not a picture that can be read ({e})") from None
    scale = min(whole.width / width, whole.height / height)
    cut = (round(width * scale), round(height * scale))
    left, top = (whole.width - cut[0]) // 2, (whole.height - cut[1]) // 2
    return whole.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + cut[0], top + cut[1]))


def pixels(image: Image.Image) -> np.ndarray:
    """(C, H, W) uint8."""
    values = np.asarray(image)
    return np.ascontiguousarray(values[None] if values.ndim == 2 else values.transpose(2, 0, 1))


def jpeg(image: Image.Image) -> bytes:
    """The bytes of a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def decode(data: bytes, shape: Sequence[int]) -> np.ndarray:
    """(C, H, W) uint8 of the bytes of a picture; grey and colour are converted to what `shape` says.

    Raises:
        ValueError: it is no whole JPEG or PNG file, or of another height and width.
    """
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            # before the pixels are: a few bytes can say that there are any number of them
            if image.size != (width, height):
                raise ValueError(f"{image.height} x {image.width} pixels in place of {height} x {width}")
            return pixels(image.convert(MODES[channels]))
    except Exception as e:  # a broken file raises errors of a dozen kinds
        raise ValueError(str(e).splitlines()[0] if str(e) else type(e).__name__) from None

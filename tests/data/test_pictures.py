"""Whatever a file is that should be a picture: pixels, or a message."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcontrast.data.pictures import resized
from mmcontrast.errors import DataError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO", "PCX")


def test_a_small_file_that_declares_any_number_of_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (20_000, 20_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(
        DataError, match=r"large\.png: not a picture that can be read \(Image size \(400000000 pixels\)"
    ):
        resized(path, [3, 8, 8])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_picture_is_read_or_refused(kind: str) -> None:
    draw = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(file, kind)
    whole = file.getvalue()
    refused = 0
    for _ in range(100):
        changed = bytearray(whole)
        for at in draw.integers(0, len(whole) if draw.random() < 0.5 else min(64, len(whole)), 3):
            changed[at] ^= 1 << int(draw.integers(8))
        try:
            assert resized(io.BytesIO(changed[: int(draw.integers(1, len(whole) + 1))]), [3, 8, 8]).size == (8, 8)
        except DataError:
            refused += 1
    assert refused

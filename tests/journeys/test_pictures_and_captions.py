"""A folder of pictures and a csv of captions -> retrieval, trained and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "yellow", "purple", "black")
SHAPES = ("circle", "square")
PLACES = {"top left": (2, 2), "top right": (18, 2), "bottom left": (2, 18), "bottom right": (18, 18)}


def draw(folder: Path) -> dict[str, list[str]]:
    """A picture of every combination twice, at two sizes, and two captions of each."""
    folder.mkdir()
    rows: dict[str, list[str]] = {"picture": [], "caption": []}
    for colour in COLOURS:
        for shape in SHAPES:
            for place, (x, y) in PLACES.items():
                for size in (9, 12):
                    image = Image.new("RGB", (32, 32), "white")
                    pen = ImageDraw.Draw(image)
                    (pen.ellipse if shape == "circle" else pen.rectangle)((x, y, x + size, y + size), fill=colour)
                    name = f"{colour}_{shape}_{place.replace(' ', '_')}_{size}.png"
                    image.save(folder / name)
                    for text in (f"a {colour} {shape} at the {place}", f"{place}: one {shape}, {colour}, size {size}"):
                        rows["picture"].append(name)
                        rows["caption"].append(text)
    return rows


@pytest.mark.exhaustive
def test_pictures_and_captions(journey: Any, table_of: Any) -> None:
    pl.DataFrame(draw(journey.folder / "files/drawings")).write_csv(journey.folder / "files/captions.csv")
    journey("mmcontrast", "init", "work")
    journey.enter("work")
    told = ("--id", "picture")
    said = journey("mmcontrast", "new", "dataset", "shapes", "../files/drawings", "../files/captions.csv", *told)
    assert "scored by retrieval" in said
    journey("snakemake", "--cores", "1", "--config", "suite=shapes")
    table = table_of(journey, "shapes")
    assert all(f"| {method} |" in table for method in ("CLIP", "SigLIP", "MXM-CLR"))
    # a picture that training has not seen, and captions that nobody has given it
    Image.new("RGB", (32, 32), "orange").save(journey.folder / "new.png")
    row = {"id": "a", "image": '["new.png"]', "caption": '["an orange square", "orange"]'}
    pl.DataFrame([row]).write_csv(journey.folder / "new.csv")
    journey("mmcontrast", "embed", "shapes/mxm_clr/base", "new.csv", "-o", "z.parquet", "--suite", "shapes")
    found = pl.read_parquet(journey.folder / "z.parquet")
    assert sorted(found["modality"]) == ["caption", "caption", "image"]
    assert found["embedding"].to_numpy().std(0).max() > 1e-3

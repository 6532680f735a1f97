"""Tiny folders in the layouts of UPMC Food-101, N24News, MM-IMDb and Text2Shape, with what is odd about them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from PIL import Image

from mmcontrast.data.prepare import picture_texts

FOOD_ROWS = {"train": 6, "test": 4}
NEWS_ROWS = {"train": 4, "dev": 2, "test": 2}
SECTIONS = ["Health", "Global Business"]
GENRES = [["Drama", "Film-Noir"], ["Sci-Fi", "News"], ["Comedy"], ["Drama"], ["Sci-Fi"], ["Comedy"]]
MOVIES = {"train": ["0000001", "0000002", "0000003"], "dev": ["0000004"], "test": ["0000005", "0000006"]}


def draw(path: Path, colour: int | tuple[int, int, int]) -> None:
    """12 pixels wide and 8 high, of one grey or colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (colour,) * 3 if isinstance(colour, int) else colour).save(path)


def food101(raw: Path, classes: list[str], rows: dict[str, int] = FOOD_ROWS) -> None:
    """Pictures of the first two classes in turn; the page of row 1 of train is empty, and a title holds a comma."""
    for split, n in rows.items():
        lines = []
        for i in range(n):
            kind = classes[i % 2]
            file = f"{kind}_{split}{i}.jpg"
            draw(raw / "images" / split / kind / file, 20 * i + (10 if split == "test" else 0))
            page = raw / "texts_txt" / kind / f"{Path(file).stem}.txt"
            page.parent.mkdir(parents=True, exist_ok=True)
            text = "" if (split, i) == ("train", 1) else f"A <b>{kind}</b> recipe, no. {i}\nwith 2 cups & a spoon"
            page.write_text(text, encoding="utf-8")
            lines.append({"id": file, "text": f"Best {kind}, {i}", "annotation": kind, "label": i % 2})
        write_csv(raw / f"{split}.csv", lines)


def write_csv(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, list(lines[0]))
        rows.writeheader()
        rows.writerows(lines)


def n24news(raw: Path, body: str = "article", rows: dict[str, int] = NEWS_ROWS) -> None:
    """Two sections in turn. `body`: what the text of an article is called."""
    for split, n in rows.items():
        items = []
        for i in range(n):
            image = f"{split}{i}"
            draw(raw / "imgs" / f"{image}.jpg", 30 * i)
            texts = {key: f"{key} of {image}" for key in ("headline", "caption", "abstract", body)}
            items.append({"section": SECTIONS[i % 2], "image_id": image, "image_url": "", **texts})
        path = raw / "news" / f"nytimes_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(items), encoding="utf-8")


def mmimdb(raw: Path, films: dict[str, list[str]] = MOVIES) -> None:
    """Movie k has the genres of GENRES[k], one of which is none of the 23, and as many plots as its number."""
    folder = raw / "mmimdb"
    for k, movie in enumerate(m for movies in films.values() for m in movies):
        draw(folder / "dataset" / f"{movie}.jpeg", 40 * k % 256)
        genres = GENRES[k % len(GENRES)]
        record = {"plot": [f"plot {j} " + "x" * j for j in range(k + 1)], "genres": genres, "title": "A film"}
        (folder / "dataset" / f"{movie}.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "split.json").write_text(json.dumps(films), encoding="utf-8")


def text2shape(raw: Path, galleries: dict[str, dict[str, list[str]]]) -> None:
    """Shapes of eight views, with one to three descriptions, in the splits of each gallery."""
    shapes = sorted({shape for splits in galleries.values() for shapes in splits.values() for shape in shapes})
    lines = []
    for i, shape in enumerate(shapes):
        for view in range(8):
            draw(raw / picture_texts.VIEWS / shape / f"{view}.png", (30 * view, 0, i))
        for k in range(1 + i % 3):
            about = {"modelId": shape, "description": f"text {k}, {shape}", "category": ("Chair", "Table")[i % 2]}
            lines.append({"id": len(lines)} | about | {"topLevelSynsetId": "", "subSynsetIds": ""})
    write_csv(raw / picture_texts.DESCRIPTIONS, lines)
    for gallery, splits in galleries.items():
        folder = raw / f"split_{gallery}"
        folder.mkdir()
        for split, members in splits.items():
            (folder / f"{split}.txt").write_text("\n".join(members) + "\n", encoding="utf-8")

"""Food-101, N24News and MM-IMDb, from tiny folders in the layouts of the released ones."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmcontrast.config import Dataset, Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.prepare import prepare
from mmcontrast.data.prepare.picture_texts import cleaned
from mmcontrast.data.table import read_split
from mmcontrast.errors import ConfigError, DataError
from tests.data.layouts import picture_texts as layout


@pytest.fixture(scope="module")
def grid(root: Path) -> Grid:
    return Grid(root)


def small(grid: Grid, name: str, split: tuple[int, int, int], **over: Any) -> Dataset:
    """The dataset as params/ has it, of pictures of 8 x 8 and with the sizes of the tiny files."""
    raw = grid.datasets[name].model_dump(mode="json")
    raw["modalities"]["image"]["shape"] = [3, 8, 8]
    train, val, test = split
    sizes = {"rows": sum(split), "split": {"kind": "published", "train": train, "val": val, "test": test}}
    return Dataset.model_validate(raw | sizes | over)


def prepared(name: str, dataset: Dataset, raw: Path) -> dict[str, Any]:
    fetch(name, dataset, raw)
    return prepare(name, dataset, raw, raw.parent / "out")


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_split(folder / "out" / f"{split}.parquet")[0].to_pylist()
    return found


def level(data: bytes) -> int:
    """Grey of a picture's middle."""
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (8, 8)
        return int(image.getpixel((4, 4))[0])  # type: ignore[index]


def test_food101(grid: Grid, tmp_path: Path) -> None:
    layout.food101(tmp_path / "raw", grid.datasets["food101"].classes)
    sheet = prepared("food101", small(grid, "food101", (5, 0, 4)), tmp_path / "raw")
    assert sheet["report"] == {"left_out_without_text": 1}
    train = rows(tmp_path, "train")
    assert [r["id"] for r in train][:2] == ["apple_pie_train0.jpg", "apple_pie_train2.jpg"]
    assert [r["label"] for r in train] == [0, 0, 1, 0, 1]
    assert train[1]["text"] == "apple pie recipe no with cups spoon"
    assert abs(level(train[1]["image"]) - 40) < 4


def test_the_titles_of_food101_in_place_of_its_pages(grid: Grid, tmp_path: Path) -> None:
    layout.food101(tmp_path / "raw", grid.datasets["food101"].classes)
    dataset = small(grid, "food101", (6, 0, 4), prepare={"layout": "food101", "text": "title"})
    prepared("food101", dataset, tmp_path / "raw")
    assert [r["text"] for r in rows(tmp_path, "train")][1] == "Best baby_back_ribs, 1"


@pytest.mark.parametrize(
    ("text", "left"), [("A <b>Pie</b>\n10 x 20 cm", "pie cm"), ("don't", "don"), ("a1b C3PO", "po"), ("naïve", "na ve")]
)
def test_pages_are_cleaned_as_released(text: str, left: str) -> None:
    assert cleaned(text) == left


def test_pictures_that_cannot_be_read_are_counted_or_refused(grid: Grid, tmp_path: Path) -> None:
    layout.food101(tmp_path / "raw", grid.datasets["food101"].classes)
    picture = tmp_path / "raw/images/train/apple_pie/apple_pie_train2.jpg"
    picture.write_bytes(picture.read_bytes()[:40])
    sheet = prepared("food101", small(grid, "food101", (4, 0, 4)), tmp_path / "raw")
    assert sheet["report"]["undecodable"] == 1
    strict = small(grid, "food101", (4, 0, 4), prepare={"layout": "food101"})
    with pytest.raises(DataError, match=r"apple_pie_train2\.jpg: not a picture .*`skip_undecodable: true`"):
        prepared("food101", strict, tmp_path / "raw")


FOOD_FAULTS = {
    "another class": (("annotation", "apple_tart"), r"train\.csv: line 3: annotation 'apple_tart'; did you mean "),
    "another order": (("label", "0"), r"train\.csv: line 3: label 0 of 'baby_back_ribs', and before of 'apple_pie'"),
    "a path": (("id", "../../x.jpg"), r"train\.csv: line 3: '.*': not accepted as a file name"),
    "an open quote": (("text", "two\nlines"), r"train\.csv: line 4: a cell of several lines; a quotation mark"),
}


@pytest.mark.parametrize("what", FOOD_FAULTS)
def test_rows_of_food101_that_are_refused(grid: Grid, tmp_path: Path, what: str) -> None:
    classes = grid.datasets["food101"].classes
    layout.food101(tmp_path / "raw", classes)
    (column, value), message = FOOD_FAULTS[what]
    lines = [
        {"id": f"{classes[i % 2]}_train{i}.jpg", "text": "t", "annotation": classes[i % 2], "label": i % 2}
        for i in (0, 3, 2)
    ]
    lines[1][column] = value
    layout.write_csv(tmp_path / "raw" / "train.csv", lines)
    with pytest.raises(DataError, match=message):
        prepared("food101", small(grid, "food101", (3, 0, 4)), tmp_path / "raw")


def test_food101_without_a_column_is_refused(grid: Grid, tmp_path: Path) -> None:
    layout.food101(tmp_path / "raw", grid.datasets["food101"].classes)
    layout.write_csv(tmp_path / "raw" / "test.csv", [{"id": "a.jpg", "title": "t", "label": 0}])
    with pytest.raises(DataError, match=r"test\.csv: no column text, annotation; expected id, text, annotation, label"):
        prepared("food101", small(grid, "food101", (5, 0, 4)), tmp_path / "raw")


@pytest.mark.parametrize("text", ["headline", "caption", "abstract", "body"])
def test_n24news(grid: Grid, tmp_path: Path, text: str) -> None:
    layout.n24news(tmp_path / "raw")
    dataset = small(grid, f"n24news_{text}", (4, 2, 2))
    prepared(f"n24news_{text}", dataset, tmp_path / "raw")
    val = rows(tmp_path, "val")
    assert [r["id"] for r in val] == ["dev0", "dev1"]
    assert [r["label"] for r in val] == [0, 23]
    assert val[1]["text"] == f"{'article' if text == 'body' else text} of dev1"
    assert abs(level(val[1]["image"]) - 30) < 4


def test_n24news_of_another_release_is_refused_by_the_column(grid: Grid, tmp_path: Path) -> None:
    layout.n24news(tmp_path / "raw", body="body")
    with pytest.raises(DataError, match=r"nytimes_train\.json: no column 'article' .*did you mean|known"):
        prepared("n24news_body", small(grid, "n24news_body", (4, 2, 2)), tmp_path / "raw")


def test_n24news_of_another_section_is_refused(grid: Grid, tmp_path: Path) -> None:
    layout.n24news(tmp_path / "raw")
    path = tmp_path / "raw/news/nytimes_dev.json"
    path.write_text(path.read_text().replace("Global Business", "Business"))
    with pytest.raises(DataError, match=r"nytimes_dev\.json: row 2: section: label 'Business'"):
        prepared("n24news_headline", small(grid, "n24news_headline", (4, 2, 2)), tmp_path / "raw")


def test_mmimdb(grid: Grid, tmp_path: Path) -> None:
    layout.mmimdb(tmp_path / "raw")
    dataset = small(grid, "mmimdb", (3, 1, 2))
    names = dataset.classes
    sheet = prepared("mmimdb", dataset, tmp_path / "raw")
    assert sheet["report"] == {"genres_left_out": 1}
    train = rows(tmp_path, "train")
    found = [{names[j] for j, one in enumerate(r["label"]) if one} for r in train]
    assert found == [{"drama", "film-noir"}, {"sci-fi"}, {"comedy"}]
    assert train[2]["text"] == "plot 2 xx"
    assert abs(level(rows(tmp_path, "test")[1]["image"]) - 200) < 4


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


MMIMDB_FAULTS = {
    "another split": ("split.json", lambda c: c.update(val=c.pop("dev")), r"split\.json: keys \['test', 'train', "),
    "no genres": ("dataset/0000002.json", lambda c: c.pop("genres"), r"0000002\.json: expected lists of texts `plot`"),
    "one plot": ("dataset/0000003.json", lambda c: c.update(plot="p"), r"0000003\.json: expected lists of texts "),
    "a film twice": ("split.json", lambda c: c["test"].append("0000001"), r"'0000001' stands on two"),
}  # fmt: skip


@pytest.mark.parametrize("what", MMIMDB_FAULTS)
def test_near_misses_of_mmimdb_are_refused(grid: Grid, tmp_path: Path, what: str) -> None:
    layout.mmimdb(tmp_path / "raw")
    file, change, message = MMIMDB_FAULTS[what]
    edit(tmp_path / "raw/mmimdb" / file, change)
    with pytest.raises(DataError, match=message):
        prepared("mmimdb", small(grid, "mmimdb", (3, 1, 2)), tmp_path / "raw")


def test_a_record_cut_short_and_a_missing_poster(grid: Grid, tmp_path: Path) -> None:
    layout.mmimdb(tmp_path / "raw")
    dataset = small(grid, "mmimdb", (3, 1, 2))
    (tmp_path / "raw/mmimdb/dataset/0000004.jpeg").unlink()
    with pytest.raises(DataError, match=r"0000004\.jpeg: no such picture"):
        prepared("mmimdb", dataset, tmp_path / "raw")
    record = tmp_path / "raw/mmimdb/dataset/0000002.json"
    record.write_text(record.read_text()[:-5])
    with pytest.raises(DataError, match=r"0000002\.json: not a JSON file"):
        prepared("mmimdb", dataset, tmp_path / "raw")


def test_pictures_that_are_not_stored_encoded_are_refused(grid: Grid, tmp_path: Path) -> None:
    dataset = small(grid, "mmimdb", (3, 1, 2))
    modalities = dataset.model_dump(mode="json")["modalities"]
    modalities["image"]["encoded"] = False
    layout.mmimdb(tmp_path / "raw")
    with pytest.raises(ConfigError, match=r"mmimdb\.yaml: modalities: give `image` of kind image, `encoded: true`"):
        prepared("mmimdb", small(grid, "mmimdb", (3, 1, 2), modalities=modalities), tmp_path / "raw")

"""Flickr30K and Text2Shape from tiny files in the layout of the real ones."""

import json

import numpy as np
import pytest
from PIL import Image

from mmcontrast.config import Dataset, Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.loading import load_split
from mmcontrast.data.manifest import status, verified_manifest
from mmcontrast.data.pictures import pixels, resized
from mmcontrast.data.prepare import picture_texts, prepare
from mmcontrast.data.streaming import write_stream
from mmcontrast.errors import DataError, FetchError
from tests.data.layouts import picture_texts as layout
from tests.flickr_files import write_flickr

SPLIT = {"kind": "published", "train": 3, "val": 1, "test": 2}


def small(grid, name, **change):
    raw = grid.datasets[name].model_dump(mode="json")
    modalities = raw["modalities"] | {"image": {"kind": "image", "shape": [3, 8, 8], "multifold": True}}
    return Dataset.model_validate(raw | {"modalities": modalities, "rows": 6, "split": SPLIT} | change)


@pytest.fixture(scope="module")
def grid(root):
    return Grid(root)


@pytest.fixture
def flickr(tmp_path):
    """Six images of five captions."""
    raw = tmp_path / "flickr30k"
    write_flickr(raw, ["train", "test", "train", "val", "train", "test"])
    return raw


@pytest.fixture
def shapes(tmp_path):
    """Six shapes of eight views, with one to three descriptions."""
    raw, ids = tmp_path / "text2shape", [f"m{i}" for i in range(6)]
    galleries = {}
    for gallery, test in (("tricolo", ids[4:]), ("parts2words", ids[:2])):
        rest = [m for m in ids if m not in test]
        galleries[gallery] = {"train": rest[:3], "val": rest[3:], "test": test}
    layout.text2shape(raw, galleries)
    return raw


def test_flickr30k_through_fetch_and_prepare(grid, flickr, tmp_path):
    spec = small(grid, "flickr30k")
    fetch("flickr30k", spec, flickr)
    assert list(verified_manifest("flickr30k", spec, flickr)["files"]) == [picture_texts.CAPTIONS]
    out = tmp_path / "out"
    sheet = prepare("flickr30k", spec, flickr, out)
    assert {s: v["rows"] for s, v in sheet["splits"].items()} == {"train": 3, "val": 1, "test": 2}
    train = load_split(out / "train.parquet")
    assert train.ids == ["0.jpg", "2.jpg", "4.jpg"]
    assert train.observations["image"].counts.tolist() == [1, 1, 1]
    assert train.observations["text"].counts.tolist() == [5, 5, 5]
    assert train.observations["text"].flat[5] == "caption 0 of 2."
    assert abs(int(train.observations["image"].flat[2][0].float().mean()) - 160) < 4


@pytest.mark.parametrize(("gallery", "test"), [("tricolo", ["m4", "m5"]), ("parts2words", ["m0", "m1"])])
def test_text2shape_galleries_are_kept_apart_by_name(grid, shapes, tmp_path, gallery, test):
    name = f"text2shape_{gallery}"
    spec = small(grid, name, prepare={"layout": gallery, "views": 4})
    fetch(name, spec, shapes)
    sheet = prepare(name, spec, shapes, tmp_path / "out")
    assert sheet["report"]["gallery"] == gallery
    table = load_split(tmp_path / "out" / "test.parquet")
    assert table.ids == test
    assert table.labels.tolist() == [0, 1]
    images = table.observations["image"]
    assert images.counts.tolist() == [4, 4]
    assert images.flat[:4, 0, 0, 0].tolist() == [0, 60, 120, 180]
    assert table.observations["text"].flat[0] == f"text 0, {test[0]}"


def test_a_split_without_validation_part_has_none(grid, shapes, tmp_path):
    (shapes / "split_tricolo" / "val.txt").unlink()
    split = {"kind": "published", "train": 3, "val": 0, "test": 2}
    spec = small(grid, "text2shape_tricolo", split=split, rows=5)
    write_stream("text2shape_tricolo", spec, picture_texts.stream("text2shape_tricolo", spec, shapes), tmp_path / "out")
    val = load_split(tmp_path / "out" / "val.parquet")
    assert (len(val), len(val.observations["text"])) == (0, 0)


def faults(shapes, flickr):
    """What is wrong -> (what to do to the files, which loader, what is said)."""
    described = shapes / picture_texts.DESCRIPTIONS
    entries = json.loads((flickr / picture_texts.CAPTIONS).read_text())

    def edit(change):
        change(entries["images"])
        (flickr / picture_texts.CAPTIONS).write_text(json.dumps(entries))

    return {
        "no caption": (lambda: edit(lambda e: e[0].update(sentences=[])), "flickr", r"'0\.jpg' has no text"),
        "no image": (lambda: (flickr / picture_texts.IMAGES / "2.jpg").unlink(), "flickr", r"2\.jpg: no such picture"),
        "id twice": (lambda: edit(lambda e: e[2].update(filename="0.jpg")), "flickr", r"'0\.jpg' stands on two"),
        "other size": (lambda: edit(lambda e: e[0].update(split="val")), "flickr", "2 instances in train, .* says 3"),
        "not the file": (lambda: (flickr / picture_texts.CAPTIONS).write_text("[]"), "flickr", "not Karpathy's"),
        "not an image": (
            lambda: (flickr / picture_texts.IMAGES / "4.jpg").write_text("x"),
            "flickr",
            r"4\.jpg: not a picture",
        ),
        "no view": (
            lambda: [p.unlink() for p in (shapes / "views" / "m1").iterdir()],
            "shapes",
            "no rendered view of shape 'm1'",
        ),
        "no description": (
            lambda: (shapes / "split_tricolo" / "val.txt").write_text("m9\n"),
            "shapes",
            "no description of shape 'm9'",
        ),
        "in two splits": (
            lambda: (shapes / "split_tricolo" / "val.txt").write_text("m0\n"),
            "shapes",
            "'m0' is in train and in val",
        ),
        "no split": (lambda: (shapes / "split_tricolo" / "test.txt").unlink(), "shapes", r"test\.txt: no such file"),
        "no column": (lambda: described.write_text("a,b\n"), "shapes", "no column modelId, description, category"),
        "category": (
            lambda: described.write_text("modelId,description,category\nm0,a,Lamp\n"),
            "shapes",
            "line 2: category 'lamp'; accepted: chair, table",
        ),
    }


@pytest.mark.parametrize(
    "what",
    ["no caption", "no image", "id twice", "other size", "not the file", "not an image", "no view", "no description",
     "in two splits", "no split", "no column", "category"],
)  # fmt: skip
def test_bad_files_are_named(grid, shapes, flickr, tmp_path, what):
    spoil, which, says = faults(shapes, flickr)[what]
    spoil()
    name, raw = {"flickr": ("flickr30k", flickr), "shapes": ("text2shape_tricolo", shapes)}[which]
    with pytest.raises(DataError, match=says):
        write_stream(name, small(grid, name), picture_texts.stream(name, small(grid, name), raw), tmp_path / "out")


def test_a_picture_is_cut_to_its_middle(tmp_path):
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert pixels(resized(tmp_path / "wide.png", [3, 4, 4])).tolist() == np.full((3, 4, 4), 200).tolist()


def test_what_must_be_put_there_is_told(grid, tmp_path, monkeypatch):
    spec = grid.datasets["flickr30k"]
    with pytest.raises(FetchError, match=r"dataset_flickr30k\.json: no such file, and it cannot be downloaded"):
        fetch("flickr30k", spec, tmp_path)
    monkeypatch.setattr(grid, "root", tmp_path)
    row = next(s for s in status(grid) if s.name == "flickr30k")
    assert row.next_step.startswith("put dataset_flickr30k.json into data/raw/flickr30k/: It is in caption_datasets")

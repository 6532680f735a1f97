"""Pictures beside tables of texts and labels, from tiny folders: one is laid out as N24News is."""

from __future__ import annotations

import csv
import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmcontrast.config import Dataset
from mmcontrast.data import prepare as package
from mmcontrast.data import table
from mmcontrast.data.pictures import decode, log_mel
from mmcontrast.data.prepare.table import stream
from mmcontrast.errors import ConfigError, DataError

SECTIONS = ["Health", "Books", "Art & Design"]
SIZES = {"train": 6, "val": 3, "test": 3}
TABLES = {"train": "news/nytimes_train.json", "val": "news/nytimes_dev.json", "test": "news/nytimes_test.json"}
OPTIONS = {
    "tables": {"news": {"path": TABLES}}, "id": "image_id", "label": "section",
    "modalities": {"headline": {"columns": ["headline"]}, "photo": {"file": "imgs/{image_id}.jpg"}},
}  # fmt: skip
KINDS = {
    "photo": {"kind": "image", "shape": [3, 8, 8], "encoded": True},
    "headline": {"kind": "text", "shape": []},
}


def rows() -> dict[str, list[dict[str, Any]]]:
    out, n = {}, 0
    for split, size in SIZES.items():
        out[split] = [
            {"image_id": f"i{n + k}", "headline": f"headline {n + k}", "section": SECTIONS[k % 3], "caption": "x" * 99}
            for k in range(size)
        ]
        n += size
    return out


def write(folder: Path, content: dict[str, list[dict[str, Any]]], lines: bool = False) -> Path:
    for split, items in content.items():
        path = folder / TABLES[split]
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(map(json.dumps, items)) if lines else json.dumps(items, indent=2)
        path.write_text(text, encoding="utf-8")
        for item in items:
            photo = folder / "imgs" / f"{item['image_id']}.jpg"
            photo.parent.mkdir(exist_ok=True)
            value = 20 * int(item["image_id"][1:])
            Image.new("RGB", (40, 24), (value, 255 - value, 7)).save(photo)
    return folder


@pytest.fixture
def dataset(small: Any) -> Callable[..., Dataset]:
    def make(prepare: dict[str, Any] | None = None, **change: Any) -> Dataset:
        split = {"kind": "published", **SIZES}
        fields = {
            "modalities": KINDS, "classes": SECTIONS, "rows": 12, "split": split, "scaling": "none",
            "generate": {"seed": 0}, "reader": "table", "prepare": OPTIONS | (prepare or {}),
        }  # fmt: skip
        return Dataset.model_validate(small.common(**(fields | change)))

    return make


def prepared(dataset: Dataset, raw: Path, out: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    sheet = package.from_stream("news", dataset, {}, stream("news", dataset, raw), out)
    return sheet, {s: table.read_split(out / f"{s}.parquet")[0].to_pylist() for s in SIZES}


@pytest.mark.parametrize("lines", [False, True])
def test_a_folder_as_n24news_is(dataset: Callable[..., Dataset], tmp_path: Path, lines: bool) -> None:
    content = rows()
    _, got = prepared(dataset(), write(tmp_path / "raw", content, lines), tmp_path / "out")
    for split, items in content.items():
        assert [(r["id"], r["headline"], SECTIONS[r["label"]]) for r in got[split]] == [
            (i["image_id"], i["headline"], i["section"]) for i in items
        ]
    photo = decode(got["val"][0]["photo"], [3, 8, 8])
    np.testing.assert_allclose(photo.mean(axis=(1, 2)), [120, 135, 7], atol=3)


def test_several_labels_from_a_csv_that_is_split_here(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", rows())
    labels = ["Health|Books", "", "Art & Design"] * 4
    with (raw / "all.csv").open("w", newline="") as handle:
        out = csv.DictWriter(handle, ["image_id", "headline", "genres"])
        out.writeheader()
        for i, label in enumerate(labels):
            out.writerow({"image_id": f"i{i}", "headline": f"a\nb {i}" if i else "", "genres": label})
    split = {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0}
    options = {"tables": {"all": "all.csv"}, "label": "genres"}
    given = dataset(options, split=split, target="multilabel", metrics=["macro_f1"])
    sheet, got = prepared(given, raw, tmp_path / "out")
    assert {s: len(of) for s, of in got.items()} == {"train": 6, "val": 3, "test": 3}
    by_id = {row["id"]: row for of in got.values() for row in of}
    assert [by_id[f"i{i}"]["label"] for i in range(3)] == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert (by_id["i0"]["headline"], by_id["i4"]["headline"]) == ("", "a\nb 4")
    assert sheet["inputs"] == {"headline": {"empty": 1}}


def test_quantities_have_columns_of_their_own(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    content = {s: [{**i, "force": k, "yaw": -k / 2} for k, i in enumerate(of)] for s, of in rows().items()}
    raw = write(tmp_path / "raw", content)
    given = dataset({"label": None}, target="regression", classes=["force", "yaw"], metrics=["mse"])
    assert [r["label"] for r in prepared(given, raw, tmp_path / "out")[1]["val"]] == [[0, 0], [1, -0.5], [2, -1]]
    content["test"][1]["yaw"] = "left"
    write(raw, content)
    with pytest.raises(
        DataError, match=r"test\.json: row 2, column 6 \(yaw\) holds 'left', which is not a finite number"
    ):
        prepared(given, raw, tmp_path / "out")


def test_sounds_become_frames(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", rows())
    sounds = {f"i{i}": np.random.default_rng(i).integers(-9999, 9999, 400 + 160 * i) for i in range(12)}
    for name, samples in sounds.items():
        with wave.open(str(raw / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", "NONE"))
            file.writeframes(samples.astype("<i2").tobytes())
    kinds = {"sound": {"kind": "sequence", "shape": [10, 8]}, "headline": KINDS["headline"]}
    options = {"modalities": {"headline": {"columns": ["headline"]}, "sound": {"file": "{image_id}.wav"}}}
    sheet, got = prepared(dataset(options, modalities=kinds), raw, tmp_path / "out")
    assert [len(row["sound"]) for row in got["train"]] == [1, 2, 3, 4, 5, 6]
    assert sheet["inputs"]["sound"] == {"cut": 2, "longest": 12}
    expected = log_mel(sounds["i3"] / 32768, 16000, 8)
    np.testing.assert_allclose(got["train"][3]["sound"], expected, rtol=1e-6)
    samples = {"sound": {"kind": "sequence", "shape": [900, 1]}, "headline": KINDS["headline"]}
    _, got = prepared(dataset(options, modalities=samples, scaling="none"), raw, tmp_path / "out")
    np.testing.assert_allclose(np.ravel(got["train"][3]["sound"]), sounds["i3"] / 32768, rtol=1e-6)
    (raw / "i2.wav").write_bytes((raw / "i2.wav").read_bytes()[:20])
    with pytest.raises(DataError, match=r"row 3: .*i2\.wav: not a WAV file"):
        prepared(dataset(options, modalities=kinds), raw, tmp_path / "out")


def test_texts_in_files(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", rows())
    for i in range(12):
        (raw / f"i{i}.txt").write_text(f"body {i}\nö", encoding="utf-8")
    kinds = {"body": {"kind": "text", "shape": []}, "headline": KINDS["headline"]}
    options = {"modalities": {"headline": {"columns": ["headline"]}, "body": {"file": "{image_id}.txt"}}}
    _, got = prepared(dataset(options, modalities=kinds), raw, tmp_path / "out")
    assert [row["body"] for row in got["train"]] == [f"body {i}\nö" for i in range(6)]
    (raw / "i2.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"row 3: .*i2\.txt: not a text in UTF-8"):
        prepared(dataset(options, modalities=kinds), raw, tmp_path / "out")
    (raw / "i2.txt").unlink()
    with pytest.raises(DataError, match=r"row 3: .*i2\.txt: not a text in UTF-8 .*No such file"):
        prepared(dataset(options, modalities=kinds), raw, tmp_path / "out")


def test_rows_without_a_picture_are_left_out_only_if_the_dataset_says_so(
    dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    raw = write(tmp_path / "raw", rows())
    (raw / "imgs/i1.jpg").write_bytes((raw / "imgs/i1.jpg").read_bytes()[:200])
    with pytest.raises(DataError, match=r"train\.json: row 2: .*i1.*not a picture.*skip_undecodable"):
        prepared(dataset(), raw, tmp_path / "out")
    (raw / "imgs/i7.jpg").unlink()
    split = {"kind": "published", "train": 5, "val": 2, "test": 3}
    sheet, got = prepared(dataset({"skip_undecodable": True}, split=split, rows=10), raw, tmp_path / "out")
    assert sheet["report"]["undecodable"] == {"count": 2, "which": ["i1", "i7"]}
    assert "i1" not in [row["id"] for row in got["train"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"section": "Boks"}, r"train\.json: row 3: section: label 'Boks'; did you mean 'Books'"),
        ({"headline": None}, "instance 'i2' has no headline; leave it out, or say `optional: true`"),
        ({"image_id": ""}, r"train\.json: row 3: column 'image_id' is empty; it names the instance"),
        ({"image_id": "../i2"}, r"row 3: '\.\./i2\.jpg': not accepted as a file name"),
        ({"image_id": None}, r"train\.json: row 3: column 'image_id' is empty; it names the instance"),
    ],
)
def test_a_row_that_is_not_accepted(
    dataset: Callable[..., Dataset], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    content = rows()
    raw = write(tmp_path / "raw", content)
    content["train"][2] |= change
    (raw / TABLES["train"]).write_text(json.dumps(content["train"]))
    with pytest.raises(DataError, match=message):
        prepared(dataset(), raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"image_id": "i0"', r"nytimes_train\.json: not a whole \.json file \("),
        ("[3]", "row 1: int, expected an object of columns"),
        ('[{"id": "i0"}]', r"nytimes_dev\.json: other columns than .*nytimes_train\.json"),
        ("", r"nytimes_train\.json: holds no row"),
    ],
)
def test_a_table_that_is_not_accepted(dataset: Callable[..., Dataset], tmp_path: Path, text: str, message: str) -> None:
    raw = write(tmp_path / "raw", rows())
    (raw / TABLES["train"]).write_text(text)
    with pytest.raises(DataError, match=message):
        prepared(dataset(), raw, tmp_path / "out")
    (raw / TABLES["train"]).unlink()
    with pytest.raises(DataError, match=r"nytimes_train\.json: no such file; `sources` of the dataset"):
        prepared(dataset(), raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("prepare", "change", "message"),
    [
        ({"tables": {"all": "news/nytimes_train.json"}}, {}, "split is published, and `prepare` says otherwise; name"),
        ({"label": None}, {}, "prepare.label: required"),
        ({"modalities": {"photo": {"file": "imgs"}}}, {}, "prepare.modalities.photo.file: .*"),
        (
            {"modalities": {"headline": {"columns": ["headline"]}, "age": {"file": "{image_id}"}}},
            {"modalities": KINDS | {"age": {"kind": "vector", "shape": [1]}}},
            "age.file: of kind image, sequence or text alone",
        ),
        ({"modalities": {"foto": {}}}, {}, "prepare.modalities: no modality 'foto'; did you mean 'photo'"),
    ],
)
def test_a_file_that_does_not_fit(
    dataset: Callable[..., Dataset], tmp_path: Path, prepare: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    raw = write(tmp_path / "raw", rows())
    with pytest.raises(ConfigError, match=message):
        stream("news", dataset(prepare, **change), raw)

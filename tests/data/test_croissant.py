"""Croissant metadata say what is in a dataset's splits, and the reference implementation reads them so."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmcontrast import paths
from mmcontrast.cli import main
from mmcontrast.data.croissant import write_croissant
from mmcontrast.data.files import read_json, sha256_of
from tests import raw_rows


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a modality of each kind."""
    root = tmp_path_factory.mktemp("croissant")
    raw_rows.write(root)
    folder = root / Path(paths.datasheet(raw_rows.NAME)).parent
    return write_croissant(folder, read_json(folder / "datasheet.json"))


def test_every_column_and_checksum_is_there(written: Path) -> None:
    content = json.loads(written.read_text(encoding="utf-8"))
    assert {f["name"]: f["sha256"] for f in content["distribution"]} == {
        f"{split}.parquet": sha256_of(written.parent / f"{split}.parquet") for split in paths.SPLITS
    }
    for records in content["recordSet"]:
        fields = {f["name"]: (f["dataType"], f.get("arrayShape")) for f in records["field"]}
        assert fields == {
            "id": ("sc:Text", None),
            "label": ("sc:Integer", None),
            "vital": ("sc:Float", "3"),
            "photo": ("sc:ImageObject", None),
            "pen": ("sc:Float", "-1,2"),
            "note": ("sc:Text", None),
        }
    assert content["recordSet"][0]["field"][1]["description"] == "Of these, counted from 0: no, yes"


def test_an_empty_split_is_no_set_of_records(written: Path) -> None:
    sheet = read_json(written.parent / "datasheet.json")
    sheet["splits"]["val"]["rows"] = 0
    before = written.read_text(encoding="utf-8")
    content = json.loads(write_croissant(written.parent, sheet).read_text(encoding="utf-8"))
    written.write_text(before, encoding="utf-8")
    assert [records["name"] for records in content["recordSet"]] == ["train", "test"]


@pytest.mark.filterwarnings("default")
def test_the_reference_implementation_takes_them(written: Path, caplog: pytest.LogCaptureFixture) -> None:
    reason = "mlcroissant is not installed; `pip install mlcroissant` brings it"
    mlcroissant: Any = pytest.importorskip("mlcroissant", reason=reason)
    with caplog.at_level(logging.ERROR):
        found = mlcroissant.Dataset(written)
        assert found.metadata.issues.errors == set()
        for split in ("train", "test"):
            stored = pl.read_parquet(written.parent / f"{split}.parquet")
            rows = list(found.records(split))
            assert [row[f"{split}/id"].decode() for row in rows] == stored["id"].to_list()
            assert [row[f"{split}/label"] for row in rows] == stored["label"].to_list()
            np.testing.assert_array_equal([row[f"{split}/vital"] for row in rows], stored["vital"].to_numpy())


def test_preparing_a_dataset_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(__file__).parents[2] / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    assert main(["data", "prepare", "synthetic"]) == 0
    content = json.loads((tmp_path / "data/prepared/synthetic/croissant.json").read_text(encoding="utf-8"))
    assert content["name"] == "synthetic"

"""What all datasets have in common: leaks are refused, test rows decide nothing, equal input gives equal bytes."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmcontrast.config import Dataset
from mmcontrast.data import table
from mmcontrast.data.fetch import Cache, fetch
from mmcontrast.data.files import read_json
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.outside import preparer
from mmcontrast.data.prepare import mogonet, prepare
from mmcontrast.errors import ConfigError, DataError
from tests.data.arrays import arrays
from tests.data.written import feature_names
from tests.fresh import loaded


def read(path: Path) -> dict[str, np.ndarray]:
    """Modality -> (N, d) of a prepared file."""
    content = pq.read_table(path)
    widths = {n: content.schema.field(n).type.list_size for n in content.column_names[2:]}
    return {n: content[n].combine_chunks().flatten().to_numpy().reshape(-1, w) for n, w in widths.items()}


def test_layout_of_the_files(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    dataset, raw = raw_rosmap(small.mogonet_files())
    prepare("rosmap", dataset, raw, tmp_path / "out")
    names = ["datasheet.json", "fitted.json", "test.parquet", "train.parquet", "val.parquet"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    content, described = table.read_split(tmp_path / "out/train.parquet")
    assert content.column_names == ["id", "label", "mrna", "methylation", "mirna"]
    assert [str(content.schema.field(n).type) for n in ("id", "label")] == ["string", "int64"]
    assert content.schema.field("methylation").type.list_size == 3
    assert str(content.schema.field("methylation").type.value_type) == "float"
    assert described == {
        "dataset": "rosmap",
        "split": "train",
        "modalities": {n: {"kind": m.kind, "shape": m.shape} for n, m in dataset.modalities.items()},
        "classes": ["no", "yes"],
        "scaling": "minmax",
    }
    assert feature_names(content.schema, "mirna") == ["mirna|0", "mirna|1"]
    assert content["id"].to_pylist() == [f"train-{i:04d}" for i in range(8)]
    assert pq.read_table(tmp_path / "out/val.parquet").num_rows == 0
    assert pq.read_table(tmp_path / "out/test.parquet")["label"].to_pylist() == [0, 1, 0, 1]


@pytest.mark.parametrize("kind", ["rosmap", "tcga"])
def test_equal_input_gives_equal_bytes(kind: str, raw_rosmap: Any, raw_tcga: Any, small: Any, tmp_path: Path) -> None:
    if kind == "rosmap":
        name, (dataset, raw) = "rosmap", raw_rosmap(small.mogonet_files())
    else:
        name, (dataset, raw) = "tcga_brca", raw_tcga(small.tcga_files())
    for out in ("one", "two"):
        prepare(name, dataset, raw, tmp_path / out)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("scaling", ["minmax", "standard", "none"])
def test_the_test_split_decides_nothing_of_train(scaling: str, raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    files = small.mogonet_files()
    dataset, raw = raw_rosmap(files, scaling=scaling)
    prepare("rosmap", dataset, raw, tmp_path / "one")
    files["1_te.csv"] = small.replace_cell(files["1_te.csv"], 1, 1, "1000.0")
    dataset, raw = raw_rosmap(files, scaling=scaling)
    prepare("rosmap", dataset, raw, tmp_path / "two")
    one, two = (tmp_path / n / "train.parquet" for n in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert read(tmp_path / "two/test.parquet")["mrna"][0, 0] > 100
    others = [read(tmp_path / n / "test.parquet")["mrna"][1:] for n in ("one", "two")]
    np.testing.assert_array_equal(*others)


def test_scaled_by_the_training_range(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    dataset, raw = raw_rosmap(small.mogonet_files())
    prepare("rosmap", dataset, raw, tmp_path / "out")
    source = arrays(mogonet.stream("rosmap", dataset, raw)).inputs["mrna"]
    low, high = source[:8].min(0), source[:8].max(0)
    train, test = (read(tmp_path / f"out/{s}.parquet")["mrna"] for s in ("train", "test"))
    np.testing.assert_allclose(train, (source[:8] - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(test, (source[8:] - low) / (high - low), atol=1e-6)
    assert train.min() == 0
    assert train.max() == 1
    assert test.max() > 1  # nothing is clipped


def test_the_random_split_keeps_to_its_shares_by_class(raw_tcga: Any, small: Any, tmp_path: Path) -> None:
    dataset, raw = raw_tcga(small.tcga_files())
    sheet = prepare("tcga_brca", dataset, raw, tmp_path / "out")
    counts = {split: list(s["classes"].values()) for split, s in sheet["splits"].items()}
    assert counts == {"train": [2] * 5, "val": [1] * 5, "test": [1] * 5}
    ids = [set(pq.read_table(tmp_path / f"out/{s}.parquet")["id"].to_pylist()) for s in counts]
    assert len(set.union(*ids)) == sum(map(len, ids)) == 20


def test_the_data_sheet(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    files = small.mogonet_files()
    dataset, raw = raw_rosmap(files, notes=["mind the step"])
    sheet = prepare("rosmap", dataset, raw, tmp_path / "out")
    assert read_json(tmp_path / "out/datasheet.json") == sheet
    assert sheet["splits"]["train"] == {"rows": 8, "classes": {"no": 4, "yes": 4}}
    assert sheet["splits"]["val"] == {"rows": 0, "classes": {"no": 0, "yes": 0}}
    assert sheet["split"]["rule"].startswith("as published; no validation part")
    assert sheet["licence"] == "none"
    assert sheet["notes"] == ["mind the step"]
    assert sheet["warnings"] == []
    assert {s["source"]: s["sha256"] for s in sheet["sources"]} == {
        f"{small.upstream}/{name}": small.sha256(text.encode()) for name, text in files.items()
    }
    assert sheet["files"]["2_tr.csv"] == small.sha256(files["2_tr.csv"].encode())


def test_sources_without_checksum_are_a_warning(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    dataset, raw = raw_rosmap(small.mogonet_files(), unpinned=("1_tr.csv", "2_tr.csv"))
    sheet = prepare("rosmap", dataset, raw, tmp_path / "out")
    assert len(sheet["warnings"]) == 1
    assert sheet["warnings"][0].startswith("2 of 11 sources have no published checksum and were trusted when first")
    assert f"{small.upstream}/2_tr.csv" in sheet["warnings"][0]


@pytest.mark.parametrize("scaling", ["minmax", "standard"])
def test_a_feature_that_is_constant_in_train_is_kept_and_told(
    scaling: str, raw_rosmap: Any, small: Any, tmp_path: Path
) -> None:
    files = small.mogonet_files()
    for line in range(1, 9):
        files["2_tr.csv"] = small.replace_cell(files["2_tr.csv"], line, 2, "0.1")
    files["2_te.csv"] = small.replace_cell(files["2_te.csv"], 1, 2, "0.6")
    dataset, raw = raw_rosmap(files, scaling=scaling)
    sheet = prepare("rosmap", dataset, raw, tmp_path / "out")
    assert sheet["warnings"] == [
        "methylation: 1 of 3 features do not vary within train (methylation|1); kept, with spread 1"
    ]
    assert (read(tmp_path / "out/train.parquet")["methylation"][:, 1] == 0).all()
    assert read(tmp_path / "out/test.parquet")["methylation"][0, 1] == pytest.approx(0.5)


def test_equal_rows_in_two_splits_are_refused_unless_known(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    files = small.mogonet_files()
    for k in (1, 2, 3):
        train, test = files[f"{k}_tr.csv"].splitlines(), files[f"{k}_te.csv"].splitlines()
        test[0], test[2] = train[3], train[3]
        files[f"{k}_te.csv"] = "\n".join(test) + "\n"
    dataset, raw = raw_rosmap(files)
    with pytest.raises(DataError, match=r"2 in train and test; .*write `duplicates: \{train and test: 2\}`"):
        prepare("rosmap", dataset, raw, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    known = dataset.model_copy(update={"duplicates": {"train and test": 2}})
    sheet = prepare("rosmap", known, raw, tmp_path / "out")
    assert sheet["warnings"] == [
        "2 rows are equal in train and test, in every feature of every modality",
        "3 rows have an equal one with another label, in every feature",
    ]
    assert sheet["leaks"]["repeats"] == {"with another label": 3}


def test_a_label_unseen_in_train(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    files = small.mogonet_files()
    files["labels_tr.csv"] = "0.0\n" * 8
    dataset, raw = raw_rosmap(files)
    with pytest.raises(
        DataError, match=r"rosmap: label 1 \(yes\) is in the test split \(2 rows\) but in no row of train"
    ):
        prepare("rosmap", dataset, raw, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_id_in_two_splits(raw_rosmap: Any, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, raw = raw_rosmap(small.mogonet_files())
    got = mogonet.stream("rosmap", dataset, raw)
    given = list(got.instances)
    leaking = replace(got, instances=[*given[:-1], replace(given[-1], id=given[2].id)])
    monkeypatch.setattr(mogonet, "stream", lambda *_: leaking)
    with pytest.raises(DataError, match="rosmap: the id 'train-0002' stands on two instances"):
        prepare("rosmap", dataset, raw, tmp_path / "out")


def test_not_fetched(small: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rosmap has not been fetched; run `mmcontrast data fetch rosmap`"):
        prepare("rosmap", small.mogonet(small.mogonet_files()), tmp_path / "raw", tmp_path / "out")


def test_a_raw_file_that_changed_since(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    dataset, raw = raw_rosmap(small.mogonet_files())
    (raw / "1_tr.csv").write_text("1,2,3,4\n")
    with pytest.raises(DataError, match=r"1_tr\.csv: changed since it was fetched"):
        prepare("rosmap", dataset, raw, tmp_path / "out")


def test_an_earlier_result_is_replaced(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/train.parquet").write_text("old")
    dataset, raw = raw_rosmap(small.mogonet_files())
    prepare("rosmap", dataset, raw, tmp_path / "out")
    assert pq.read_table(tmp_path / "out/train.parquet").num_rows == 8
    assert not list((tmp_path / "out").glob(".*"))


def test_a_number_too_large_for_float32(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    files = small.mogonet_files()
    files["1_te.csv"] = small.replace_cell(files["1_te.csv"], 1, 1, "1e300")
    dataset, raw = raw_rosmap(files)
    with pytest.raises(DataError, match=r"test\.parquet: modality 'mrna': a number is too large for float32"):
        prepare("rosmap", dataset, raw, tmp_path / "out")


def test_a_number_too_large_to_be_scaled(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    """Its square overflows: the spread would be infinite, and the feature zeros everywhere."""
    files = small.mogonet_files()
    files["1_tr.csv"] = small.replace_cell(files["1_tr.csv"], 1, 1, "1e200")
    dataset, raw = raw_rosmap(files, scaling="standard")
    with pytest.raises(DataError, match=r"rosmap: modality 'mrna': feature .* too large to be scaled"):
        prepare("rosmap", dataset, raw, tmp_path / "out")


@pytest.mark.parametrize("file", ["1_tr.csv", "1_te.csv"])
def test_a_value_far_from_all_others_is_told(raw_rosmap: Any, small: Any, tmp_path: Path, file: str) -> None:
    """In train it would press all others into one number; in any split it is more likely wrong than right."""
    files = small.mogonet_files()
    files[file] = small.replace_cell(files[file], 1, 1, "-3e9")
    dataset, raw = raw_rosmap(files, scaling="standard")
    told = prepare("rosmap", dataset, raw, tmp_path / "out")["warnings"]
    (said,) = (text for text in told if "far" in text)
    assert re.fullmatch(
        r"mrna: 1 of 4 features have one value that is 1e\+06 times as far from all others as these are from one "
        r"another \(\S+\); look whether it is right",
        said,
    )


def test_a_file_without_checksum_is_trusted_once_it_could_be_read(
    raw_rosmap: Any, small: Any, tmp_path: Path, folder_mirror: Path
) -> None:
    """Until then the next fetch takes what the server then sends."""
    files = small.mogonet_files()
    dataset = small.mogonet(files, unpinned=("1_tr.csv",))
    source = f"{small.upstream}/1_tr.csv"
    for text in ("try again later\n", files["1_tr.csv"]):
        small.fill(folder_mirror, files | {"1_tr.csv": text})
        fetch("rosmap", dataset, tmp_path / "raw")
        assert Cache().first_use(source) is None
        if text != files["1_tr.csv"]:
            with pytest.raises(DataError, match=r"1_tr\.csv"):
                prepare("rosmap", dataset, tmp_path / "raw", tmp_path / "out")
    prepare("rosmap", dataset, tmp_path / "raw", tmp_path / "out")
    assert Cache().first_use(source) == small.sha256(text.encode())


def test_a_reader_is_found_by_the_dataset_s_name_or_its_key(small: Any) -> None:
    files = small.mogonet_files()
    assert preparer("rosmap", small.mogonet(files)) == "mogonet"
    assert preparer("nyuv2_small", small.mogonet(files, reader=None)) == "nyuv2"
    assert preparer("mosi_transcripts_cut", small.mogonet(files, reader=None)) == "mosi"
    with pytest.raises(
        ConfigError, match=r"no module in mmcontrast\.data\.prepare reads 'emojy'.*did you mean 'emoji'"
    ):
        preparer("emojy", small.mogonet(files, reader=None))
    with pytest.raises(ConfigError, match=r"reads 'readers'"):  # has helpers of readers, and is none
        preparer("rosmap", small.mogonet(files, reader="readers"))


def test_preparing_needs_no_torch_and_asking_for_the_module_no_polars() -> None:
    assert not {"torch", "polars", "pyarrow"} & loaded("import mmcontrast.data.outside")
    assert "torch" not in loaded("import mmcontrast.data.prepare.mogonet, mmcontrast.data.prepare.table")


def test_known_copies_that_are_gone_are_refused(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    dataset, raw = raw_rosmap(small.mogonet_files(), duplicates={"train and test": 1})
    with pytest.raises(DataError, match=r"modality: none; .*accepts 1 in train and test"):
        prepare("rosmap", dataset, raw, tmp_path / "out")


def test_the_samples_of_a_patient_stay_in_one_split(raw_tcga: Any, small: Any, tmp_path: Path) -> None:
    """Samples of one patient have barcodes that differ at their end alone; those of five at a time are of one here."""

    def barcode(found: re.Match[str]) -> str:
        return f"TCGA-AA-{int(found[1]) // 5}-{found[1]}"

    files = {name: re.sub(r"TCGA-(\d\d)", barcode, text) for name, text in small.tcga_files().items()}
    dataset, raw = raw_tcga(files)
    sheet = prepare("tcga_brca", dataset, raw, tmp_path / "out")
    ids = {s: pq.read_table(tmp_path / f"out/{s}.parquet")["id"].to_pylist() for s in ("train", "val", "test")}
    patients = [{one[:9] for one in of} for of in ids.values()]
    assert sorted(map(len, ids.values())) == [5, 5, 10]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 4
    assert sheet["split"]["rule"].startswith("groups whole")


def streamer(train: list[str], test: list[str], groups: dict[str, str]) -> ModuleType:
    """A reader of one instance per id, whose text is the id without its digits."""

    def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
        rows = [(i, split, k % 2) for split, ids in (("train", train), ("test", test)) for k, i in enumerate(ids)]
        return Stream(
            Instance(i, {"words": [i.rstrip("0123456789")]}, label, split, group=groups.get(i))
            for i, split, label in rows
        )

    module = ModuleType("streamer")
    module.stream = stream  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    ("train", "test", "groups", "message"),
    [
        (["a", "b"], ["b", "c"], {}, "toy: the id 'b' stands on two instances"),
        (["a1", "b1"], ["b2", "c2"], {}, "1 in train and test; .*duplicates accepts none"),
        (
            ["a", "b"],
            ["c", "d"],
            {"a": "f", "b": "g", "c": "g", "d": "h"},
            "toy: group 'g' is in train and in test",
        ),
        (["a", "b"], ["c", "d"], {}, None),
    ],
)
def test_splits_that_a_reader_streams_are_searched_too(
    small: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train: list[str],
    test: list[str],
    groups: dict[str, str],
    message: str | None,
) -> None:
    monkeypatch.setitem(sys.modules, "mmcontrast.data.prepare.streamer", streamer(train, test, groups))
    monkeypatch.setattr("mmcontrast.data.prepare.preparer", lambda name, dataset: "streamer")
    fields = small.common(
        modalities={"words": {"kind": "text", "shape": [], "multifold": True}},
        classes=["no", "yes"],
        rows=4,
        split={"kind": "published", "train": 2, "test": 2},
        scaling="none",
        generate={"seed": 0},
    )
    dataset = Dataset.model_validate(fields)
    if message is None:
        sheet = prepare("toy", dataset, tmp_path / "raw", tmp_path / "out")
        assert sheet["prepared"].keys() == {"train", "val", "test"}
        return
    with pytest.raises(DataError, match=message):
        prepare("toy", dataset, tmp_path / "raw", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []

"""Own tables of any format to a prepared dataset, and what of them is refused, by file, row and column."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from mmcontrast.config import Dataset
from mmcontrast.data import table as layout
from mmcontrast.data.fetch import fetch
from mmcontrast.data.prepare import prepare
from mmcontrast.errors import ConfigError, DataError, FetchError

Rows = dict[str, list[dict[str, Any]]]
HERE = "params/datasets/own.yaml"
N = 20
VALUES = np.random.default_rng(0).normal(size=(N, 5)).round(3)
IDS = [f"p{i}" for i in range(N)]
LABELS = ["ill" if i % 2 else "well" for i in range(N)]
RANDOM = {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0}


def rows(names: list[str], columns: list[int]) -> dict[str, list[Any]]:
    return {"id": list(IDS)} | {n: VALUES[:, j].tolist() for n, j in zip(names, columns, strict=True)}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pl.DataFrame(rows(["g1", "g2", "g3"], [0, 1, 2])).write_csv("../files/rna.csv")
    pl.DataFrame(rows(["m1", "m2"], [3, 4])).reverse().write_csv("../files/mir.csv")
    pl.DataFrame({"id": IDS, "state": LABELS}).write_csv("../files/labels.csv")
    return tmp_path / "files"


THREE = {
    "tables": {"labels": "../files/labels.csv", "rna": "../files/rna.csv", "mir": "../files/mir.csv"},
    "id": "id", "label": "state",
}  # fmt: skip
ONE = {
    "tables": {"all": "../files/all.csv"}, "id": "id", "label": "state",
    "modalities": {"rna": {"prefix": "g"}, "mir": {"columns": ["m1", "m2"]}},
}  # fmt: skip


@pytest.fixture
def run(small: Any, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Rows]]:
    """Fetch and prepare; the datasheet, and the rows of every split."""

    def run(options: dict[str, Any] = THREE, **change: Any) -> tuple[dict[str, Any], Rows]:
        files = [p for t in options["tables"].values() for p in paths_of(t)]
        given = {
            "modalities": {"rna": {"kind": "vector", "shape": [3]}, "mir": {"kind": "vector", "shape": [2]}},
            "classes": ["well", "ill"], "rows": N, "split": RANDOM, "scaling": "none", "reader": "table",
            "prepare": options, "sources": [{"kind": "local", "path": p} for p in dict.fromkeys(files)],
        }  # fmt: skip
        dataset = Dataset.model_validate(small.common(**(given | change)))
        fetch("own", dataset, tmp_path / "here/raw")
        sheet = prepare("own", dataset, tmp_path / "here/raw", tmp_path / "out")
        return sheet, {s: layout.read_split(tmp_path / f"out/{s}.parquet")[0].to_pylist() for s in sheet["splits"]}

    return run


def paths_of(given: Any) -> list[str]:
    path = given if isinstance(given, str) else given["path"]
    return [path] if isinstance(path, str) else list(path.values() if isinstance(path, dict) else path)


def whole(**more: Any) -> pl.DataFrame:
    return pl.DataFrame(rows(["g1", "g2", "g3", "m1", "m2"], [0, 1, 2, 3, 4]) | {"state": LABELS} | more)


def by_id(found: Rows) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for of in found.values() for row in of}


def check_values(found: Rows) -> None:
    got = by_id(found)
    assert set(got) == set(IDS)
    for i, name in enumerate(IDS):
        np.testing.assert_allclose(got[name]["rna"] + got[name]["mir"], VALUES[i], rtol=1e-6)
        assert got[name]["label"] == i % 2


def test_three_csv_are_joined_by_their_id_in_any_order(work: Path, run: Any) -> None:
    sheet, found = run()
    check_values(found)
    assert {s: len(of) for s, of in found.items()} == {"train": 10, "val": 6, "test": 4}
    assert all(n == len(found[s]) // 2 for s in found for n in sheet["splits"][s]["classes"].values())
    assert sheet["files"].keys() == {"../files/labels.csv", "../files/rna.csv", "../files/mir.csv"}
    assert len(list(Path("raw").iterdir())) == 1  # files stay where they are


WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    ".csv": lambda t, p: t.write_csv(p),
    ".tsv": lambda t, p: t.write_csv(p, separator="\t"),
    ".txt": lambda t, p: t.write_csv(p, separator=";"),
    ".parquet": lambda t, p: t.write_parquet(p),
    ".feather": lambda t, p: t.write_ipc(p),
    ".json": lambda t, p: p.write_text(json.dumps(t.to_dicts())),
    ".jsonl": lambda t, p: t.write_ndjson(p),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_one_table_of_any_format(kind: str, work: Path, run: Any) -> None:
    WRITERS[kind](whole(), work / f"all{kind}")
    check_values(run(ONE | {"tables": {"all": f"../files/all{kind}"}})[1])


def test_an_excel_sheet(work: Path, run: Any) -> None:
    pytest.importorskip("fastexcel")
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [whole().columns, *whole().rows()]:
        book.active.append(row)
    book.save(work / "all.xlsx")
    check_values(run(ONE | {"tables": {"all": "../files/all.xlsx"}})[1])


@pytest.mark.parametrize("kind", [".npz", ".pkl"])
def test_arrays(kind: str, work: Path, run: Any) -> None:
    import pickle

    content = {
        "rna": VALUES[:, :3].astype(">f8"), "mir": VALUES[:, 3:], "y": np.arange(N) % 2, "name": np.array(IDS),
        "seen": np.arange(N * 12, dtype=np.uint8).reshape(N, 3, 2, 2),
    }  # fmt: skip
    path = work / f"all{kind}"
    np.savez(path, **content) if kind == ".npz" else path.write_bytes(pickle.dumps(content))
    modalities = {m: {"array": m} for m in ("rna", "mir", "seen")}
    options = {"tables": {"all": f"../files/all{kind}"}, "id": "name", "label": "y", "modalities": modalities}
    kinds = {"rna": {"kind": "vector", "shape": [3]}, "mir": {"kind": "vector", "shape": [2]}}
    check_values(run(options | {"modalities": {m: {"array": m} for m in kinds}}, modalities=kinds)[1])
    _, found = run(options, modalities=kinds | {"seen": {"kind": "image", "shape": [3, 2, 2]}})
    check_values(found)
    assert by_id(found)["p2"]["seen"] == content["seen"][2].ravel().tolist()
    wide = {"rna": {"kind": "vector", "shape": [4]}, "mir": kinds["mir"]}
    with pytest.raises(DataError, match=r"array 'rna': .*shape \[3\] per row, and params.*modalities\.rna says \[4\]"):
        run(options | {"modalities": {m: {"array": m} for m in wide}}, modalities=wide)


def test_lists_of_numbers_are_vectors_and_sequences(work: Path, run: Any) -> None:
    steps = [[[float(i), 0.5]] * (1 + i % 3) for i in range(N)]
    whole(v=VALUES.tolist(), steps=steps).write_parquet(work / "all.parquet")
    modalities = {"v": {"kind": "vector", "shape": [5]}, "steps": {"kind": "sequence", "shape": [4, 2]}}
    options = ONE | {"tables": {"all": "../files/all.parquet"}, "modalities": {m: {"array": m} for m in modalities}}
    got = by_id(run(options, modalities=modalities)[1])
    np.testing.assert_allclose([got[i]["v"] for i in IDS], VALUES, rtol=1e-6)
    assert [got[i]["steps"] for i in IDS] == steps


def test_told_dialect_and_missing_cells(work: Path, run: Any) -> None:
    text = whole().write_csv(separator=";").replace(".", ",").replace("id;", "# made by hand\nid;", 1)
    lines = text.splitlines()
    lines[3] = ";".join([*lines[3].split(";")[:1], "NA", "", *lines[3].split(";")[3:]]).replace("ill", "ill")
    (work / "all.csv").write_bytes("\r\n".join(lines).encode("utf-16") + "\r\n\r\n".encode("utf-16-le"))
    file = {"path": "../files/all.csv", "encoding": "utf-16", "decimal": ",", "skip": 1, "missing": ["", "NA"]}
    sheet, found = run(ONE | {"tables": {"all": file}})
    assert sheet["inputs"]["rna"]["imputed"] == 2
    got = by_id(found)
    np.testing.assert_allclose(got["p1"]["rna"][2:] + got["p1"]["mir"], VALUES[1, 2:], rtol=1e-6)
    np.testing.assert_allclose(got["p7"]["rna"], VALUES[7, :3], rtol=1e-6)


def test_groups_stay_whole_and_published_splits_are_by_column_or_file(work: Path, run: Any) -> None:
    whole(family=[f"f{i // 4}" for i in range(N)]).write_csv(work / "all.csv")
    sheet, found = run(ONE | {"group": "family", "modalities": {"rna": {"prefix": "g"}, "mir": {"prefix": "m"}}})
    families = [{int(r["id"][1:]) // 4 for r in of} for of in found.values()]
    assert sum(map(len, families)) == 5
    assert sheet["split"]["rule"].startswith("groups whole")
    fold = ["train"] * 12 + ["dev"] * 3 + ["test"] * 5
    whole(fold=fold).write_csv(work / "all.csv")
    published = {"kind": "published", "train": 12, "val": 3, "test": 5}
    _, found = run(ONE | {"split": "fold"}, split=published)
    assert [r["id"] for r in found["val"]] == IDS[12:15]
    for name, of in whole().with_columns(f=pl.Series(fold)).partition_by("f", as_dict=True, include_key=False).items():
        of.write_csv(work / f"{name[0]}.csv")
    files = {"train": "../files/train.csv", "val": "../files/dev.csv", "test": "../files/test.csv"}
    check_values(run(ONE | {"tables": {"all": {"path": files}}}, split=published)[1])


def test_several_labels_quantities_and_tasks(work: Path, run: Any) -> None:
    whole(well=[0, 1] * 10, ill=[1, 0] * 10, age=np.arange(N) / 4, sex=["f", "m"] * 10).write_csv(work / "all.csv")
    options = ONE | {"label": None}
    got = by_id(run(options, target="multilabel", metrics=["macro_f1"])[1])
    assert [got[i]["label"] for i in IDS[:2]] == [[0, 1], [1, 0]]
    got = by_id(run(options, target="regression", classes=["age"], metrics=["mse"])[1])
    assert [got[i]["label"] for i in IDS[:2]] == [[0], [0.25]]
    got = by_id(run(ONE | {"tasks": {"sex": "sex"}}, tasks={"sex": ["m", "f"]})[1])
    assert [got[i]["label_sex"] for i in IDS[:2]] == [1, 0]


def test_several_rows_of_an_id_are_observations(work: Path, run: Any) -> None:
    texts = {"id": [i for i in IDS for _ in range(2)], "said": [f"{i} {k}" for i in IDS for k in range(2)]}
    pl.DataFrame(texts).write_csv(work / "texts.csv")
    options = {
        "tables": {"labels": "../files/labels.csv", "rna": "../files/rna.csv", "said": "../files/texts.csv"},
        "id": "id", "label": "state", "modalities": {"said": {"columns": ["said"]}},
    }  # fmt: skip
    kinds = {"rna": {"kind": "vector", "shape": [3]}, "said": {"kind": "text", "shape": [], "multifold": True}}
    assert by_id(run(options, modalities=kinds)[1])["p3"]["said"] == ["p3 0", "p3 1"]
    with pytest.raises(
        DataError, match=r"texts\.csv: line 3: 'p0' in column 'id' stands also at .*line 2; an id names"
    ):
        run(options, modalities=kinds | {"said": {"kind": "text", "shape": []}})


def test_a_table_may_lack_instances_if_the_dataset_says_so(work: Path, run: Any) -> None:
    pl.read_csv(work / "mir.csv").filter(pl.col("id") != "p4").write_csv(work / "mir.csv")
    with pytest.raises(
        DataError, match=r"mir\.csv: 1 of 20 ids of labels\.csv are missing, the first is 'p4'; say `comm"
    ):
        run()
    sheet, found = run(THREE | {"common": True}, rows=19)
    assert "p4" not in by_id(found)
    assert sheet["report"] == {"left_out_as_a_table_lacks_them": 1}
    kinds = {"rna": {"kind": "vector", "shape": [3]}, "mir": {"kind": "vector", "shape": [2], "optional": True}}
    sheet, found = run(modalities=kinds)
    assert by_id(found)["p4"]["mir"] is None
    assert sheet["inputs"]["mir"] == {"missing": 1}


def edited(edit: Callable[[list[str]], list[str]]) -> Callable[[Path], Any]:
    return lambda p: p.write_text("\n".join(edit(p.read_text().splitlines())) + "\n")


def cell(line: int, column: int, value: str) -> Callable[[Path], Any]:
    def edit(lines: list[str]) -> list[str]:
        cells = lines[line - 1].split(",")
        cells[column - 1] = value
        return [*lines[: line - 1], ",".join(cells), *lines[line:]]

    return edited(edit)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("rna.csv", cell(4, 3, "high"), "line 4, column 3 (g2) holds 'high', which is not a finite number; in params/"),
        ("rna.csv", cell(4, 3, "1\u00a0"), r"line 4, column 3 (g2) holds '1\xa0', which is not a finite number"),
        ("rna.csv", cell(4, 3, "\u200b1"), r"line 4, column 3 (g2) holds '\u200b1', which"),
        ("rna.csv", cell(4, 3, "NaN"), "line 4, column 3 (g2) holds 'NaN', which is not a finite number; in params/"),
        ("rna.csv", cell(4, 3, ""), "line 4, column 3 (g2) is empty; in params/datasets/own.yaml, `missing`"),
        ("rna.csv", cell(4, 3, '"1,5"'), "line 4, column 3 (g2) holds '1,5', which is not a finite number"),
        ("rna.csv", cell(4, 3, "inf"), "line 4, column 3 (g2) holds 'inf', which is not a finite number"),
        ("rna.csv", edited(lambda t: [*t, "p0,1,2,3"]), "line 22: 'p0' in column 'id' stands also at"),
        ("rna.csv", edited(lambda t: [*t, "p99,1,2,3"]), "1 ids are not in labels.csv, the first is 'p99'"),
        ("rna.csv", edited(lambda t: [*t, "p0,1,2,3,4"]), "not readable as csv (line 22 has 5 cells, and line 1 "),
        ("labels.csv", edited(lambda t: [*t, "p3,ill"]), "line 22: 'p3' in column 'id' stands also at"),
        ("labels.csv", cell(5, 2, "il"), "line 5: state: label 'il'; did you mean 'ill'? (accepted: well, ill)"),
        ("labels.csv", cell(5, 2, ""), "line 5: no label in column 'state'; leave the row out, or fill it in"),
        ("labels.csv", cell(5, 1, ""), "line 5: column 'id' is empty; it names the instance"),
        ("labels.csv", cell(1, 2, "status"), "no column 'state' (params/datasets/own.yaml: prepare.label)"),
        ("rna.csv", cell(1, 1, "patient"), "no column 'id'"),
        ("rna.csv", lambda p: p.write_bytes(b"\x1f\x8b" + p.read_bytes()), "the file is compressed by gzip; unpack it"),
        ("rna.csv", lambda p: p.write_text("<!DOCTYPE html><p>log in"), "the file is a web page and not the file"),
        ("rna.csv", lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid"), "a pointer of Git LFS"),
        ("rna.csv", lambda p: p.write_text(""), "the file is empty"),
        ("rna.csv", lambda p: p.write_bytes(p.read_text().replace("g1", "gé").encode("cp1252")), "say its `encoding`"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_named(file: str, damage: Any, message: str, work: Path, run: Any) -> None:
    damage(work / file)
    with pytest.raises(DataError) as error:
        run()
    assert f"../files/{file}" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "change", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r"), lambda b: b + b"\n\n"]
)
def test_what_does_no_harm(change: Callable[[bytes], bytes], work: Path, run: Any) -> None:
    """A byte order mark, the line ends of an old Mac, blank lines at the end."""
    for file in ("labels.csv", "rna.csv", "mir.csv"):
        (work / file).write_bytes(change((work / file).read_bytes()))
    check_values(run()[1])


def test_an_empty_column_is_named(work: Path, run: Any) -> None:
    text = pl.read_csv(work / "rna.csv").with_columns(g2=pl.lit(None, pl.String)).write_csv()
    (work / "rna.csv").write_text(text)
    tables = THREE["tables"] | {"rna": {"path": "../files/rna.csv", "missing": [""]}}  # type: ignore[dict-item,operator]
    with pytest.raises(DataError, match=r"rna\.csv: column 'g2' has no number in any row; .*`without`"):
        run(THREE | {"tables": tables})


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        (THREE | {"tables": {"rna": "../files/rna.cvs"}}, {}, "../files/rna.cvs: no such file or folder; mend"),
        (THREE | {"tables": THREE["tables"] | {"other": "../files/rna.csv"}, "label": "g1"}, {}, "write rna/g1, or"),
        (THREE | {"modalities": {"rna": {"table": "rma"}}}, {}, "prepare.modalities.rna.table: no table 'rma'; did"),
        (THREE | {"modalities": {"rna": {"columns": ["g9"]}}}, {}, "no column 'g9' (params/datasets/own.yaml: prepare"),
        (THREE | {"modalities": {"rna": {"prefix": "x"}}}, {}, "no column is left for 'rna'"),
        (THREE | {"id": {"labels": "id", "rna": "id"}}, {}, "prepare.id: no column for table 'mir'; give each"),
        (THREE | {"lable": "state"}, {}, "prepare.lable: unknown key; did you mean 'label'?"),
        (THREE | {"label": None}, {}, "prepare.label: required; name the column of the class"),
        (THREE | {"split": "state"}, {}, "split is random, and `prepare` says otherwise; say `kind: published`"),
        (THREE, {"modalities": {"rna": {"kind": "vector", "shape": [4]}, "mir": {"kind": "vector", "shape": [2]}}},
         "rna.csv: 3 feature columns, and params/datasets/own.yaml: modalities.rna says 4"),
        (THREE | {"split": "state"}, {"split": {"kind": "published", "train": 12, "val": 3, "test": 5}},
         "labels.csv: line 2: column 'state': 'well' is no split; accepted by `prepare.splits`: train, training"),
        (THREE, {"rows": 21}, "20 instances written, and params/datasets/own.yaml: rows says 21"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(options: Any, change: Any, message: str, work: Path, run: Any) -> None:
    with pytest.raises((ConfigError, DataError, FetchError)) as error:
        run(options, **change)
    assert message in str(error.value)


def test_a_file_that_changes_is_noticed(work: Path, run: Any, small: Any, tmp_path: Path) -> None:
    run()
    (work / "rna.csv").write_text((work / "rna.csv").read_text() + "\n")
    given = {
        "modalities": {"rna": {"kind": "vector", "shape": [3]}}, "classes": ["well", "ill"], "rows": N, "split": RANDOM,
        "reader": "table", "prepare": THREE,
        "sources": [{"kind": "local", "path": p} for p in THREE["tables"].values()],
    }  # fmt: skip
    with pytest.raises(
        DataError, match=r"\.\./files/rna\.csv: changed since it was fetched .*run `mmcontrast data fetch"
    ):
        prepare("own", Dataset.model_validate(small.common(**given)), "raw", tmp_path / "out")


def test_a_folder_saved_by_datasets_and_pictures_of_the_hub(work: Path, small: Any, tmp_path: Path) -> None:
    """In the layout of `Dataset.save_to_disk`, with pictures as {bytes, path} and classes as numbers."""
    from io import BytesIO

    from PIL import Image

    def picture(i: int) -> dict[str, Any]:
        out = BytesIO()
        Image.new("RGB", (9, 9), (10 * i, 0, 0)).save(out, "PNG")
        return {"bytes": out.getvalue(), "path": None}

    columns = {"seen": [picture(i) for i in range(N)], "said": [f"text {i}" for i in range(N)], "y": [0, 1] * 10}
    folder = work / "saved"
    folder.mkdir()
    content = pa.table(columns)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, content.schema) as w,
    ):
        w.write_table(content)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    kinds = {"seen": {"kind": "image", "shape": [3, 4, 4], "encoded": True}, "said": {"kind": "text", "shape": []}}
    given = {
        "modalities": kinds, "classes": ["no", "yes"], "rows": N, "split": RANDOM, "scaling": "none",
        "reader": "table", "sources": [{"kind": "local", "path": "../files/saved", "folder": True}],
        "prepare": {"tables": {"rows": "../files/saved"}, "label": "y",
                    "modalities": {"seen": {"columns": ["seen"]}, "said": {"columns": ["said"]}}},
    }  # fmt: skip
    dataset = Dataset.model_validate(small.common(**given))
    fetch("own", dataset, "raw")
    prepare("own", dataset, "raw", tmp_path / "out")
    got = {
        r["id"]: r
        for s in ("train", "val", "test")
        for r in layout.read_split(tmp_path / f"out/{s}.parquet")[0].to_pylist()
    }
    assert [got["row-0003"][k] for k in ("said", "label")] == ["text 3", 1]
    with Image.open(BytesIO(got["row-0003"]["seen"])) as image:
        assert image.size == (4, 4)
        assert abs(image.getpixel((1, 1))[0] - 30) < 4  # type: ignore[index]
    (folder / "state.json").unlink()
    with pytest.raises(DataError, match=r"files/saved: not a folder that `Dataset\.save_to_disk`.*DatasetDict"):
        prepare("own", dataset, "raw", tmp_path / "out2")

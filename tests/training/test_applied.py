"""`mmcontrast embed` and `mmcontrast predict`: tables of raw rows in, tables of what training stored of them out."""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

import mmcontrast
from mmcontrast.cli import main
from mmcontrast.config import Modality
from mmcontrast.data.new_rows import _cells
from mmcontrast.data.pictures import log_mel
from mmcontrast.errors import DataError
from mmcontrast.paths import Layout
from mmcontrast.trained import EMPTY, exported_epoch, read_rows
from mmcontrast.training.cell import run_stage
from tests import multifold_data, raw_rows
from tests.training.test_trained import folder, raw_observations, stored  # noqa: F401

LAYOUT, ROOT = Layout("tests"), Path(__file__).parents[2]
FEATURES = raw_rows.FEATURES["vital"]


@pytest.fixture
def checkout(folder: Path) -> Path:  # noqa: F811
    """With the command line's `params/suites`, and raw rows in files of several kinds."""
    (folder / "params").symlink_to(ROOT / "params")
    raw_rows.write(folder)
    return folder


def trained(cell: Any) -> Path:
    run_stage(cell, cell.last_stage, LAYOUT)
    return Path(LAYOUT.stage(cell.name, cell.last_stage))


def tables(given: Path) -> dict[str, pl.DataFrame]:
    """The raw rows of the test split: vitals in one table, all else in another whose rows are in another order."""
    given.mkdir()
    raw = raw_rows.raw()
    ids = [o.id for o in raw_rows.instances() if o.split == "test"]
    for one in raw_rows.instances(in_files=True):
        if one.values["photo"] is not None:
            (given / f"{one.id}.png").write_bytes(one.values["photo"])
    vital = pl.DataFrame({"id": ids} | dict(zip(FEATURES, np.stack(raw["vital"]).T, strict=True))).fill_nan(None)
    steps = [None if x is None else x.tolist() for x in raw["pen"]]
    rest = pl.DataFrame({"id": ids, "note": raw["note"], "pen": steps, "photo": raw["photo"]})
    return {"vital": vital, "rest": rest.reverse()}


def test_a_table_gives_what_training_stored(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = raw_rows.cell_of("concat")
    outputs = trained(cell)
    made = tables(checkout / "given")
    made["vital"].write_csv(checkout / "given/vital.csv")
    made["rest"].write_parquet(checkout / "given/rest.parquet")
    files = ["given/vital.csv", "given/rest.parquet"]
    assert main(["embed", "raw_rows/concat", *files, "-o", "z.parquet", "--suite", "tests"]) == 0
    assert "z.parquet: 9 rows written" in capsys.readouterr().out
    expected = stored(outputs, "embeddings")
    found = pl.read_parquet("z.parquet")
    assert found["id"].to_list() == expected["id"].to_list()
    np.testing.assert_allclose(found["embedding"].to_numpy(), expected["embedding"].to_numpy(), rtol=0, atol=1e-6)
    file = outputs / "models/seed3.safetensors"
    assert main(["predict", str(file), *files, "-o", "p.csv"]) == 0
    predicted = pl.read_csv("p.csv")
    probs = stored(outputs, "predictions").filter(epoch=exported_epoch(file))["probs"].to_numpy()
    np.testing.assert_allclose(predicted.select(cell.classes).to_numpy(), probs, rtol=0, atol=1e-6)
    assert predicted["predicted"].to_list() == np.array(cell.classes)[probs.argmax(1)].tolist()


def test_csv_alone_holds_every_kind(checkout: Path) -> None:
    """Sequences as JSON, pictures by their paths; what a path leads to is cut and stored as the reader does."""
    cell = raw_rows.cell_of("cross")
    outputs = trained(cell)
    made = tables(checkout / "given")
    rest = made["rest"].with_columns(
        pl.Series("pen", [None if x is None else json.dumps(x.to_list()) for x in made["rest"]["pen"]]),
        pl.Series("photo", [None if x is None else f"{i}.png" for i, x in made["rest"].select("id", "photo").rows()]),
    )
    whole = made["vital"].join(rest, on="id", maintain_order="left").rename({"pulse": "vital/pulse"})
    whole.write_csv(checkout / "given/rows.csv")
    assert main(["embed", "raw_rows/cross", "given/rows.csv", "-o", "z.csv", "--suite", "tests", "--seed", "3"]) == 0
    again = np.array([json.loads(z) for z in pl.read_csv("z.csv")["embedding"]])
    expected = stored(outputs, "embeddings")["embedding"].to_numpy()
    np.testing.assert_allclose(again, expected, rtol=0, atol=1e-6)
    photo = slice(cell.model.width, 2 * cell.model.width)
    has = np.array([o.values["photo"] is not None for o in raw_rows.instances() if o.split == "test"])
    assert not again[~has, photo].any()
    assert again[has, photo].std(0).max() > 1e-3


def test_cells_of_csv_are_text_as_where_a_dataset_is_read(checkout: Path) -> None:
    """Names such as 007, numbers that are whole at first, words for what is missing, texts of digits; and a table that
    is called as a modality may have others."""
    kinds = ("vital", "note")
    raw_rows.write(checkout, kinds)
    outputs = trained(raw_rows.cell_of("concat", kinds))
    rows = [f"{i:03d};{70 if i < 150 else 0.5};{'NA' if i % 2 else 60};170;{i}" for i in range(200)]
    Path("vital.csv").write_text("person;pulse;weight;height;note\n" + "\n".join(rows) + "\n", "utf-16")
    assert main(["embed", str(outputs), "vital.csv", "-o", "z.parquet", "--id", "person"]) == 0
    found = pl.read_parquet("z.parquet")
    assert found["id"].to_list() == [f"{i:03d}" for i in range(200)]
    numbers = [[70 if i < 150 else 0.5, np.nan if i % 2 else 60, 170] for i in range(200)]
    expected = mmcontrast.load(outputs).embed({"vital": numbers, "note": [str(i) for i in range(200)]})
    np.testing.assert_allclose(found["embedding"].to_numpy(), expected, rtol=0, atol=1e-6)


class Model:
    """What of a trained model decides how tables are read: two vectors with one feature of the same name."""

    cells: ClassVar = {"missing": [*EMPTY, "NA"], "decimal": "."}

    def __init__(self, **modalities: Any) -> None:
        made = {m: Modality.model_validate(of) for m, of in modalities.items()}
        self.cell: Any = SimpleNamespace(modalities=made)

    def features(self, m: str) -> list[str]:
        return {"mrna": ["a", "b"], "mir": ["a", "c"]}.get(m, [])


VECTOR = {"kind": "vector", "shape": [2]}


def test_features_of_one_name_are_told_apart_by_the_table_or_by_the_modality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model: Any = Model(mrna=VECTOR, mir=VECTOR)
    Path("mrna.csv").write_text("id,a,b\nx,1,2\ny,NA,\n")
    Path("mir.csv").write_text("id,a,c\nz,5,6\nx,3,4\n")
    Path("all.csv").write_text("id,mrna/a,b,mir/a,c\nx,1,2,3,4\n")
    ids, inputs = read_rows(model, [Path("mrna.csv"), Path("mir.csv")])
    assert ids == ["x", "y", "z"]
    nan = np.nan
    np.testing.assert_array_equal(inputs["mrna"], [[1, 2], [nan, nan], [nan, nan]])
    np.testing.assert_array_equal(inputs["mir"], [[3, 4], [nan, nan], [5, 6]])
    ids, inputs = read_rows(model, [Path("all.csv")])
    assert {m: x.tolist() for m, x in inputs.items()} == {"mrna": [[1, 2]], "mir": [[3, 4]]}
    Path("wrong.csv").write_text("id,a\nx,1\n")
    with pytest.raises(
        DataError, match=r"expected columns such as mrna/a, mir/a \(or without mrna/ in a file mrna\.csv"
    ):
        read_rows(model, [Path("wrong.csv")])
    Path("half.csv").write_text("id,a,b\nx,1,2\n")
    with pytest.raises(
        DataError, match=r"modality 'mrna': 1 of 2 features .* 'a'; call it so in a file mrna\.csv, or mr"
    ):
        read_rows(model, [Path("half.csv")])
    with pytest.raises(DataError, match=r"mrna\.csv: no column 'ids', which should name its rows; name another"):
        read_rows(model, [Path("mrna.csv")], "ids")


def test_files_of_other_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model: Any = Model(
        mrna=VECTOR, photo={"kind": "image", "shape": [3, 4, 4]}, pen={"kind": "sequence", "shape": [5, 1]}
    )
    frame = pl.DataFrame({"id": [7, 8], "a": [1.0, None], "b": [2.0, 3.0], "pen": [[[1.0], [2.0]], [[3.0]]]})
    frame.write_parquet("rows.parquet")
    frame.write_ipc("rows.feather")
    for file in ("rows.parquet", "rows.feather"):
        ids, inputs = read_rows(model, [Path(file)])
        assert ids == ["7", "8"]
        np.testing.assert_array_equal(inputs["mrna"], [[1, 2], [np.nan, 3]])
        assert [np.ravel(steps).tolist() for steps in inputs["pen"]] == [[1, 2], [3]]
    pictures = np.arange(96, dtype=np.uint8).reshape(2, 3, 4, 4)
    np.savez("rows.npz", a=[1.0, 5.0], b=[2.0, 3.0], photo=pictures)
    ids, inputs = read_rows(model, [Path("rows.npz")])
    np.testing.assert_array_equal(inputs["mrna"], [[1, 2], [5, 3]])
    np.testing.assert_array_equal(inputs["photo"], pictures)


def test_a_sound_by_its_path_is_what_training_has_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    samples = np.random.default_rng(0).integers(-9999, 9999, 900)
    with wave.open("a.wav", "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "NONE"))
        file.writeframes(samples.astype("<i2").tobytes())
    Path("rows.csv").write_text('voice\na.wav\n""\n')
    for bands, expected in ((8, log_mel(samples / 32768, 16000, 8)), (1, samples[:, None] / 32768)):
        model: Any = Model(voice={"kind": "sequence", "shape": [1000, bands]})
        _, inputs = read_rows(model, [Path("rows.csv")])
        cells = _cells("voice", model.cell.modalities["voice"], inputs["voice"])
        np.testing.assert_array_equal(cells[0], expected)
        assert cells[1:] == [None]
    Path("note.txt").write_text("a text")
    text = Modality(kind="text", shape=[])
    assert _cells("note", text, [Path("note.txt"), "note.txt"]) == ["a text", "note.txt"]
    with pytest.raises(DataError, match=r"no\.txt: not a text in UTF-8 .*No such file"):
        _cells("note", text, [Path("no.txt")])


def test_queries_alone_are_embedded_an_observation_a_row(checkout: Path) -> None:
    multifold_data.write_multifold(checkout)
    cell = multifold_data.small_cell("mxm_clr", epochs=2).model_copy(update={"seeds": [0]})
    outputs = trained(cell)
    texts = raw_observations(checkout)["text"]
    pl.DataFrame({"text": [json.dumps(of) for of in texts]}).write_csv("texts.csv")
    assert main(["embed", str(outputs.parent), "texts.csv", "-o", "z.parquet"]) == 0
    found = pl.read_parquet("z.parquet")
    epoch = exported_epoch(outputs / "models/seed0.safetensors")
    expected = stored(outputs, "embeddings").filter(epoch=epoch, modality="text")
    assert found["modality"].unique().to_list() == ["text"]
    assert found["id"].to_list() == [str(i) for i, of in enumerate(texts) for _ in of]
    np.testing.assert_allclose(found["embedding"].to_numpy(), expected["embedding"].to_numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("rows.xls", "", "rows.xls: a table is a file of .csv, .tsv"),
        ("rows.csv", None, "rows.csv: no such file"),
        ("rows.parquet", "no", "rows.parquet: not a whole .parquet file"),
        ("rows.csv", "id,note\na,x\na,y\n", "rows.csv: column 'id' has a name twice, or an empty one"),
        ("rows.csv", "id,text\na,x\n", "rows.csv: no column is an input of the model; expected columns such as pulse,"),
        (
            "rows.csv",
            "pulse,weight,note\n1,2,x\n",
            "modality 'vital': 1 of 3 features are no columns, such as 'height'",
        ),
        (
            "rows.csv",
            "pulse,weight,height,note\n1,2,three,x\n",
            "rows.csv: line 2, column 3 .height. holds 'three', which is not a finite number; leave it empty",
        ),
        ("rows.csv", 'note,pen\nx,"[[1,2]"\n', "rows.csv: line 2: column 'pen': not a list in JSON"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(
    checkout: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, told: str
) -> None:
    raw_rows.write(checkout, ("vital", "pen"))
    outputs = trained(raw_rows.cell_of("raw", ("vital", "pen")))
    if content is not None:
        (checkout / name).write_text(content)
    assert main(["embed", str(outputs), name, "-o", "z.parquet"]) == 1
    assert re.search(told, capsys.readouterr().err)


def test_files_are_not_joined_by_the_order_of_their_rows(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where one names its rows in a column that is not called `id`."""
    raw_rows.write(checkout, ("vital", "pen"))
    outputs = trained(raw_rows.cell_of("raw", ("vital", "pen")))
    (checkout / "vital.csv").write_text("id,pulse,weight,height\na,1,2,3\n")
    (checkout / "pen.csv").write_text('person,pen\na,"[[1,2]]"\n')
    assert main(["embed", str(outputs), "vital.csv", "pen.csv", "-o", "z.parquet"]) == 1
    told = capsys.readouterr().err
    assert "pen.csv: no column 'id', by which several files are joined; name another by --id" in told

"""`mmcontrast embed` and `mmcontrast predict`: tables of raw rows in, tables of what training stored of them out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmcontrast.cli import main
from mmcontrast.paths import Layout
from mmcontrast.trained import exported_epoch
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
    paths = []
    for name, photo in zip(ids, raw["photo"], strict=True):
        if photo is not None:
            (given / f"{name}.png").write_bytes(photo)
        paths.append(None if photo is None else photo)
    vital = pl.DataFrame({"id": ids} | dict(zip(FEATURES, np.stack(raw["vital"]).T, strict=True))).fill_nan(None)
    steps = [None if x is None else x.tolist() for x in raw["pen"]]
    rest = pl.DataFrame({"id": ids, "note": raw["note"], "pen": steps, "photo": paths})
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
    width = cell.model.width
    others = np.r_[:width, 2 * width : 4 * width]
    np.testing.assert_allclose(again[:, others], expected[:, others], rtol=0, atol=1e-6)
    # what a path leads to becomes a JPEG, as it does in `reader: folder`
    photo = slice(width, 2 * width)
    has = np.array([o.values["photo"] is not None for o in raw_rows.instances() if o.split == "test"])
    assert not again[~has, photo].any()
    np.testing.assert_allclose(again[has, photo], expected[has, photo], atol=0.3)


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
        ("rows.xls", "", "rows.xls: '.xls' is not read here; give .csv or .parquet"),
        ("rows.csv", None, "rows.csv: no such file"),
        ("rows.parquet", "no", "rows.parquet: not a table that can be read"),
        ("rows.csv", "id,note\na,x\na,y\n", "rows.csv: column 'id' has a name twice, or an empty one"),
        ("rows.csv", "id,text\na,x\n", "rows.csv: no column is an input of the model; expected columns such as pulse,"),
        ("rows.csv", "pulse,weight,note\n1,2,x\n", "1 of 3 features are no columns of it, such as 'height'"),
        ("rows.csv", "pulse,weight,height,note\n1,2,three,x\n", "modality 'vital', row 0 .*could not convert"),
        ("rows.csv", 'note,pen\nx,"[[1,2]"\n', "column 'pen', row 0 .*: not a list in JSON"),
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
    assert "pen.csv: no column 'id', by which several files are joined; name the column of ids so" in told

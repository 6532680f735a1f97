"""What `new dataset`, `new method` and `init` write is in order, says what was guessed, and overwrites nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from mmcontrast.cli import main
from mmcontrast.config import Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.guess import Guess
from mmcontrast.data.prepare import prepare
from mmcontrast.errors import DataError
from mmcontrast.pipeline import starting

N = 40
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(N, 6)).round(3)
IDS = [f"case {i}" for i in range(N)]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace, with files of the user's own beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    assert main(["init", "here"]) == 0
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "files"


def columns(*names: str, start: int = 0) -> dict[str, Any]:
    return {name: VALUES[:, start + j].tolist() for j, name in enumerate(names)}


def written(name: str = "mine") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(f"params/datasets/{name}.yaml").read_text())
    return found


def prepared(name: str = "mine") -> dict[str, Any]:
    dataset = Grid(suite=name).datasets[name]
    fetch(name, dataset, "raw")
    return prepare(name, dataset, "raw", "out")


def test_three_csv(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = [["ill", "well", "other"][i % 3] for i in range(N)]
    pl.DataFrame({"sample": IDS} | columns("a1", "a2")).write_csv(work / "RNA seq.csv", separator=";")
    odd = pl.DataFrame({"sample": IDS} | columns("b1", "b2", "b3", start=2)).with_columns(
        b2=pl.when(pl.int_range(N) == 5).then(pl.lit("NA")).otherwise(pl.col("b2").cast(pl.String)), kind=pl.lit("x")
    )
    odd.reverse().write_csv(work / "mirna.csv")
    pl.DataFrame({"sample": IDS, "diagnosis": state, "patient": [f"p{i // 2}" for i in range(N)]}).write_csv(
        work / "c.csv"
    )
    files = ["../files/RNA seq.csv", "../files/mirna.csv", "../files/c.csv"]
    assert main(["new", "dataset", "mine", *files]) == 0
    said = capsys.readouterr().out
    for line in (
        "id: column 'sample'; the instances are those of",
        "../files/RNA seq.csv: separator ';'",
        "label: column 'diagnosis' of c, by its name",
        "group: column 'patient' of c, by its name",
        "mirna: cells ['NA'] count as missing, and as their mean over train",
        "left out: kind of mirna, neither numbers nor texts of several words",
        "Next: snakemake --cores all --config suite=mine",
    ):
        assert line in said
    values = written()
    assert {m: of["shape"] for m, of in values["modalities"].items()} == {"rna_seq": [2], "mirna": [3]}
    assert values["classes"] == ["ill", "other", "well"]
    sheet = prepared()
    assert sheet["rows"] == N
    assert sheet["inputs"]["mirna"]["imputed"] == 1
    assert sheet["split"]["rule"].startswith("groups whole")
    cell = Grid(suite="mine").cell("mine", "cross", "shared")
    assert cell.model.fusion is not None
    assert cell.model.fusion.width == 64
    assert main(["new", "dataset", "mine", *files]) == 1
    assert "error: params/datasets/mine.yaml: there already; take another name, or remove it" in capsys.readouterr().err
    assert main(["new", "dataset", "drawings", *files]) == 1
    assert "params/experiments/across/drawings.yaml: there already" in capsys.readouterr().err


def test_one_table_with_prefixes_a_published_split_and_a_quantity(work: Path) -> None:
    split = ["train"] * 24 + ["dev"] * 8 + ["test"] * 8
    given = columns("eeg_1", "eeg_2") | columns("gait_x", "gait_y", "gait_z", start=2) | {"fold": split}
    pl.DataFrame(given | {"outcome": VALUES[:, 5]}).write_parquet(work / "all.parquet")
    assert main(["new", "dataset", "mine", "../files/all.parquet"]) == 0
    values = written()
    assert values["modalities"] == {"eeg": {"kind": "vector", "shape": [2]}, "gait": {"kind": "vector", "shape": [3]}}
    assert values["split"] == {"kind": "published", "train": 24, "val": 8, "test": 8}
    assert (values["target"], values["classes"]) == ("regression", ["outcome"])
    assert prepared()["splits"]["val"]["rows"] == 8


def test_arrays_of_an_npz(work: Path) -> None:
    steps, pictures = RNG.normal(size=(N, 5, 2)), RNG.integers(0, 255, (N, 3, 8, 8), np.uint8)
    np.savez(work / "all.npz", motion=steps, face=pictures, y=np.arange(N) % 2)
    assert main(["new", "dataset", "mine", "../files/all.npz"]) == 0
    assert {m: (of["kind"], of["shape"]) for m, of in written()["modalities"].items()} == {
        "motion": ("sequence", [5, 2]), "face": ("image", [3, 8, 8])
    }  # fmt: skip
    assert prepared()["rows"] == N


def test_a_folder_of_pictures_and_captions_without_a_label_is_for_retrieval(work: Path) -> None:
    (work / "photos").mkdir()
    for i in range(N):
        Image.new("RGB", (12, 10), (6 * i, 0, 0)).save(work / f"photos/{i}.png")
    rows = {"picture": [i for i in range(N) for _ in range(2)], "caption": [f"a red {i // 2}" for i in range(2 * N)]}
    pl.DataFrame(rows).write_csv(work / "captions.csv")
    told = ["--id", "picture"]
    assert main(["new", "dataset", "mine", "../files/photos", "../files/captions.csv", *told]) == 0
    values = written()
    assert values["retrieval"] == {"gallery": "image", "queries": "caption"}
    assert values["prepare"]["modalities"]["image"] == {"file": "../files/photos/{picture}.png"}
    sheet = prepared()
    assert sheet["rows"] == N
    captions = pl.read_parquet("out/train.parquet")["caption"].to_list()
    assert {len(of) for of in captions} == {2}


def test_folders_of_sounds_and_texts(work: Path) -> None:
    for folder in ("voices", "letters"):
        (work / folder).mkdir()
    for i in range(N):
        (work / f"letters/case {i}.txt").write_text(f"letter {i}")
        with wave.open(str(work / f"voices/{i}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", "NONE"))
            file.writeframes(RNG.integers(-999, 999, 800 + 80 * i).astype("<i2").tobytes())
    state = [["ill", "well"][i % 2] for i in range(N)]
    pl.DataFrame({"id": IDS, "wave": range(N), "state": state}).write_csv(work / "people.csv")
    folders = ["../files/voices", "../files/letters"]
    assert main(["new", "dataset", "mine", *folders, "../files/people.csv", "--label", "state"]) == 0
    assert written()["modalities"] == {
        "sound": {"kind": "sequence", "shape": [49, 40]}, "text": {"kind": "text", "shape": []}
    }  # fmt: skip
    methods = [row["method"] for row in yaml.safe_load(Path("params/experiments/mine.yaml").read_text())["cells"]]
    assert methods == ["cross", "cross", "comm", "concat", "m3col"]  # neither raw texts nor a recipe of vectors alone
    assert prepared()["rows"] == N
    rows = pl.read_parquet("out/train.parquet")
    assert [text.split()[1] for text in rows["text"]] == [name.split()[1] for name in rows["id"]]
    assert rows["sound"].list.len().min() >= 8


def test_what_fails_leaves_nothing_behind(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pl.DataFrame(columns("a_1", "a_2", "b_1", "b_2") | {"label": ["x", "y"] * (N // 2)}).write_csv(work / "all.csv")
    words = ["new", "dataset", "mine", "../files/all.csv"]
    before = starting.RECIPE.read_text()
    with monkeypatch.context() as fails:
        fails.setattr("mmcontrast.cli._check", lambda args: (_ for _ in ()).throw(DataError("no")))
        assert main(words) == 1
    assert starting.RECIPE.read_text() == before
    assert not list(Path("params").rglob("mine.yaml"))
    assert main(words) == 0
    # the encoders of an earlier dataset of this name are not those of other files
    for file in list(Path("params").rglob("mine.yaml")):
        file.unlink()
    assert main(words) == 0
    for file in list(Path("params").rglob("mine.yaml")):
        file.unlink()
    pl.DataFrame(columns("a_1", "a_2", "b_1", "b_2", "c_1", "c_2") | {"label": ["x", "y"] * (N // 2)}).write_csv(
        work / "all.csv"
    )
    capsys.readouterr()
    assert main(words) == 1
    assert "shared.yaml: datasets.mine: there already" in capsys.readouterr().err
    assert not list(Path("params").rglob("mine.yaml"))


@pytest.mark.parametrize(
    ("tables", "told", "message"),
    [
        (
            {"a": {"x": [1.0] * 9}, "b": {"z": [1.0] * 8}},
            {},
            "no column names the rows in every file, and their numbers",
        ),
        ({"a": {"id": [1, 2], "x": [1.5, 2]}}, {}, "1 modalities are to be seen"),
        ({"a": {"id": [1, 2], "x": [1.5, 2]}}, {"label": "y"}, "--label y: no such column; known: id, x"),
        (
            {"a": {"id": [1, 2], "x": [1.5, 2]}},
            {"id": "ids"},
            "--id ids: no such column in every file; did you mean 'id'",
        ),
        ({}, {}, "give files of tables with different names"),
    ],
)
def test_what_cannot_be_guessed(tables: Any, told: dict[str, str], message: str, work: Path) -> None:
    for name, given in tables.items():
        pl.DataFrame(given).write_csv(f"{name}.csv")
    with pytest.raises(DataError, match=message):
        Guess([f"{name}.csv" for name in tables], told)


def test_a_csv_of_another_country(work: Path) -> None:
    text = "Probe;a1;a2;b1;b2;Größe\n" + "".join(
        f"p{i};1,{i};2,5;3,{i};4,25;{'klein' if i % 2 else 'groß'}\n" for i in range(N)
    )
    (work / "werte.csv").write_bytes(text.encode("cp1252"))
    guess = Guess(["../files/werte.csv"], {"id": "Probe"})
    assert guess.values["prepare"]["tables"]["werte"] == {
        "path": "../files/werte.csv", "encoding": "cp1252", "separator": ";", "decimal": ","
    }  # fmt: skip
    assert guess.values["prepare"]["label"] == "Größe"
    assert list(guess.values["modalities"]) == ["a", "b"]


@pytest.mark.slow
def test_a_method_by_the_template(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame(columns("a_1", "a_2", "b_1", "b_2") | {"label": ["x", "y"] * (N // 2)}).write_csv(work / "all.csv")
    assert main(["new", "dataset", "mine", "../files/all.csv"]) == 0
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)

    done = run("-m", "mmcontrast", "new", "method", "my_loss", "--experiment", "mine")
    assert done.returncode == 0, done.stderr
    assert "params/experiments/mine.yaml: written" in done.stdout
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "methods/my_loss")
    assert done.returncode == 0, done.stdout
    done = run("-m", "mmcontrast", "plan", "--suite", "mine")
    assert "8 cells" in done.stdout, done.stderr
    planned = Path("build/mine/plan/cells/mine/my_loss/shared/pretrain.json").read_text()
    assert f'"{Path("methods/my_loss/method.py").resolve()}"' in planned
    capsys.readouterr()
    for name, message in (("comm", "params/methods/comm.yaml: there already"), ("My", "'My': not accepted as a name")):
        assert main(["new", "method", name]) == 1
        assert message in capsys.readouterr().err
    Path("methods/m3col").mkdir()
    shutil.copy("methods/my_loss/method.py", "methods/m3col/method.py")
    done = run("-m", "mmcontrast", "check", "--suite", "mine")
    assert "methods/m3col: a method of this name comes with the package; rename yours" in done.stderr


def test_a_row_of_an_experiment_is_as_far_in_as_the_others(work: Path) -> None:
    file = Path("params/experiments/own.yaml")
    file.write_text("title: Own\ncells:\n  - {method: comm}\n  - {method: cross}\nreference: {method: comm}\n")
    starting.new_method("my_loss", "own")
    rows = yaml.safe_load(file.read_text())["cells"]
    assert [row["method"] for row in rows] == ["my_loss", "comm", "cross"]


def test_init_overwrites_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "."]) == 1
    assert "error: .: not empty; name a folder that is not there yet" in capsys.readouterr().err

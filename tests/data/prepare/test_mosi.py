"""MOSI's two sets: small files in the layout of the real ones, and the real ones where there is a mirror."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcontrast.config import Dataset, Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.prepare import mosi, prepare
from mmcontrast.errors import DataError

HOST = "raw.githubusercontent.com"
# clip, words, sentiment, part of bc-LSTM's split; two clips of video b share their words
CLIPS = [
    ("a_1", "GOOD ", 1.5, "train"),
    ("a_2", "BAD", -2.0, "train"),
    ("b_x_1", "SO SO", 0.0, "test"),
    ("b_x_2", "AGAIN", -1.0, "test"),
    ("b_x_3", "AGAIN", -0.5, "test"),
    ("c_1", "VERY GOOD", 3.0, "train"),
    ("d_1", "NO", -3.0, "train"),
]
STANDARD = {"a": "train", "b_x": "test", "c": "dev", "d": "dev"}
WIDTHS = {"text": 2, "audio": 3, "video": 2}


def files() -> dict[str, str]:
    """Every file of both sets."""
    label = [int(sentiment >= 0) for *_, sentiment, _ in CLIPS]
    out = {
        "transcripts.csv": "".join(
            f'"{name}","{text}","9","{y}"\n' for (name, text, *_), y in zip(CLIPS, label, strict=True)
        )
    }
    for part in ("train", "test"):
        rows = [i for i, clip in enumerate(CLIPS) if clip[3] == part]
        out[f"text_{part}.csv"] = "".join(f'"{i}","0.5"\n' for i in rows)
        for modality, width in WIDTHS.items():
            out[f"{modality}_{part}0.csv"] = "".join(
                ",".join(f'"{10 * i + j}.5"' for j in range(width)) + f',"{label[i]}"\n' for i in rows
            )
    for part in ("train", "dev", "test"):
        lines = [
            f"{text}\t{sentiment}" for name, text, sentiment, _ in CLIPS if STANDARD[name.rpartition("_")[0]] == part
        ]
        out[f"{part}.tsv"] = "\r\n".join(["text\tlabel", *lines]) + "\r\n"
    return out


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    def make(of: dict[str, str]) -> Path:
        for name, text in of.items():
            (tmp_path / name).write_bytes(text.encode())
        return tmp_path

    return make


def dataset(root: Path, name: str, **over: Any) -> Dataset:
    """The real file's, of the small widths."""
    real = Grid(root).datasets[name]
    short = {m: [WIDTHS[m]] if spec.kind == "vector" else [] for m, spec in real.modalities.items()}
    kept = {m: spec.model_copy(update={"shape": short[m]}) for m, spec in real.modalities.items()}
    return real.model_copy(update={"modalities": kept, **over})


def test_clips_get_their_own_vectors_and_the_published_split(root: Path, write: Any) -> None:
    got = list(mosi.stream("mosi", dataset(root, "mosi"), write(files())).instances)
    assert [one.id for one in got] == [clip[0] for clip in CLIPS]
    assert [one.split for one in got] == [clip[3] for clip in CLIPS]
    assert [one.group for one in got] == ["a", "a", "b_x", "b_x", "b_x", "c", "d"]
    assert [one.label for one in got] == [1, 0, 1, 0, 0, 1, 0]
    for modality, width in WIDTHS.items():
        expected = [[10 * i + j + 0.5 for j in range(width)] for i in range(len(CLIPS))]
        np.testing.assert_array_equal([one.values[modality] for one in got], expected)


def test_sentences_are_joined_and_zero_is_not_positive(root: Path, write: Any) -> None:
    spec = dataset(root, "mosi_transcripts")
    got = list(mosi.stream("mosi_transcripts", spec, write(files())).instances)
    assert [one.label for one in got] == [1, 0, 0, 0, 0, 1, 0]
    assert [one.split for one in got] == ["train", "train", "test", "test", "test", "val", "val"]
    assert [one.group for one in got] == ["a", "a", "b_x", "b_x", "b_x", "c", "d"]
    assert [one.values["text"] for one in got] == [clip[1] for clip in CLIPS]
    np.testing.assert_array_equal(got[3].values["audio"], [30.5, 31.5, 32.5])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('.5","', '.5","0","', "feature columns, and modality 'audio' with its label says 4"),
        ('"20.5"', '"x"', "line 1, column 1 (audio 1) holds 'x', which is not a finite number"),
    ],
)
@pytest.mark.parametrize("name", ["mosi", "mosi_transcripts"])
def test_other_vectors_are_refused(name: str, old: str, new: str, message: str, root: Path, write: Any) -> None:
    changed = files()
    assert old in changed["audio_test0.csv"]
    changed["audio_test0.csv"] = changed["audio_test0.csv"].replace(old, new)
    with pytest.raises(DataError) as e:
        mosi.stream(name, dataset(root, name), write(changed))
    assert message in str(e.value)


@pytest.mark.mirror
def test_the_real_mosi(root: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCONTRAST_MIRROR", str(mirror))
    real = Grid(root).datasets["mosi"]
    fetch("mosi", real, tmp_path / "raw")
    sheet = prepare("mosi", real, tmp_path / "raw", tmp_path / "out")
    rows = {split: part["rows"] for split, part in sheet["splits"].items()}
    assert rows == {"train": 1447, "val": 0, "test": 752}
    assert sheet["splits"]["test"]["classes"] == {"negative": 285, "positive": 467}
    got = list(mosi.stream("mosi", real, tmp_path / "raw").instances)
    videos = {split: {one.group for one in got if one.split == split} for split in rows}
    assert {split: len(of) for split, of in videos.items()} == {"train": 62, "val": 0, "test": 31}
    assert any("LABEL LEAK" in note for note in sheet["notes"])


@pytest.mark.mirror
def test_the_real_mosi_transcripts(root: Path, mirror: Path, tmp_path: Path) -> None:
    for path in [*(mirror / HOST / "soujanyaporia").rglob("*.csv"), *(mirror / HOST / "thuiar").rglob("*.tsv")]:
        shutil.copyfile(path, tmp_path / path.name)
    real = Grid(root).datasets["mosi_transcripts"]
    got = list(mosi.stream("mosi_transcripts", real, tmp_path).instances)
    assert Counter(one.split for one in got) == {"train": 1284, "val": 229, "test": 686}
    videos = {one.group: one.split for one in got}
    assert Counter(videos.values()) == {"train": 52, "val": 10, "test": 31}
    assert all(videos[one.group] == one.split for one in got)
    lines = mosi.read_lines(tmp_path)
    texts = Counter(" ".join(str(one.values["text"]).split()) for one in got)
    assert texts == {text: len(found) for text, found in lines.items()}
    shared = {text: found for text, found in lines.items() if len(found) > 1}
    assert shared == {
        "SO IT WAS JUST A LITTLE AWKWARD": [("val", -1.0), ("val", -0.6)],
        "I HATED IT": [("test", -2.6), ("test", -3.0)],
    }
    assert sum(sentiment == 0 for found in lines.values() for _, sentiment in found) == 96


@pytest.mark.mirror
def test_the_real_files_agree_with_each_other(root: Path, mirror: Path, tmp_path: Path) -> None:
    for path in [*(mirror / HOST / "soujanyaporia").rglob("*.csv"), *(mirror / HOST / "thuiar").rglob("*.tsv")]:
        shutil.copyfile(path, tmp_path / path.name)
    tables = [name for name in files() if name.endswith(".csv")]
    rows = {name: list(csv.reader((tmp_path / name).read_text(encoding="utf-8").splitlines())) for name in tables}
    clips = rows["transcripts.csv"]
    assert len({name for name, *_ in clips}) == len(clips)
    order = {part: [int(float(row[0])) for row in rows[f"text_{part}.csv"]] for part in ("train", "test")}
    assert sorted(order["train"] + order["test"]) == list(range(len(clips)))
    for part, of_part in order.items():
        for modality in WIDTHS:
            labels = [float(row[-1]) for row in rows[f"{modality}_{part}0.csv"]]
            assert labels == [float(clips[i][3]) for i in of_part]
    lines = mosi.read_lines(tmp_path)
    assert all(abs(sentiment) <= 3 for found in lines.values() for _, sentiment in found)
    for _, text, _, at_least_zero in clips:
        assert (lines[" ".join(text.split())].pop(0)[1] >= 0) == bool(float(at_least_zero))

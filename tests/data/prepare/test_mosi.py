"""MOSI's two sets: small files in the layout of the real ones, and the real ones where there is a mirror."""

from __future__ import annotations

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


FAULTS = [
    ("transcripts.csv", '"a_1"', '"a"', "line 1: 'a' does not name a clip; expected <video>_<clip>"),
    ("transcripts.csv", '"a_1"', '"a_2"', "lines 1 and 2 are both of clip 'a_2'"),
    ("transcripts.csv", '"9",', "", "3 columns; expected 4: clip, words, a number, label"),
    ("transcripts.csv", '"9","1"', '"9","2"', "line 1: label 2; accepted: 0 = negative, 1 = positive"),
    ("text_train.csv", '"0"', '"7"', "line 1: clip 7; transcripts.csv has the clips 0 to 6"),
    ("text_train.csv", '"1"', '"0"', "line 2: clip 0 (a_1) is in"),
    ("text_train.csv", '"0","0.5"\n', "", "1 of 7 clips are in no part, the first is a_1"),
    ("audio_test0.csv", '.5","', '.5","0","', "feature columns, and modality 'audio' with its label says 4"),
    ("audio_test0.csv", '"20.5"', '"x"', "line 1, column 1 (audio 1) holds 'x', which is not a finite number"),
    ("audio_test0.csv", ',"1"', ',"0"', "line 1: label 0, and transcripts.csv says 1 of b_x_1"),
]
TEXT_FAULTS = [
    ("train.tsv", "text\t", "words\t", "expected the columns text and label, with a tab between"),
    ("train.tsv", "BAD\t", "BAD ", "line 3: sentiment ''; expected a number from -3 to 3"),
    ("train.tsv", "-2.0", "-4", "line 3: sentiment '-4'; expected a number from -3 to 3"),
    ("train.tsv", "-2.0", "nan", "line 3: sentiment 'nan'; expected a number from -3 to 3"),
    ("train.tsv", "BAD", "SAD", "clip a_2: no line for 'BAD', or fewer lines than clips have that sentence"),
    ("train.tsv", "BAD\t-2.0", "BAD\t-2.0\r\nMORE\t1", "no clip has this sentence (1 such lines)"),
    ("train.tsv", "BAD\t-2.0", "BAD\t2.0", "transcripts.csv says its sentiment is below 0, and"),
    ("test.tsv", "AGAIN\t-0.5", "AGAIN\t0.5", "have its sentence, and differ in split or class"),
    ("test.tsv", "AGAIN\t-0.5", "AGAIN again\t-0.5", "clip b_x_3: no line for 'AGAIN', or fewer lines"),
]


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [("mosi", *fault) for fault in FAULTS] + [("mosi_transcripts", *fault) for fault in FAULTS[:3] + TEXT_FAULTS],
)
def test_other_files_are_refused(
    name: str, file: str, old: str, new: str, message: str, root: Path, write: Any
) -> None:
    changed = files()
    assert old in changed[file]
    every_line = old in ('"9",', '.5","')
    changed[file] = changed[file].replace(old, new, -1 if every_line else 1)
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
    shared = {text: [line.sentiment for line in found] for text, found in lines.items() if len(found) > 1}
    assert shared == {"SO IT WAS JUST A LITTLE AWKWARD": [-1.0, -0.6], "I HATED IT": [-2.6, -3.0]}
    assert sum(line.sentiment == 0 for found in lines.values() for line in found) == 96

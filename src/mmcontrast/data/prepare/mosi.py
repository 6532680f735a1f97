"""MOSI in the layout of Poria et al., "Context-dependent sentiment analysis", ACL 2017 (bc-LSTM), as two sets.

`transcripts.csv` has a clip a line: `<video>_<clip>`, its words, a number of no use here, and whether its sentiment is
at least 0. `text_train.csv` and `text_test.csv` name a clip by its line, counted from 0, in a first column; that is all
that is read of them. `<modality>_{train,test}0.csv` have the vectors of the same clips in the same order, and the label
in a last column.

`mosi`: the utterance vectors, text 100, audio 73, video 100, with the split and the labels of these files.

`mosi_transcripts`, without label leak: the transcripts and the audio vectors, in the standard split. `train.tsv`,
`dev.tsv` and `test.tsv` of Cross-Modal BERT have a sentence and its sentiment, -3 to 3, a line, and no name of the
clip. They are joined by the sentence. A sentence that several clips share is joined only if all its lines are in one
split and of one class.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.prepare.readers import check_text, class_indices, column, expect, numbers, read_sheet
from mmcontrast.errors import DataError

PARTS = ("train", "test")
CLASSES = ("negative", "positive")
FILES = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv"}
STRONGEST = 3.0


class Clip(NamedTuple):
    """A spoken sentence; `at_least_zero` is 1 where its sentiment is 0 or more."""

    name: str
    text: str
    at_least_zero: int


class Line(NamedTuple):
    """One line of a tsv: `where` is its file and number, `sentiment` is between -3 and 3."""

    split: str
    sentiment: float
    where: str

    @property
    def positive(self) -> int:
        """CoMM's rule: above 0. A clip of 0 is not."""
        return int(self.sentiment > 0)


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All clips in the order of transcripts.csv; their groups are the videos, in each of which one person speaks."""
    clips = _clips(raw_dir / "transcripts.csv")
    order = _order(raw_dir, clips)
    vectors = [m for m, spec in dataset.modalities.items() if spec.kind == "vector"]
    names = {m: [f"{m} {j + 1}" for j in range(dataset.modalities[m].shape[0])] for m in vectors}
    values = {m: _vectors(raw_dir, m, of, clips, order) for m, of in names.items()}
    if whole := len(vectors) == len(dataset.modalities):
        part_of = {row: part for part, rows in order.items() for row in rows}
        labels = [(clip.at_least_zero, part_of[i]) for i, clip in enumerate(clips)]
    else:
        labels = [(line.positive, line.split) for line in _joined(clips, read_lines(raw_dir))]
    instances = (
        Instance(
            clip.name,
            {m: values[m][i] if m in values else clip.text for m in dataset.modalities},
            label,
            split,
            group=_video(clip.name),
        )
        for i, (clip, (label, split)) in enumerate(zip(clips, labels, strict=True))
    )
    return Stream(instances, names, in_memory=whole)


def _video(clip: str) -> str:
    return clip.rpartition("_")[0]


def _clips(path: Path) -> list[Clip]:
    sheet = read_sheet(path, header=False)
    if sheet.cells.width != 4:
        raise DataError(f"{path}: {sheet.cells.width} columns; expected 4: clip, words, a number, label")
    names, texts = column(sheet, "column 1"), column(sheet, "column 2")
    labels = class_indices(sheet, numbers(sheet, ["label"], first=3)[:, 0], CLASSES)
    first: dict[str, int] = {}
    for line, name in enumerate(names, start=sheet.first_line):
        if not _video(name):
            raise DataError(f"{path}: line {line}: '{name}' does not name a clip; expected <video>_<clip>")
        if name in first:
            raise DataError(f"{path}: lines {first[name]} and {line} are both of clip '{name}'")
        first[name] = line
    return [Clip(*clip) for clip in zip(names, texts, labels.tolist(), strict=True)]


def _order(raw_dir: Path, clips: list[Clip]) -> dict[str, list[int]]:
    """train | test -> index of the clip of every row of that part's files of vectors."""
    order: dict[str, list[int]] = {}
    where: dict[int, str] = {}
    for part in PARTS:
        sheet = read_sheet(raw_dir / f"text_{part}.csv", header=False)
        order[part] = []
        for i, value in enumerate(numbers(sheet, ["clip"])[:, 0].tolist()):
            here = sheet.at(i)
            if value not in range(len(clips)):
                raise DataError(f"{here}: clip {value:g}; transcripts.csv has the clips 0 to {len(clips) - 1}")
            clip = int(value)
            if clip in where:
                raise DataError(f"{here}: clip {clip} ({clips[clip].name}) is in {where[clip]} already")
            where[clip] = here
            order[part].append(clip)
    if absent := [clip.name for i, clip in enumerate(clips) if i not in where]:
        raise DataError(f"{raw_dir}: {len(absent)} of {len(clips)} clips are in no part, the first is {absent[0]}")
    return order


def _vectors(raw_dir: Path, m: str, names: list[str], clips: list[Clip], order: dict[str, list[int]]) -> np.ndarray:
    """(clips, len(names)) float64 of a modality, in the order of `clips`, whose labels the files must repeat."""
    out, width = np.empty((len(clips), len(names))), len(names)
    for part, rows in order.items():
        sheet = read_sheet(raw_dir / f"{m}_{part}0.csv", header=False)
        expect(sheet, len(rows), f"text_{part}.csv", width + 1, f"modality '{m}' with its label")
        labels = class_indices(sheet, numbers(sheet, ["label"], first=width)[:, 0], CLASSES)
        for i, (label, row) in enumerate(zip(labels.tolist(), rows, strict=True)):
            if label != clips[row].at_least_zero:
                said = f"transcripts.csv says {clips[row].at_least_zero} of {clips[row].name}"
                raise DataError(f"{sheet.at(i)}: label {label}, and {said}")
        out[rows] = numbers(sheet, names)
    return out


def read_lines(raw_dir: Path) -> dict[str, list[Line]]:
    """Sentence, with single blanks, -> the lines that have it.

    Raises DataError: a file is missing, or a line is not a sentence, a tab and a number from -3 to 3.
    """
    found: dict[str, list[Line]] = defaultdict(list)
    for split, file in FILES.items():
        path = raw_dir / file
        try:
            check_text(path)
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; run `mmcontrast data fetch` again") from None
        except UnicodeDecodeError as e:
            raise DataError(f"{path}: not UTF-8 ({e})") from None
        if lines[:1] != ["text\tlabel"]:
            raise DataError(f"{path}: line 1: {lines[:1]}; expected the columns text and label, with a tab between")
        for number, line in enumerate(lines[1:], start=2):
            where = f"{path}: line {number}"
            text, _, label = line.partition("\t")
            try:
                sentiment = float(label)
            except ValueError:
                sentiment = float("nan")
            if not abs(sentiment) <= STRONGEST:
                accepted = f"expected a number from {-STRONGEST:g} to {STRONGEST:g}"
                raise DataError(f"{where}: sentiment '{label}'; {accepted}")
            found[_plain(text)].append(Line(split, sentiment, where))
    return found


def _plain(text: str) -> str:
    return " ".join(text.split())


def _joined(clips: list[Clip], lines: dict[str, list[Line]]) -> list[Line]:
    """The line of each clip; of a sentence that several clips share, they are taken in their order."""
    waiting = {text: list(found) for text, found in lines.items()}
    out = []
    for clip in clips:
        text = _plain(clip.text)
        found = lines.get(text, [])
        if not waiting.get(text):
            raise DataError(f"clip {clip.name}: no line for '{text}', or fewer lines than clips have that sentence")
        if len({(line.split, line.positive) for line in found}) > 1:
            where = " and ".join(line.where for line in found)
            raise DataError(f"clip {clip.name}: {where} have its sentence, and differ in split or class")
        line = waiting[text].pop(0)
        if (line.sentiment >= 0) != bool(clip.at_least_zero):
            said = f"its sentiment is {'at least' if clip.at_least_zero else 'below'} 0"
            raise DataError(f"clip {clip.name}: transcripts.csv says {said}, and {line.where} says {line.sentiment:g}")
        out.append(line)
    if left := [line.where for found in waiting.values() for line in found]:
        raise DataError(f"{left[0]}: no clip has this sentence ({len(left)} such lines)")
    return out

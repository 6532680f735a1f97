"""The files of MOSI in the layout of Poria et al., "Context-dependent sentiment analysis", ACL 2017 (bc-LSTM).

`transcripts.csv` has a clip a line: `<video>_<clip>`, its words, a number of no use here, and whether its sentiment is
at least 0. `text_train.csv` and `text_test.csv` name a clip by its line, counted from 0, in a first column; that is all
that is read of them. `<modality>_{train,test}0.csv` have the vectors of the same clips in the same order, and the label
in a last column.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcontrast.data.prepare.readers import class_indices, column, expect, numbers, read_sheet
from mmcontrast.errors import DataError

PARTS = ("train", "test")
CLASSES = ("negative", "positive")


@dataclass(frozen=True)
class Clip:
    """A spoken sentence; `at_least_zero` is 1 where its sentiment is 0 or more."""

    name: str
    text: str
    at_least_zero: int

    @property
    def video(self) -> str:
        """The video it is cut from, in which one person speaks."""
        return self.name.rpartition("_")[0]


def read_clips(path: Path) -> list[Clip]:
    """Every clip, in the order of the file.

    Raises:
        DataError: another layout, a clip without video or twice, or a label that is not 0 or 1.
    """
    sheet = read_sheet(path, header=False)
    if sheet.cells.width != 4:
        raise DataError(f"{path}: {sheet.cells.width} columns; expected 4: clip, words, a number, label")
    names, texts = column(sheet, "column 1"), column(sheet, "column 2")
    labels = class_indices(sheet, numbers(sheet, ["label"], first=3)[:, 0], CLASSES)
    first: dict[str, int] = {}
    for line, name in enumerate(names, start=sheet.first_line):
        if not name.rpartition("_")[0]:
            raise DataError(f"{path}: line {line}: '{name}' does not name a clip; expected <video>_<clip>")
        if name in first:
            raise DataError(f"{path}: lines {first[name]} and {line} are both of clip '{name}'")
        first[name] = line
    return [Clip(*clip) for clip in zip(names, texts, labels.tolist(), strict=True)]


def read_order(raw_dir: Path, clips: list[Clip]) -> dict[str, list[int]]:
    """train | test -> index of the clip of every row of that part's files of vectors.

    Raises:
        DataError: a line that there is not, or a clip that is in no part or in two places.
    """
    order: dict[str, list[int]] = {}
    where: dict[int, str] = {}
    for part in PARTS:
        sheet = read_sheet(raw_dir / f"text_{part}.csv", header=False)
        order[part] = []
        for i, value in enumerate(numbers(sheet, ["clip"])[:, 0].tolist()):
            here = f"{sheet.path}: line {sheet.first_line + i}"
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


def read_vectors(
    raw_dir: Path, modality: str, width: int, clips: list[Clip], order: dict[str, list[int]]
) -> np.ndarray:
    """(N, width) float64 of every clip, in the order of `clips`.

    Args:
        modality: text | audio | video.

    Raises:
        DataError: another number of rows or columns, or a label that is not the clip's.
    """
    out = np.empty((len(clips), width))
    for part, rows in order.items():
        sheet = read_sheet(raw_dir / f"{modality}_{part}0.csv", header=False)
        expect(sheet, len(rows), f"text_{part}.csv", width + 1, f"modality '{modality}' with its label")
        labels = class_indices(sheet, numbers(sheet, ["label"], first=width)[:, 0], CLASSES)
        for i, (label, row) in enumerate(zip(labels.tolist(), rows, strict=True)):
            if label != clips[row].at_least_zero:
                raise DataError(
                    f"{sheet.path}: line {sheet.first_line + i}: label {label}, and transcripts.csv says "
                    f"{clips[row].at_least_zero} of {clips[row].name}"
                )
        out[rows] = numbers(sheet, [f"{modality} {j + 1}" for j in range(width)])
    return out

"""MOSI without label leak: the transcripts and audio vectors, in the standard split.

Audio and transcripts are in bc-LSTM's layout (see `mosi_files`); `train.tsv`, `dev.tsv` and `test.tsv` of Cross-Modal
BERT have a sentence and its sentiment, -3 to 3, a line, and no name of the clip. They are joined by the sentence. A
sentence that several clips share is joined only if all its lines are in one split and of one class.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Instance
from mmcontrast.data.prepare.mosi_files import Clip, read_clips, read_order, read_vectors
from mmcontrast.data.prepare.readers import check_text
from mmcontrast.data.streaming import Stream
from mmcontrast.errors import DataError

FILES = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv"}
STRONGEST = 3.0


@dataclass(frozen=True)
class Line:
    """One line of a tsv: `where` is its file and number, `sentiment` is between -3 and 3."""

    split: str
    sentiment: float
    where: str

    @property
    def positive(self) -> int:
        """CoMM's rule: above 0. A clip of 0 is not."""
        return int(self.sentiment > 0)


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All clips in the order of transcripts.csv.

    Raises:
        DataError: a file is not of its layout, or a sentence cannot be joined.
    """
    clips = read_clips(raw_dir / "transcripts.csv")
    joined = join(clips, read_lines(raw_dir))
    width = dataset.modalities["audio"].shape[0]
    audio_Nd = read_vectors(raw_dir, "audio", width, clips, read_order(raw_dir, clips))
    instances = (
        Instance(clip.name, {"text": clip.text, "audio": voice_d}, line.positive, line.split, group=clip.video)
        for clip, line, voice_d in zip(clips, joined, audio_Nd, strict=True)
    )
    return Stream(instances, {"audio": [f"audio {j + 1}" for j in range(width)]})


def read_lines(raw_dir: Path) -> dict[str, list[Line]]:
    """Sentence, with single blanks, -> the lines that have it.

    Raises:
        DataError: a file is missing, or a line is not a sentence, a tab and a number from -3 to 3.
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
            text, tab, label = line.partition("\t")
            found[_plain(text)].append(Line(split, _sentiment(label if tab else "", where), where))
    return found


def _sentiment(label: str, where: str) -> float:
    try:
        value = float(label)
    except ValueError:
        value = float("nan")
    if not abs(value) <= STRONGEST:
        raise DataError(f"{where}: sentiment '{label}'; expected a number from {-STRONGEST:g} to {STRONGEST:g}")
    return value


def _plain(text: str) -> str:
    return " ".join(text.split())


def join(clips: list[Clip], lines: dict[str, list[Line]]) -> list[Line]:
    """The line of each clip; of a sentence that several clips share, they are taken in their order.

    Raises:
        DataError: not as many lines as clips have a sentence, its lines differ in split or class, or the label of a
            clip is not that of its line.
    """
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
            says = "at least" if clip.at_least_zero else "below"
            raise DataError(
                f"clip {clip.name}: transcripts.csv says its sentiment is {says} 0, and {line.where} says "
                f"{line.sentiment:g}"
            )
        out.append(line)
    if left := [line.where for found in waiting.values() for line in found]:
        raise DataError(f"{left[0]}: no clip has this sentence ({len(left)} such lines)")
    return out

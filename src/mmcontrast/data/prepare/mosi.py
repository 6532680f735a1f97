"""MOSI in the layout of Poria et al., "Context-dependent sentiment analysis", ACL 2017 (bc-LSTM), as two sets.

`transcripts.csv` has a clip a line: `<video>_<clip>`, its words, a number of no use here, and whether its sentiment is
at least 0. `text_train.csv` and `text_test.csv` name a clip by its line, counted from 0, in a first column; that is all
that is read of them. `<modality>_{train,test}0.csv` have the vectors of the same clips in the same order, and the label
in a last column.

`mosi`: the utterance vectors, text 100, audio 73, video 100, with the split and the labels of these files.

`mosi_transcripts`, without label leak: the transcripts and the audio vectors, in the standard split. `train.tsv`,
`dev.tsv` and `test.tsv` of Cross-Modal BERT have a sentence and its sentiment, -3 to 3, a line, and no name of the
clip. They are joined by the sentence. Where several clips share a sentence, all its
lines are in one split and of one class.

All files are pinned, so tests and not this reader hold what they say of each other against each other.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.prepare.readers import column, expect, numbers, read_sheet

FILES = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv"}


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All clips in the order of transcripts.csv; their groups are the videos, in each of which one person speaks."""
    sheet = read_sheet(raw_dir / "transcripts.csv", header=False)
    clips, texts = column(sheet, "column 1"), column(sheet, "column 2")
    lists = {part: read_sheet(raw_dir / f"text_{part}.csv", header=False) for part in ("train", "test")}
    # index of the clip of every row of a part's files of vectors
    order = {part: numbers(listed, ["clip"])[:, 0].astype(int).tolist() for part, listed in lists.items()}
    vectors = [m for m, spec in dataset.modalities.items() if spec.kind == "vector"]
    names = {m: [f"{m} {j + 1}" for j in range(dataset.modalities[m].shape[0])] for m in vectors}
    values = {m: _vectors(raw_dir, m, of, order) for m, of in names.items()}
    if whole := len(vectors) == len(dataset.modalities):
        part_of = {row: part for part, rows in order.items() for row in rows}
        at_least_zero = numbers(sheet, ["label"], first=3)[:, 0].tolist()
        labels = [(int(label), part_of[i]) for i, label in enumerate(at_least_zero)]
    else:
        lines = read_lines(raw_dir)
        # of a sentence that several clips share, its lines in their order; CoMM's rule: a clip of 0 is not positive
        joined = [lines[_plain(text)].pop(0) for text in texts]
        labels = [(int(sentiment > 0), split) for split, sentiment in joined]
    instances = (
        Instance(
            clip,
            {m: values[m][i] if m in values else text for m in dataset.modalities},
            label,
            split,
            group=clip.rpartition("_")[0],
        )
        for i, (clip, text, (label, split)) in enumerate(zip(clips, texts, labels, strict=True))
    )
    return Stream(instances, names, in_memory=whole)


def _vectors(raw_dir: Path, modality: str, names: list[str], order: dict[str, list[int]]) -> np.ndarray:
    """(clips, len(names)) float64 in the order of transcripts.csv."""
    out = np.empty((sum(map(len, order.values())), len(names)))
    for part, rows in order.items():
        sheet = read_sheet(raw_dir / f"{modality}_{part}0.csv", header=False)
        expect(sheet, len(rows), f"text_{part}.csv", len(names) + 1, f"modality '{modality}' with its label")
        out[rows] = numbers(sheet, names)
    return out


def read_lines(raw_dir: Path) -> dict[str, list[tuple[str, float]]]:
    """Sentence, with single blanks, -> split and sentiment, from -3 to 3, of every line that has it."""
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for split, file in FILES.items():
        for line in (raw_dir / file).read_text(encoding="utf-8").splitlines()[1:]:
            text, _, sentiment = line.partition("\t")
            found[_plain(text)].append((split, float(sentiment)))
    return found


def _plain(text: str) -> str:
    return " ".join(text.split())

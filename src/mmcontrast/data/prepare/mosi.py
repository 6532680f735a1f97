"""MOSI as utterance vectors of bc-LSTM: text 100, audio 73, video 100; see `mosi_files` for the layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Instances
from mmcontrast.data.prepare.mosi_files import read_clips, read_order, read_vectors


def read(name: str, dataset: Dataset, raw_dir: Path) -> Instances:
    """All clips in the order of transcripts.csv, with the published split.

    Raises:
        DataError: a file is not of that layout, or not what the dataset's file in params/ says.
    """
    clips = read_clips(raw_dir / "transcripts.csv")
    order = read_order(raw_dir, clips)
    inputs = {
        modality: read_vectors(raw_dir, modality, spec.shape[0], clips, order)
        for modality, spec in dataset.modalities.items()
    }
    names = {modality: [f"{modality} {j + 1}" for j in range(x.shape[1])] for modality, x in inputs.items()}
    part_of = {row: part for part, rows in order.items() for row in rows}
    return Instances(
        ids=[clip.name for clip in clips],
        labels=np.array([clip.at_least_zero for clip in clips], np.int64),
        inputs=inputs,
        feature_names=names,
        splits=[part_of[i] for i in range(len(clips))],
        groups=[clip.video for clip in clips],
    )

"""Tiny pickles in the layouts of MultiBench, MMSA and MIMIC-III, with what is odd about them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

KEYS = ("train", "valid", "test")
STEPS = 50
WIDTHS = {"vision": 4, "audio": 3, "text": 5}
LABELS = [1.5, -2.0, 0.0, 0.4]


def affect(rows: tuple[int, int, int] = (4, 3, 3)) -> dict[str, Any]:
    """Split -> fields. Row i has 10 + i steps, behind padding; the labels are LABELS in turn.

    Row 1 of train has no text at all, row 0 of test -inf in its audio, ids are three columns of bytes.
    """
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {}
    for key, n in zip(KEYS, rows, strict=True):
        fields: dict[str, Any] = {}
        for m, width in WIDTHS.items():
            fields[m] = rng.normal(size=(n, STEPS, width)).astype(np.float32)
            for i in range(n):
                fields[m][i, : STEPS - 10 - i] = 0
        fields["labels"] = np.resize(np.array(LABELS, np.float32), (n, 1, 1))
        fields["id"] = np.array([[f"video{i // 2}", f"{i}.0", f"{i + 1}.0"] for i in range(n)], "S8")
        content[key] = fields
    content["train"]["text"][1] = 0
    content["test"]["audio"][0, STEPS - 3, 1] = -np.inf
    return content


def mmsa() -> dict[str, Any]:
    """The same rows padded behind, with lengths of their own."""
    content = affect()
    for fields in content.values():
        n = len(fields["labels"])
        for m in WIDTHS:
            fields[m] = fields[m][:, ::-1].copy()
        mask = np.arange(STEPS) < 10 + np.arange(n)[:, None]
        fields["text_bert"] = np.stack([mask * 7, mask, mask * 0], axis=1).astype(np.float32)
        fields["audio_lengths"] = [5 + i for i in range(n)]
        fields["regression_labels"] = fields.pop("labels").ravel()
        fields["raw_text"] = [f"sentence {i}" for i in range(n)]
        fields["id"] = [f"video$_${i}" for i in range(n)]
    return content


def mimic(rows: int = 20) -> dict[str, Any]:
    """Row i of the table is i in its first column; one value each is NaN and infinite."""
    rng = np.random.default_rng(0)
    content = {
        "ep_tdata": rng.normal(size=(rows, 24, 12)),
        "adm_features_all": rng.normal(size=(rows, 5)),
        "adm_labels_all": np.zeros((rows, 6), np.int64),
        "y_icd9": np.zeros((rows, 20), np.int64),
    }
    content["adm_features_all"][:, 0] = np.arange(rows)
    content["adm_features_all"][3, 1] = np.nan
    content["ep_tdata"][4, 5, 6] = np.inf
    content["adm_labels_all"][2, [3, 5]] = 1
    content["y_icd9"][1::2, 7] = 1
    return content


def write(path: Path, content: Any, protocol: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))

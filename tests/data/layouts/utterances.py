"""Tiny files in the layouts of MUStARD, UR-FUNNY V2 and MELD as they were given out, with what is odd about them."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SHOWS = ("BBT", "FRIENDS", "GOLDENGIRLS")
VOICE, FRAMES, PICTURE = 6, 12, 5  # features of the voice, its frames, features of the picture
FUNNY = {"vision": 4, "audio": 3}
WORDS, GLOVE = 7, 5
EMOTIONS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
SENTIMENTS = ("neutral", "positive", "negative")
AVERAGE = {"text": 4, "audio": 3}
COLUMNS = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
)


def mustard(raw: Path, shows: list[str] | None = None) -> None:
    """Row i is called 1_<i> and is of SHOWS in turn; every other one is sarcastic.

    The voice lies with its frames second, the picture with them first, and a number of a feature is row + frame / 10.
    The test rows of fold k are those of which 5 divides i - k.
    """
    raw.mkdir(parents=True, exist_ok=True)
    shows = [SHOWS[i % 3] for i in range(10)] if shows is None else shows
    ids = [f"1_{i}" for i in range(len(shows))]
    records = {
        key: {
            **{"utterance": f"Sentence {i}.", "speaker": "SHELDON", "context": ["Before.", "And then."]},
            **{"context_speakers": ["PENNY", "LEONARD"], "show": show, "sarcasm": i % 2 == 0},
        }
        for i, (key, show) in enumerate(zip(ids, shows, strict=True))
    }
    (raw / "sarcasm_data.json").write_text(json.dumps(records, indent=4), encoding="utf-8")
    voice = {key: np.tile(i + np.arange(FRAMES + i) / 10, (VOICE, 1)) for i, key in enumerate(ids)}
    write(raw / "audio_features.p", voice)
    rows = np.arange(len(ids))
    folds = [(rows[rows % 5 != k], rows[rows % 5 == k]) for k in range(5)]
    write(raw / "split_indices.p", folds, protocol=2)
    with h5py.File(raw / "resnet_pool5.hdf5", "w") as file:
        for i, key in enumerate(ids):
            file[key] = np.tile((i + np.arange(3 + i) / 10)[:, None], (1, PICTURE)).astype(np.float32)


def ur_funny(raw: Path, rows: tuple[int, int, int] = (4, 2, 2)) -> None:
    """Segment k has 3 + k % 4 words, the numbers k, k + 1, ... in turn of a list of WORDS; every other one is funny.

    Features are lists of lists, by word, with contexts that nobody asks for. The voice of segment 1 holds -inf, the
    sentence of segment 2 is a list of words, and the ids are numbers.
    """
    raw.mkdir(parents=True, exist_ok=True)
    ids = list(range(100, 100 + sum(rows)))
    first, second = rows[0], rows[0] + rows[1]
    folds = {"train": ids[:first], "dev": ids[first:second], "test": ids[second:]}
    language: dict[int, Any] = {}
    features: dict[str, dict[int, Any]] = {m: {} for m in FUNNY}
    for k, key in enumerate(ids):
        words = [(k + j) % WORDS for j in range(3 + k % 4)]
        sentence = f"punchline {k}"
        language[key] = {
            **{"punchline_embedding_indexes": words, "context_embedding_indexes": [[0, 1], [2]]},
            **{"punchline_sentence": sentence.split() if k == 2 else sentence, "context_sentences": ["a b", "c"]},
            **{"punchline_intervals": [[0.0, 0.5] for _ in words], "context_intervals": [[[0, 1]], [[1, 2]]]},
        }
        for m, width in FUNNY.items():
            punchline = [[k + j / 10] * width for j in range(len(words))]
            features[m][key] = {"punchline_features": punchline, "context_features": [[[0.0] * width] * 2]}
    features["audio"][ids[1]]["punchline_features"][2][0] = -np.inf
    files = {
        **{"data_folds": folds, "language_sdk": language, "openface_features_sdk": features["vision"]},
        **{"covarep_features_sdk": features["audio"], "humor_label_sdk": {key: k % 2 for k, key in enumerate(ids)}},
        "word_embedding_list": [[w + d / 10 for d in range(GLOVE)] for w in range(WORDS)],
    }
    for name, content in files.items():
        write(raw / f"{name}.pkl", content)


def meld(raw: Path, rows: tuple[int, int, int] = (7, 3, 3)) -> None:
    """Utterance i of a file is <i // 2>_<i % 2>, of EMOTIONS and SENTIMENTS in turn; numbers start again in each file.

    An apostrophe of the first text of train is the letter U+0092, a text has a comma, and the last utterance of train
    has no voice. A feature of row i is i + 1000 times the number of the split.
    """
    raw.mkdir(parents=True, exist_ok=True)
    features: dict[str, list[dict[str, np.ndarray]]] = {m: [] for m in AVERAGE}
    for s, (name, n) in enumerate(zip(("train", "dev", "test"), rows, strict=True)):
        keys = [(i // 2, i % 2) for i in range(n)]
        with (raw / f"{name}_sent_emo.csv").open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(COLUMNS)
            for i, key in enumerate(keys):
                text = "It\x92s fine" if (name, i) == ("train", 0) else f"Well, {name} {i}"
                of = (EMOTIONS[i % 7], SENTIMENTS[i % 3])
                lines.writerow([i + 1, text, "Joey", *of, *key, 4, 7, "00:20:57,256", "00:21:00,049"])
        for m, width in AVERAGE.items():
            features[m].append({f"{d}_{u}": np.full(width, i + 1000.0 * s) for i, (d, u) in enumerate(keys)})
    features["audio"][0].popitem()
    write(raw / "text_glove_average_emotion.pkl", features["text"], protocol=2)
    write(raw / "audio_embeddings_feature_selection_emotion.pkl", features["audio"], protocol=2)


def write(path: Path, content: Any, protocol: int = 4) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))

"""MUStARD, UR-FUNNY V2 and MELD as they were given out, from tiny files in the same layouts."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mmcontrast.config import Dataset, Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.instances import Instance
from mmcontrast.data.loading import load_split
from mmcontrast.data.manifest import status
from mmcontrast.data.prepare import prepare
from mmcontrast.data.prepare.utterances import stream
from mmcontrast.data.unpickle import read_pickle
from mmcontrast.errors import ConfigError, DataError
from tests.data.layouts import utterances as layout

NAMES = ("mustard", "ur_funny_v2", "meld")
WRITE: dict[str, Callable[[Path], None]] = {
    "mustard": layout.mustard,
    "ur_funny_v2": layout.ur_funny,
    "meld": layout.meld,
}
SPLITS = {"mustard": (7, 0, 3), "ur_funny_v2": (4, 2, 2), "meld": (7, 3, 3)}
WIDTHS = {
    "mustard": {"audio": [32, layout.VOICE], "video": [layout.PICTURE]},
    "ur_funny_v2": {"text": [20, layout.GLOVE], **{m: [20, d] for m, d in layout.FUNNY.items()}},
    "meld": {m: [d] for m, d in layout.AVERAGE.items()},
}


@pytest.fixture(scope="module")
def grid(root: Path) -> Grid:
    return Grid(root)


def small(grid: Grid, name: str, **over: Any) -> Dataset:
    """The dataset as params/ has it, with the sizes of tiny files, all of them there."""
    raw = grid.datasets[name].model_dump(mode="json")
    train, val, test = SPLITS[name]
    for m, shape in WIDTHS[name].items():
        raw["modalities"][m]["shape"] = shape
    files = [s["path"] if s["kind"] == "local" else s["url"].rpartition("/")[2] for s in raw["sources"]]
    sizes = {"rows": train + val + test, "split": {"kind": "published", "train": train, "val": val, "test": test}}
    local = {"sources": [{"kind": "local", "path": path} for path in files]}
    return Dataset.model_validate(raw | sizes | local | {"scaling": "none"} | over)


def read(grid: Grid, name: str, raw: Path, **over: Any) -> dict[str, Instance]:
    """Instances by id, in the reader's order."""
    return {one.id: one for one in stream(name, small(grid, name, **over), raw).instances}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_prepared_has_the_rows_splits_and_labels_of_the_files(grid: Grid, tmp_path: Path, name: str) -> None:
    raw, dataset = tmp_path / name, small(grid, name)
    WRITE[name](raw)
    fetch(name, dataset, raw)
    prepare(name, dataset, raw, tmp_path / "out")
    tables = {s: load_split(tmp_path / "out" / f"{s}.parquet") for s in ("train", "val", "test")}
    assert tuple(len(t.ids) for t in tables.values()) == SPLITS[name]
    expected = {
        "mustard": [1, 1, 0, 0, 1, 1, 0],  # of rows 0, 2, 3, 5, 6, 8 and 9
        "ur_funny_v2": [0, 1, 0, 1],
        "meld": list(range(7)),
    }
    assert tables["train"].labels.tolist() == expected[name]


def test_mustard_turns_the_voice_and_takes_the_mean_of_the_picture(grid: Grid, tmp_path: Path) -> None:
    layout.mustard(tmp_path)
    found = read(grid, "mustard", tmp_path)
    assert [one.split for one in found.values()] == ["test" if i % 3 == 1 else "train" for i in range(10)]
    one = found["1_4"]
    assert (one.values["text"], one.label, one.split) == ("Sentence 4.", 1, "test")
    frames = np.arange(layout.FRAMES + 4) / 10
    np.testing.assert_allclose(one.values["audio"], np.tile(4 + frames[:, None], (1, layout.VOICE)))
    np.testing.assert_allclose(one.values["video"], np.full(layout.PICTURE, 4 + np.arange(7).mean() / 10), rtol=1e-6)


@pytest.mark.parametrize("fold", range(5))
def test_a_fold_of_mustard_is_that_of_its_file(grid: Grid, tmp_path: Path, fold: int) -> None:
    layout.mustard(tmp_path)
    options = grid.datasets["mustard"].prepare | {"fold": fold}
    found = read(grid, "mustard", tmp_path, prepare=options)
    assert [one.split for one in found.values()] == ["test" if i % 5 == fold else "train" for i in range(10)]


def test_mustard_without_pictures_needs_no_hdf5(grid: Grid, tmp_path: Path) -> None:
    layout.mustard(tmp_path)
    (tmp_path / "resnet_pool5.hdf5").unlink()
    modalities = {m: s for m, s in small(grid, "mustard").model_dump(mode="json")["modalities"].items() if m != "video"}
    assert set(read(grid, "mustard", tmp_path, modalities=modalities)["1_0"].values) == {"text", "audio"}


def test_ur_funny_joins_words_face_and_voice_by_id(grid: Grid, tmp_path: Path) -> None:
    layout.ur_funny(tmp_path)
    dataset = small(grid, "ur_funny_v2")
    given = stream("ur_funny_v2", dataset, tmp_path)
    found = {one.id: one for one in given.instances}
    assert [one.split for one in found.values()] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    one = found["106"]
    assert one.label == 0
    np.testing.assert_allclose(one.values["text"][:, 0], [6, 0, 1, 2, 3])
    np.testing.assert_allclose(one.values["text"][0], 6 + np.arange(layout.GLOVE) / 10)
    np.testing.assert_allclose(one.values["vision"], np.tile(6 + np.arange(5)[:, None] / 10, (1, 4)))
    np.testing.assert_allclose(found["101"].values["audio"][2], [0, 1.2, 1.2])
    assert given.report == {"rows_with_minus_infinity_in_audio": {"train": 1}}


def test_sentences_of_ur_funny_may_be_the_text(grid: Grid, tmp_path: Path) -> None:
    layout.ur_funny(tmp_path)
    (tmp_path / "word_embedding_list.pkl").unlink()
    modalities = small(grid, "ur_funny_v2").model_dump(mode="json")["modalities"]
    found = read(grid, "ur_funny_v2", tmp_path, modalities=modalities | {"text": {"kind": "text", "shape": []}})
    assert [found[key].values["text"] for key in ("101", "102")] == ["punchline 1", "punchline 2"]


def test_meld_joins_features_by_dialogue_and_utterance(grid: Grid, tmp_path: Path) -> None:
    layout.meld(tmp_path)
    given = stream("meld", small(grid, "meld"), tmp_path)
    found = {one.id: one for one in given.instances}
    assert list(found)[:3] == ["train-0_0", "train-0_1", "train-1_0"]
    one = found["val-1_0"]
    assert (one.split, one.label, one.tasks, one.group) == ("val", 2, {"sentiment": 2}, "val-1")
    np.testing.assert_array_equal(one.values["text"], [1002.0] * 4)
    np.testing.assert_array_equal(found["train-3_0"].values["audio"], [0.0] * 3)
    assert given.report["without_audio"] == {"train": 1}


def test_meld_may_be_of_texts_and_its_letters_are_put_right(grid: Grid, tmp_path: Path) -> None:
    layout.meld(tmp_path)
    modalities = {"text": {"kind": "text", "shape": []}, "audio": {"kind": "vector", "shape": [3], "optional": True}}
    options = grid.datasets["meld"].prepare | {"zeros": False}
    over: dict[str, Any] = {"modalities": modalities, "prepare": options}
    given = stream("meld", small(grid, "meld", **over), tmp_path)
    found = {one.id: one for one in given.instances}
    assert found["train-0_0"].values["text"] == "It\N{RIGHT SINGLE QUOTATION MARK}s fine"
    assert found["test-0_1"].values["text"] == "Well, test 1"
    assert found["train-3_0"].values["audio"] is None
    assert given.report["texts_put_right"] == {"train": 1, "val": 0, "test": 0}


def test_meld_sentiment_may_be_the_label(grid: Grid, tmp_path: Path) -> None:
    layout.meld(tmp_path)
    over = {"label": "sentiment", "classes": list(layout.SENTIMENTS), "tasks": {}}
    assert [one.label for one in read(grid, "meld", tmp_path, **over).values()][:4] == [0, 1, 2, 0]


def again(path: Path, change: Callable[[Any], Any]) -> None:
    """A pickle with something changed; what `change` returns stands in its place unless that is None."""
    content = pickle.loads(path.read_bytes())
    changed = change(content)
    layout.write(path, content if changed is None else changed)


def in_json(raw: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = raw / "sarcasm_data.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def without_a_picture(raw: Path) -> None:
    with h5py.File(raw / "resnet_pool5.hdf5", "a") as file:
        del file["1_3"]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def in_csv(raw: Path, old: str, new: str) -> None:
    path = raw / "dev_sent_emo.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


AUDIO = "audio_embeddings_feature_selection_emotion.pkl"
FAULTS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "the first release, without the series": (
        "mustard",
        lambda raw: in_json(raw, lambda c: c["1_2"].pop("show")),
        r"sarcasm_data\.json: '1_2': expected an object with `show`, a str",
    ),
    "labels as numbers": (
        "mustard",
        lambda raw: in_json(raw, lambda c: c["1_0"].update(sarcasm=1)),
        r"'1_0': expected an object with `sarcasm`, a bool",
    ),
    "no voice": (
        "mustard",
        lambda raw: again(raw / "audio_features.p", lambda c: {k: x for k, x in c.items() if k != "1_7"}),
        r"audio_features\.p: no '1_7'; did you mean",
    ),
    "frames first": (
        "mustard",
        lambda raw: again(raw / "audio_features.p", lambda c: {k: x.T for k, x in c.items()}),
        r"'1_0': modality 'audio': shape \[6, 12\], expected \['any number of steps', 6\]",
    ),
    "no picture": ("mustard", without_a_picture, r"resnet_pool5\.hdf5: no array '1_3'; "),
    "hdf5 cut short": ("mustard", lambda raw: cut_short(raw / "resnet_pool5.hdf5"), r"hdf5: not readable as HDF5"),
    "a list": (
        "ur_funny_v2",
        lambda raw: again(raw / "language_sdk.pkl", lambda c: list(c.values())),
        r"language_sdk\.pkl: holds a list, expected a dict by id",
    ),
    "no sentence": (
        "ur_funny_v2",
        lambda raw: again(raw / "language_sdk.pkl", lambda c: c[100].pop("punchline_sentence") and None),
        r"language_sdk\.pkl: no 'punchline_sentence'; ",
    ),
    "valid": (
        "ur_funny_v2",
        lambda raw: again(raw / "data_folds.pkl", lambda c: c.update(valid=c.pop("dev"))),
        r"data_folds\.pkl: no 'dev'; ",
    ),
    "no ids": (
        "ur_funny_v2",
        lambda raw: again(raw / "data_folds.pkl", lambda c: c.update(test=[["107"]])),
        r"data_folds\.pkl: 'test': expected a list of ids",
    ),
    "narrow faces": (
        "ur_funny_v2",
        lambda raw: again(
            raw / "openface_features_sdk.pkl",
            lambda c: [of.update(punchline_features=[[1.0] * 3]) for of in c.values()] and None,
        ),
        r"modality 'vision': shape \[1, 3\], expected \['any number of steps', 4\]",
    ),
    "a word of another length": (
        "ur_funny_v2",
        lambda raw: again(raw / "covarep_features_sdk.pkl", lambda c: c[100]["punchline_features"][1].pop() and None),
        r"covarep_features_sdk\.pkl: '100': not numbers of one length by step",
    ),
    "a word beyond the list": (
        "ur_funny_v2",
        lambda raw: again(raw / "word_embedding_list.pkl", lambda c: c[:5]),
        r"language_sdk\.pkl: '102': a word is none of the 5 in .*word_embedding_list\.pkl",
    ),
    "no label": (
        "ur_funny_v2",
        lambda raw: again(raw / "humor_label_sdk.pkl", lambda c: c.pop(105) and None),
        r"humor_label_sdk\.pkl: no '105'; ",
    ),
    "another label": (
        "ur_funny_v2",
        lambda raw: again(raw / "humor_label_sdk.pkl", lambda c: c.update({101: 2})),
        r"instance '101': label 2; accepted are 0 to 1",
    ),
    "cut short": (
        "ur_funny_v2",
        lambda raw: cut_short(raw / "openface_features_sdk.pkl"),
        r"openface_features_sdk\.pkl: not a pickle of plain data",
    ),
    "a dict by split": (
        "meld",
        lambda raw: again(raw / AUDIO, lambda c: dict(zip(("train", "dev", "test"), c, strict=True))),
        r"selection_emotion\.pkl: expected a list of three dicts, of train, dev and test",
    ),
    "features of the sentiment": (
        "meld",
        lambda raw: again(raw / AUDIO, lambda c: [{k: x[:2] for k, x in of.items()} for of in c]),
        r"'train-0_0': modality 'audio': shape \[2\], expected \[3\]",
    ),
    "an emotion of another set": (
        "meld",
        lambda raw: in_csv(raw, "surprise", "peaceful"),
        r"instance 'val-0_1': label peaceful; accepted are 0 to 6 \(neutral, surprise",
    ),
    "no column": (
        "meld",
        lambda raw: in_csv(raw, "Utterance_ID", "Utt_ID"),
        r"dev_sent_emo\.csv: no column 'Utterance_ID'",
    ),
    "another encoding": (
        "meld",
        lambda raw: (raw / "test_sent_emo.csv").write_bytes(b"Utterance\nIt\x92s fine\n") and None,
        r"test_sent_emo\.csv: not readable as csv",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_near_misses_are_refused_by_name(grid: Grid, tmp_path: Path, what: str) -> None:
    name, change, message = FAULTS[what]
    raw, dataset = tmp_path / name, small(grid, name)
    WRITE[name](raw)
    change(raw)
    fetch(name, dataset, raw)
    with pytest.raises(DataError, match=message):
        prepare(name, dataset, raw, tmp_path / "out")


def test_folds_that_are_not_of_these_rows_are_refused(grid: Grid, tmp_path: Path) -> None:
    layout.mustard(tmp_path)
    again(tmp_path / "split_indices.p", lambda c: [(train[:-1], test) for train, test in c])
    options = grid.datasets["mustard"].prepare | {"fold": 2}
    with pytest.raises(DataError, match=r"split_indices\.p: fold 2: expected two arrays, which share the rows 0 to 9"):
        read(grid, "mustard", tmp_path, prepare=options)


def test_a_modality_without_a_file_is_refused(grid: Grid, tmp_path: Path) -> None:
    options = {"layout": "mustard", "features": {"voice": "audio_features.p", "video": "resnet_pool5.hdf5"}}
    with pytest.raises(
        ConfigError, match=r"mustard\.yaml: modalities: 'audio' has no file of features; known: video, voice"
    ):
        stream("mustard", small(grid, "mustard", prepare=options), tmp_path)


def test_lists_of_numbers_are_read_beyond_the_usual_limit(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The features of UR-FUNNY are lists, an instruction a number."""
    layout.ur_funny(tmp_path)
    monkeypatch.setattr("mmcontrast.data.unpickle.MAX_INSTRUCTIONS", 50)
    with pytest.raises(DataError, match="more than 50 instructions"):
        read_pickle(tmp_path / "openface_features_sdk.pkl")
    assert len(read(grid, "ur_funny_v2", tmp_path)) == 8


@pytest.mark.parametrize("name", NAMES)
def test_status_says_what_to_put_where(grid: Grid, name: str) -> None:
    step = next(s.next_step for s in status(grid) if s.name == name)
    first = {"mustard": "audio_features.p", "ur_funny_v2": "data_folds.pkl", "meld": "text_glove_average_emotion.pkl"}
    assert step.startswith(f"put {first[name]} into data/raw/{name}/: ")

"""MultiBench's, MMSA's and MIMIC-III's pickles, from tiny ones in the same layouts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcontrast.config import Dataset, Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.loading import load_split
from mmcontrast.data.manifest import status
from mmcontrast.data.prepare import prepare
from mmcontrast.data.table import read_split
from mmcontrast.errors import ConfigError, DataError
from tests.data.layouts import multibench as layout

AFFECT = [f"multibench_{name}" for name in ("mosi", "mosei", "ur_funny", "ur_funny_three", "mustard")]


@pytest.fixture(scope="module")
def grid(root: Path) -> Grid:
    return Grid(root)


def small(grid: Grid, name: str, split: tuple[int, int, int], **over: Any) -> Dataset:
    """The dataset as params/ has it, with the sizes of a tiny file."""
    raw = grid.datasets[name].model_dump(mode="json")
    train, val, test = split
    sizes = {"rows": sum(split), "split": {"kind": "published", "train": train, "val": val, "test": test}}
    return Dataset.model_validate(raw | sizes | over)


def affect(grid: Grid, name: str = "multibench_mosi", **over: Any) -> Dataset:
    modalities = {m: {"kind": "sequence", "shape": [50, d]} for m, d in layout.WIDTHS.items()}
    return small(grid, name, (3, 3, 3), **{"modalities": modalities, **over})


def prepared(name: str, dataset: Dataset, content: Any, folder: Path) -> dict[str, Any]:
    """The datasheet of what a pickle of `content` becomes in <folder>/out."""
    layout.write(folder / name / dataset.prepare["file"], content)
    fetch(name, dataset, folder / name)
    return prepare(name, dataset, folder / name, folder / "out")


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_split(folder / "out" / f"{split}.parquet")[0].to_pylist()
    return found


@pytest.mark.parametrize("name", AFFECT)
def test_sequences_start_where_the_text_does_and_rows_without_text_are_left_out(
    grid: Grid, tmp_path: Path, name: str
) -> None:
    content = layout.affect()
    dataset = affect(grid, name)
    sheet = prepared(name, dataset, content, tmp_path)
    assert sheet["report"] == {"left_out_without_text": {"train": 1}, "rows_with_minus_infinity_in_audio": {"test": 1}}
    train, test = rows(tmp_path, "train"), rows(tmp_path, "test")
    assert [r["id"] for r in train] == ["train-00000", "train-00002", "train-00003"]
    assert [r["label"] for r in train] == [1, 0, 1]  # of 1.5, 0.0 and 0.4
    for m in dataset.modalities:
        steps = [np.array(r[m], np.float32) for r in train]
        assert [len(x) for x in steps] == [10, 12, 13]
        np.testing.assert_array_equal(steps[1], content["train"][m][2, 38:])
    audio = np.array(test[0]["audio"], np.float32)
    assert audio[7, 1] == 0
    np.testing.assert_array_equal(audio[8], content["test"]["audio"][0, 48])


def test_the_sentiment_itself_is_a_task(grid: Grid, tmp_path: Path) -> None:
    prepared("multibench_mosi", affect(grid), layout.affect(), tmp_path)
    sentiment = load_split(tmp_path / "out" / "train.parquet").tasks["sentiment"]
    np.testing.assert_allclose(sentiment.ravel(), [1.5, 0.0, 0.4], rtol=1e-6)


def test_labels_of_one_axis_less_and_of_minus_one_are_read(grid: Grid, tmp_path: Path) -> None:
    content = layout.affect()
    for fields in content.values():
        fields["labels"] = np.sign(fields["labels"]).reshape(-1, 1)
    prepared("multibench_mustard", affect(grid, "multibench_mustard"), content, tmp_path)
    assert load_split(tmp_path / "out" / "val.parquet").labels.tolist() == [1, 0, 0]


def test_mmsa_pads_behind(grid: Grid, tmp_path: Path) -> None:
    dataset = affect(grid, prepare={"layout": "mmsa", "file": "unaligned_50.pkl"}, sources=local("unaligned_50.pkl"))
    content = layout.mmsa()
    content["train"] = {k: v[[0, 2, 3]] if isinstance(v, np.ndarray) else v[:3] for k, v in content["train"].items()}
    prepared("multibench_mosi", dataset, content, tmp_path)
    train = rows(tmp_path, "train")
    lengths = {m: [len(r[m]) for r in train] for m in layout.WIDTHS}
    assert lengths == {"vision": [10, 12, 13], "audio": [5, 6, 7], "text": [10, 12, 13]}
    np.testing.assert_array_equal(np.array(train[1]["text"], np.float32), content["train"]["text"][1, :12])


def local(path: str) -> list[dict[str, Any]]:
    return [{"kind": "local", "path": path}]


def faults() -> dict[str, tuple[Any, str]]:
    """What is wrong -> (what to do to the content, what is said)."""
    return {
        "another key": (lambda c: c.update(val=c.pop("valid")), r"mosi_raw\.pkl: no dict 'valid'; did you mean 'val'"),
        "no audio": (lambda c: c["test"].pop("audio"), r"no key 'test\.audio'; known: id, labels, text, vision"),
        "another width": (
            lambda c: c["train"].update(text=c["train"]["text"][..., :4]),
            r"train\.text: 4 features, and modalities in params/datasets/multibench_mosi\.yaml says 5",
        ),
        "axes in another order": (
            lambda c: c["valid"].update(vision=c["valid"]["vision"][:2]),
            r"valid\.vision: shape \(2, 50, 4\), expected \(3, \(50,\), features\)",
        ),
        "several labels": (
            lambda c: c["valid"].update(labels=np.zeros((3, 7))),
            r"valid\.labels: shape \(3, 7\), expected a number for each of 3 rows",
        ),
        "no label": (
            lambda c: c["valid"]["labels"].fill(np.nan),
            r"valid\.labels: row 0 holds nan; a label is a number",
        ),
        "infinite": (lambda c: c["valid"]["vision"].fill(np.inf), r"'val-00000'.*'vision'.*is infinite"),
        "texts": (
            lambda c: c["valid"].update(text=np.array(["a", "b", "c"])),
            r"valid\.text: <U1 of shape \(3,\), expected numbers by row",
        ),
        "fewer rows": (
            lambda c: c["valid"].update({k: v[:2] for k, v in c["valid"].items()}),
            r"2 instances in val, and params/datasets/multibench_mosi\.yaml: split says 3",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("what", faults())
def test_near_misses_are_refused_by_name(grid: Grid, tmp_path: Path, what: str) -> None:
    content = layout.affect()
    change, message = faults()[what]
    change(content)
    with pytest.raises(DataError, match=message):
        prepared("multibench_mosi", affect(grid), content, tmp_path)


def test_a_file_that_was_cut_short_or_holds_something_else_is_refused(grid: Grid, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mosi_raw\.pkl: holds a list, expected a dict"):
        prepared("multibench_mosi", affect(grid), [1, 2], tmp_path)
    file = tmp_path / "multibench_mosi" / "mosi_raw.pkl"
    layout.write(file, layout.affect())
    file.write_bytes(file.read_bytes()[:-100])
    (file.parent / "manifest.json").unlink()
    fetch("multibench_mosi", affect(grid), file.parent)
    with pytest.raises(DataError, match=r"mosi_raw\.pkl: not a pickle of plain data"):
        prepare("multibench_mosi", affect(grid), file.parent, tmp_path / "out")


def test_a_modality_that_is_none_of_the_files_is_refused(grid: Grid, tmp_path: Path) -> None:
    dataset = affect(grid, modalities={"face": {"kind": "sequence", "shape": [50, 4]}})
    with pytest.raises(
        ConfigError, match=r"modalities: 'face' of kind sequence; sequences \['vision', 'audio', 'text'"
    ):
        prepared("multibench_mosi", dataset, layout.affect(), tmp_path)


def test_status_says_what_to_put_where(grid: Grid) -> None:
    step = next(s.next_step for s in status(grid) if s.name == "multibench_mustard")
    assert step.startswith("put sarcasm.pkl into data/raw/multibench_mustard/: Download it with a browser from")


def mimic(grid: Grid, **options: Any) -> Dataset:
    prepare = grid.datasets["mimic"].prepare | options
    deaths = {"classes": ["alive", "1", "2", "3", "4", "5"], "metrics": ["balanced_acc"]}
    return small(grid, "mimic", (16, 2, 2), prepare=prepare, **(deaths if options.get("icd9", 0) is None else {}))


def test_mimic_is_split_as_its_released_loaders_do(grid: Grid, tmp_path: Path) -> None:
    content = layout.mimic()
    prepared("mimic", mimic(grid), content, tmp_path)
    random.seed(10)
    shuffled = list(range(20))
    random.shuffle(shuffled)
    for split, rows in (("val", shuffled[:2]), ("test", shuffled[2:4]), ("train", shuffled[4:])):
        table = load_split(tmp_path / "out" / f"{split}.parquet")
        assert table.ids == [f"row-{i:05d}" for i in rows]
        assert table.labels.tolist() == [i % 2 for i in rows]


@pytest.mark.parametrize("standardise_all", [False, True])
def test_mimic_is_scaled_by_train_or_as_released_by_all_rows(grid: Grid, tmp_path: Path, standardise_all: bool) -> None:
    dataset = mimic(grid, standardise_all=standardise_all)
    dataset = dataset.model_copy(update={"scaling": "none" if standardise_all else "standard"})
    content = layout.mimic()
    prepared("mimic", dataset, content, tmp_path)
    train = load_split(tmp_path / "out" / "train.parquet")
    clean = np.nan_to_num(content["adm_features_all"], posinf=0)
    order = [int(i.removeprefix("row-")) for i in train.ids]
    of = clean if standardise_all else clean[order]
    expected = (clean[order] - of.mean(axis=0)) / of.std(axis=0)
    np.testing.assert_allclose(train.inputs["static"].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_mimic_time_of_death_is_the_first_column_that_is_set(grid: Grid, tmp_path: Path) -> None:
    content = layout.mimic()
    content["adm_labels_all"][:, 0] = 1
    content["adm_labels_all"][::2, 3] = 1
    prepared("mimic", mimic(grid, icd9=None), content, tmp_path)
    tables = [load_split(tmp_path / "out" / f"{s}.parquet") for s in ("train", "val", "test")]
    found = {int(i.removeprefix("row-")): y for t in tables for i, y in zip(t.ids, t.labels.tolist(), strict=True)}
    assert found == {i: 3 if i % 2 == 0 else 0 for i in range(20)}


def test_mimic_without_its_diagnoses_is_refused(grid: Grid, tmp_path: Path) -> None:
    content = layout.mimic()
    content["y_icd9"] = content["y_icd9"][:, :7]
    with pytest.raises(DataError, match=r"im\.pk: y_icd9: shape \(20, 7\), expected 2 axes and 20 rows"):
        prepared("mimic", mimic(grid), content, tmp_path)

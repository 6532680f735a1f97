"""Instances one after another become splits: what is stored, fitted, counted and refused, and in how much memory."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from mmcontrast.config import Dataset
from mmcontrast.data import prepare as package
from mmcontrast.data import streaming, table
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.loading import load_split
from mmcontrast.data.pictures import jpeg
from mmcontrast.data.scaling import FITTED, read_fitted
from mmcontrast.errors import DataError
from mmcontrast.paths import SPLITS

RNG = np.random.default_rng(0)
KINDS: dict[str, dict[str, Any]] = {
    "vital": {"kind": "vector", "shape": [3]},
    "pen": {"kind": "sequence", "shape": [5, 2], "optional": True},
    "photo": {"kind": "image", "shape": [3, 8, 8], "encoded": True, "optional": True},
    "icon": {"kind": "image", "shape": [1, 4, 4]},
    "note": {"kind": "text", "shape": [], "optional": True},
}
PUBLISHED = {"kind": "published", "train": 6, "val": 2, "test": 4}
RANDOM = {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0}
OF = [split for split in SPLITS for _ in range(PUBLISHED[split])]  # type: ignore[call-overload]


def photo(value: int, height: int = 8, width: int = 8) -> bytes:
    return jpeg(Image.new("RGB", (width, height), (value, 0, 255 - value)))


def instances(n: int = 12) -> list[Instance]:
    """Every third lacks the sequence, every fourth the photograph and the note; a fifth of the vitals is missing."""
    made = []
    for i in range(n):
        vital = RNG.normal(5, 3, 3)
        if i % 5 == 1:
            vital[i % 3] = np.nan
        values = {
            "vital": vital,
            "pen": None if i % 3 == 2 else RNG.normal(size=(1 + i % 5, 2)),
            "photo": None if i % 4 == 3 else photo(20 * i),
            "icon": RNG.integers(0, 256, (1, 4, 4), dtype=np.uint8),
        }
        made.append(Instance(f"p{i}", values | ({} if i % 4 == 3 else {"note": f"note {i}"}), i % 2, OF[i % 12]))
    return made


@pytest.fixture
def dataset(small: Any) -> Callable[..., Dataset]:
    def make(**change: Any) -> Dataset:
        fields = {
            "modalities": KINDS, "classes": ["no", "yes"], "rows": 12, "split": PUBLISHED, "scaling": "standard",
            "generate": {"seed": 0},
        }  # fmt: skip
        return Dataset.model_validate(small.common(**(fields | change)))

    return make


def prepared(dataset: Dataset, given: list[Instance], out: Path, **more: Any) -> dict[str, Any]:
    return package.from_stream("toy", dataset, {}, Stream(given, **more), out)


def stored(out: Path) -> dict[str, dict[str, Any]]:
    """id -> its row, of all splits."""
    return {row["id"]: row for split in SPLITS for row in table.read_split(out / f"{split}.parquet")[0].to_pylist()}


def test_what_is_given_is_what_is_stored(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    given = instances()
    sheet = prepared(dataset(scaling="none"), given, tmp_path)
    assert {s: v["rows"] for s, v in sheet["splits"].items()} == {"train": 6, "val": 2, "test": 4}
    rows = stored(tmp_path)
    assert list(rows) == [one.id for one in given]
    for one in given:
        row = rows[one.id]
        assert (row["label"], row["photo"], row["note"]) == (one.label, one.values["photo"], one.values.get("note"))
        np.testing.assert_array_equal(row["icon"], one.values["icon"].reshape(-1))
        if one.values["pen"] is None:
            assert row["pen"] is None
        else:
            np.testing.assert_array_equal(np.array(row["pen"], np.float32), one.values["pen"].astype(np.float32))


@pytest.mark.parametrize(("kind", "reference"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())])
@pytest.mark.parametrize("batch_rows", [2, 512])
def test_scaling_and_filling_are_fitted_on_train_and_kept(
    dataset: Callable[..., Dataset],
    tmp_path: Path,
    kind: str,
    reference: StandardScaler | MinMaxScaler,
    batch_rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "BATCH_ROWS", batch_rows)
    given = instances()
    sheet = prepared(dataset(scaling=kind), given, tmp_path)
    raw = np.stack([one.values["vital"] for one in given])
    imputer = SimpleImputer().fit(raw[:6])
    # the mean is a value like any other, so filling does not move it, but missing values have no part in the spread
    expected = reference.fit(raw[:6]).transform(imputer.transform(raw))
    got = np.array([row["vital"] for row in stored(tmp_path).values()])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    steps = np.concatenate([one.values["pen"] for one in given[:6] if one.values["pen"] is not None])
    fitted = read_fitted(tmp_path / FITTED)
    assert list(fitted) == ["vital", "pen"]
    np.testing.assert_array_equal(fitted["vital"](raw).astype(np.float32), got.astype(np.float32))
    np.testing.assert_allclose(fitted["pen"](steps), reference.fit(steps).transform(steps), atol=1e-9)
    assert sheet["inputs"]["vital"] == {"imputed": 3, "imputed_share": round(3 / 36, 6)}
    assert "vital: 8.33% of its values are missing and count as their mean over train" in sheet["warnings"]


def test_a_split_of_our_own_keeps_classes_and_groups(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    given = [replace(one, split=None) for one in instances()]
    sheet = prepared(dataset(split=RANDOM), given, tmp_path / "classes")
    assert [v["classes"] for v in sheet["splits"].values()] == [{"no": n, "yes": n} for n in (3, 2, 1)]
    grouped = [replace(one, group=f"g{i // 3}") for i, one in enumerate(given)]
    sheet = prepared(dataset(split=RANDOM, scenes="visit"), grouped, tmp_path / "groups")
    assert sheet["split"]["rule"].startswith("groups whole")
    for split in SPLITS:
        rows = table.read_split(tmp_path / "groups" / f"{split}.parquet")[0].to_pylist()
        assert len(rows) == {"train": 6, "val": 6, "test": 0}[split]
        assert {row["scene"] for row in rows} == {one.group for one in grouped if one.id in {row["id"] for row in rows}}


@pytest.mark.parametrize(
    ("target", "label", "counted"),
    [
        ("multilabel", lambda i: [1, i % 2], {"rows": 6, "labels": {"no": 6, "yes": 3}}),
        ("regression", lambda i: [i, -0.5], {"no": {"mean": 2.5, "std": 1.70783, "min": 0.0, "max": 5.0}}),
    ],
)
def test_labels_that_are_no_classes(
    dataset: Callable[..., Dataset], tmp_path: Path, target: str, label: Any, counted: dict[str, Any]
) -> None:
    given = [replace(one, label=label(i), tasks={"more": label(i)}) for i, one in enumerate(instances())]
    more = {"kind": target, "names": ["a", "b"]}
    sheet = prepared(dataset(target=target, tasks={"more": more}, metrics=[SCORED[target]]), given, tmp_path)
    for column in ("label", "label_more"):
        assert [row[column] for row in stored(tmp_path).values()] == [label(i) for i in range(12)]
    assert table.read_split(tmp_path / "train.parquet")[1]["tasks"] == {"more": more}
    train = sheet["splits"]["train"]
    assert counted.items() <= (train if target == "multilabel" else train["quantities"]).items()


def test_a_label_that_train_never_has(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    given = [replace(one, label=[1, int(i == 11)]) for i, one in enumerate(instances())]
    with pytest.raises(DataError, match=r"toy: label 1 \(yes\) is in the test split \(1 rows\) but in no row of train"):
        prepared(dataset(target="multilabel", metrics=["macro_f1"]), given, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_cut_missing_or_empty_is_counted_and_told(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    given = instances()
    given[0] = replace(given[0], values=given[0].values | {"pen": np.arange(18.0).reshape(9, 2), "note": " "})
    given[1] = replace(given[1], values=given[1].values | {"pen": np.zeros((0, 2))})
    sheet = prepared(dataset(scaling="none"), given, tmp_path)
    assert sheet["inputs"]["pen"] == {"cut": 1, "longest": 9, "missing": 5}
    assert sheet["inputs"]["note"] == {"empty": 1, "missing": 3}
    assert "pen: 1 sequences are cut to 5 steps; the longest has 9" in sheet["warnings"]
    assert "note: 1 texts are empty" in sheet["warnings"]
    assert "pen: 5 of 12 instances lack it" in sheet["warnings"]
    assert stored(tmp_path)["p0"]["pen"] == [[2.0 * t, 2.0 * t + 1] for t in range(5)]
    assert sheet["modalities"]["photo"] == {"kind": "image", "shape": [3, 8, 8], "optional": True, "encoded": True}


SCORED = {"classes": "acc", "multilabel": "macro_f1", "regression": "mse"}
NONE = dict.fromkeys(KINDS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (NONE, "instance 'p3' has no input, every modality is missing; leave it out"),
        ({"vital": None}, "instance 'p3' has no vital; leave it out, or say `optional: true` of that modality"),
        ({"vital": [np.nan] * 3}, "instance 'p3' has no vital"),
        ({"vital": [1, np.inf, 2]}, "modality 'vital': holds a number that is infinite; give NaN where"),
        ({"vital": [1, 2]}, r"modality 'vital': shape \[2\], expected \[3\]"),
        ({"pen": np.zeros((2, 3))}, r"modality 'pen': shape \[2, 3\], expected \['any number of steps', 2\]"),
        ({"photo": photo(1)[:200]}, "instance 'p3': modality 'photo': the picture cannot be decoded"),
        ({"photo": b""}, "instance 'p3': modality 'photo': the picture cannot be decoded"),
        ({"photo": photo(1, 8, 9)}, r"the picture cannot be decoded \(8 x 9 pixels in place of 8 x 8\)"),
        ({"photo": "p3.jpg"}, "modality 'photo': the picture cannot be decoded"),
        ({"icon": np.zeros((1, 4, 4))}, r"'icon': float64 of shape \[1, 4, 4\], expected uint8 of \[1, 4, 4\]"),
        ({"note": 3}, "modality 'note': int, expected a text"),
        ({"nots": "a"}, r"no modality 'nots' in params/datasets/toy\.yaml; did you mean 'note'"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_accepted(
    dataset: Callable[..., Dataset], tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    given = instances()
    given[3] = replace(given[3], values=given[3].values | values)
    with pytest.raises(DataError, match=message):
        prepared(dataset(), given, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "target", "message"),
    [
        ({"id": "p0"}, "classes", "the id 'p0' stands on two instances"),
        ({"id": ""}, "classes", "an instance has an empty id"),
        ({"label": 2}, "classes", r"instance 'p3': label 2; accepted are 0 to 1 \(no, yes\)"),
        ({"label": [1, 2]}, "multilabel", r"label \[1, 2\]; accepted are 2 numbers, each 0 or 1 \(no, yes\)"),
        ({"label": [1, np.nan]}, "regression", r"label \[1, nan\]; accepted are 2 numbers, each finite"),
        ({"label": [1, 1e300]}, "regression", r"label \[1, 1e\+300\]; accepted are 2 numbers, each finite"),
        ({"label": None}, "multilabel", "label None; accepted are 2 numbers"),
        ({"split": None}, "classes", "'p3' is in split None, and that of params.* is published, so train, val"),
        ({"split": "dev"}, "classes", "instance 'p3' is in split dev"),
        ({"split": "test"}, "classes", r"5 instances in train, and params/datasets/toy\.yaml: split says 6"),
        ({"group": "g"}, "classes", "some instances have a group, and 'p3' differs; all have one or none has"),
    ],
)  # fmt: skip
def test_an_instance_that_is_not_accepted(
    dataset: Callable[..., Dataset], tmp_path: Path, change: dict[str, Any], target: str, message: str
) -> None:
    label = {"classes": 1, "multilabel": [1, 0], "regression": [0.5, 2]}[target]
    given = [replace(one, label=one.label if target == "classes" else label) for one in instances()]
    given[3] = replace(given[3], **change)
    with pytest.raises(DataError, match=message):
        prepared(dataset(target=target, metrics=[SCORED[target]]), given, tmp_path)


def test_a_feature_that_train_never_has(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    given = instances()
    for i in range(6):
        given[i].values["vital"][1] = np.nan
    with pytest.raises(DataError, match=r"modality 'vital': no row of train has a value of feature weight \(1 such"):
        prepared(dataset(), given, tmp_path, feature_names={"vital": ["age", "weight", "size"]})


def test_equal_instances_in_two_splits_are_a_leak(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    given = instances()
    given[11] = replace(given[11], values=given[2].values)
    with pytest.raises(DataError, match="equal in every feature of every modality: 1 in train and test"):
        prepared(dataset(), given, tmp_path)


def test_fitted_files_that_are_not_there_or_not_ours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fitted\.json: no such file; run `mmcontrast data prepare"):
        read_fitted(tmp_path / FITTED)
    (tmp_path / FITTED).write_text('{"vital": {"mean": [1]}}')
    with pytest.raises(DataError, match=r"fitted\.json: not what `mmcontrast data prepare` writes"):
        read_fitted(tmp_path / FITTED)


GROWTH = """
import sys, threading, time
import numpy as np, pyarrow as pa
from pathlib import Path
from mmcontrast.config import Dataset
from mmcontrast.data import streaming
from mmcontrast.data.instances import Instance
from mmcontrast.data.leaks import stored_rows

pa.set_cpu_count(1)  # each thread keeps memory of its own
streaming.BATCH_BYTES = streaming.GROUP_BYTES = 2**20
streaming.GROUP_ROWS = 64

def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

def run(rows, out):
    data = Dataset.model_validate(dict(
        title="t", description="d", licence="l", redistribute=False, citation="c", generate={"seed": 0}, rows=rows,
        modalities={"x": {"kind": "sequence", "shape": [200, 32]}}, classes=["a", "b"], metrics=["acc"],
        split={"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0}, scaling="standard"))
    rng = np.random.default_rng(0)
    given = (Instance(f"r{i}", {"x": rng.standard_normal((200, 32))}, i % 2) for i in range(rows))
    streaming.write_stream("toy", data, streaming.Stream(given), out)
    for split in ("train", "val", "test"):
        stored_rows(out / f"{split}.parquet", ["x"])

peak, over = 0.0, threading.Event()
def watch():
    global peak
    while not over.wait(0.002):
        peak = max(peak, anonymous())
watcher = threading.Thread(target=watch, daemon=True)
out = Path(sys.argv[1])
watcher.start()
run(600, out)  # what allocators keep once they have had it is no growth
peak = 0.0
run(1200, out)
small, peak = peak, 0.0
run(3600, out)
over.set(); watcher.join()
print(small, peak)
"""


def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    """Instances of 50 kB while they wait, which are half of that when stored: 117 MiB more, and 59."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    small, large = map(float, done.stdout.split())
    assert large - small < 25, f"{small:.0f} MiB for 1,200 instances, {large:.0f} MiB for 3,600"


def test_weights_of_cases_are_stored_for_every_target(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    given = [replace(one, weights={"": i / 2, "late": 1.0}, tasks={"late": i % 2}) for i, one in enumerate(instances())]
    weighted = dataset(case_weights=True, tasks={"late": ["no", "yes"]})
    prepared(weighted, given, tmp_path)
    assert [row["weight"] for row in stored(tmp_path).values()] == [i / 2 for i in range(12)]
    train = load_split(tmp_path / "train.parquet")
    assert {task: of.tolist() for task, of in train.weights.items()} == {
        "": [0.0, 0.5, 1.0, 1.5, 2.0, 2.5],
        "late": [1.0] * 6,
    }
    assert train.take(torch.tensor([3, 0])).weights[""].tolist() == [1.5, 0.0]


@pytest.mark.parametrize("weights", [{}, {"": -1.0}, {"": float("nan")}, {"": 1.0, "late": 1.0}])
def test_weights_that_are_none_are_refused(
    dataset: Callable[..., Dataset], tmp_path: Path, weights: dict[str, float]
) -> None:
    given = [replace(one, weights=weights) for one in instances()]
    with pytest.raises(
        DataError, match=r"toy: instance 'p0': weights \{.*accepted are numbers of at least 0 for \[''\]"
    ):
        prepared(dataset(case_weights=True), given, tmp_path)
    with pytest.raises(DataError, match="for nothing") if weights else contextlib.nullcontext():
        prepared(dataset(), given, tmp_path)

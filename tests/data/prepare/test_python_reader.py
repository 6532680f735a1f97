"""A dataset that a function of the user's own reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmcontrast.config import Dataset
from mmcontrast.data import table
from mmcontrast.data.prepare import prepare
from mmcontrast.errors import ConfigError, DataError
from mmcontrast.pipeline.plan import dataset_plans

CODE = """
def read(folder, n, shift=0.0):
    for i in range(n):
        yield {"id": i, "label": ["no", "yes"][i % 2], "a": [i + shift, 1.0 / (i + 1)], "said": f"{i} of {folder.name}"}
"""


@pytest.fixture
def dataset(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    monkeypatch.chdir(tmp_path)

    def make(code: str = CODE, **options: Any) -> Dataset:
        Path("mine.py").write_text(code)
        given = {
            "modalities": {"a": {"kind": "vector", "shape": [2]}, "said": {"kind": "text", "shape": []}}, "rows": 20,
            "classes": ["no", "yes"], "split": {"kind": "random", "train": 0.5, "val": 0.2, "test": 0.3, "seed": 0},
            "scaling": "none", "reader": "python", "generate": {"by": "a function"},
            "prepare": {"file": "mine.py", "options": {"n": 20}} | options,
        }  # fmt: skip
        return Dataset.model_validate(small.common(**given))

    return make


def test_what_the_function_yields(dataset: Callable[..., Dataset]) -> None:
    prepare("own", dataset(options={"n": 20, "shift": 3.0}), "raw", "out")
    rows = [r for s in ("train", "val", "test") for r in table.read_split(Path(f"out/{s}.parquet"))[0].to_pylist()]
    found = {r["id"]: (r["label"], r["a"], r["said"]) for r in rows}
    assert found["4"] == (0, pytest.approx([7.0, 0.2]), "4 of raw")
    assert len(found) == 20


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (CODE, {"file": "other.py"}, r"other\.py: no such file; it is looked for in "),
        (CODE, {"function": "reed"}, r"mine\.py: no function 'reed'; did you mean 'read'\?"),
        ("def read(:", {}, r"mine\.py: cannot be imported \(SyntaxError: "),
        (CODE.replace("1.0 / (i + 1)", "1 / (3 - i)"), {}, r"read: failed after 3 instances \(ZeroDivisionError: "),
        (CODE.replace('"a":', '"b":'), {}, r"read: instance 1: key 'b'; known: a, group, id, label, said, split"),
        (CODE.replace('"label":', '"y":'), {}, r"read: instance 1: expected a dict with `id`, `label` and modalities"),
        (CODE.replace('"yes"]', '"yess"]'), {}, r"own: instance '1': label yess; accepted are 0 to 1 \(no, yes\)"),
        (CODE, {"options": {"m": 2}}, r"read: failed after 0 instances \(TypeError: .*'m'"),
    ],
)
def test_what_is_not_accepted(
    dataset: Callable[..., Dataset], code: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        prepare("own", dataset(code, **options), "raw", "out")


def test_options_are_checked(dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(ConfigError, match=r"own\.yaml: prepare\.functoin: unknown key; did you mean 'function'"):
        prepare("own", dataset(functoin="x"), "raw", "out")


def test_a_change_of_the_function_is_a_change_of_the_plan(dataset: Callable[..., Dataset]) -> None:
    before = dict(dataset_plans("own", dataset()))
    assert dict(dataset_plans("own", dataset())) == before
    assert dict(dataset_plans("own", dataset(CODE + "\n"))) != before

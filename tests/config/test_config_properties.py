"""Whatever is written into params/, the answer is a study or a ConfigError that names a file."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcontrast.config import Grid
from mmcontrast.errors import ConfigError

ROOT = Path(__file__).parents[2]
FILES = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "params").rglob("*.yaml"))
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 10**30, 0.5, -0.0, 1e308, 5e-324),
    *("", "x", "../../etc", "null", "full", "rosmap", "m3col", "a\x85b", "\N{SNOWMAN}", "x" * 2000),
    *([], [None], ["x"], [0, 0], [[[]]], ["a", "a"]),
    *({}, {"x": 1}, {"": None}, {1: 2}, {"kind": "x"}, {None: []}, {"base": {}}),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something can be changed: every key and every element, at every depth."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, inner in below for place in places(inner, (*path, key))]


PLACES = {file: places(yaml.safe_load((ROOT / file).read_text())) for file in FILES}
CHANGES = st.sampled_from(FILES).flatmap(
    lambda file: st.tuples(
        st.just(file),
        st.sampled_from(PLACES[file]),
        st.sampled_from(["replace", "remove", "add", "rename"]),
        st.sampled_from(VALUES),
    )
)


def change(content: Any, place: tuple[Any, ...], how: str, value: Any) -> None:
    """Spoil one place of a file."""
    *above, last = place
    holder = content
    for key in above:
        holder = holder[key]
    if how == "replace":
        holder[last] = value
    elif how == "remove":
        del holder[last]
    elif isinstance(holder, list):
        holder.append(value)
    elif how == "add":
        holder["added"] = value
    else:
        holder[value if isinstance(value, str | int | float | None) else "renamed"] = holder.pop(last)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of params/ in which one file at a time is spoiled."""
    folder = tmp_path_factory.mktemp("spoiled")
    shutil.copytree(ROOT / "params", folder / "params")
    return folder


def study_or_error(root: Path) -> None:
    """Read everything, as each command does before any work."""
    told = "params/"
    try:
        assert Grid(root).cells
    except ConfigError as e:
        told = str(e)
    assert "params/" in told


def check_change(checkout: Path, spoiled: tuple[str, tuple[Any, ...], str, Any]) -> None:
    file, place, how, value = spoiled
    path = checkout / file
    before = path.read_bytes()
    content = copy.deepcopy(yaml.safe_load(before))
    change(content, place, how, value)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        study_or_error(checkout)
    finally:
        path.write_bytes(before)


def check_bytes(checkout: Path, file: str, at: int, put: bytes) -> None:
    path = checkout / file
    before = path.read_bytes()
    at %= len(before)
    path.write_bytes(before[:at] + put + before[at + 1 :])
    try:
        study_or_error(checkout)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("key", ["model", "selection"])
@pytest.mark.parametrize("method", ["comm", "m3col", "mxm_clr"])
def test_a_section_that_others_borrow_left_out(checkout: Path, method: str, key: str) -> None:
    check_change(checkout, (f"params/methods/{method}.yaml", (key,), "remove", None))


BYTES = st.sampled_from([b"", b"\x00", b"\xff", b"{", b"[", b": ", b"*a"])
PLACE = st.integers(0, 10**6)


@given(CHANGES)
@settings(max_examples=10)
def test_one_change_anywhere(checkout: Path, spoiled: tuple[str, tuple[Any, ...], str, Any]) -> None:
    check_change(checkout, spoiled)


@given(st.sampled_from(FILES), PLACE, BYTES)
@settings(max_examples=6)
def test_bytes_anywhere(checkout: Path, file: str, at: int, put: bytes) -> None:
    check_bytes(checkout, file, at, put)


@pytest.mark.slow
@given(CHANGES)
@settings(max_examples=100)
def test_many_changes(checkout: Path, spoiled: tuple[str, tuple[Any, ...], str, Any]) -> None:
    check_change(checkout, spoiled)


@pytest.mark.slow
@given(st.sampled_from(FILES), PLACE, BYTES)
@settings(max_examples=60)
def test_many_bytes(checkout: Path, file: str, at: int, put: bytes) -> None:
    check_bytes(checkout, file, at, put)

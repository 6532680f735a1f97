"""pip and npm's registry are asked in the right way, and their failures are told in one line."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mmcontrast.data import download as packages
from mmcontrast.data.download import NPM_REGISTRY, npm_registry, npm_tarball, pip_download
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


def publish(server: Any, tarball: bytes, integrity: str | None = None) -> None:
    """@scope/smalldata 1.0 as an npm registry describes and holds it."""
    folder = server.folder / "@scope/smalldata"
    folder.mkdir(parents=True)
    (folder / "smalldata.tgz").write_bytes(tarball)
    integrity = integrity or "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    address = f"{server.url}/@scope/smalldata/smalldata.tgz"
    (folder / "1.0").write_text(json.dumps({"dist": {"tarball": address, "integrity": integrity}}))


def test_a_tarball_comes_from_the_registry(server: Any, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", f"{server.url}/")
    publish(server, b"archive")
    assert npm_tarball("@scope/smalldata@1.0", scratch).read_bytes() == b"archive"


def test_a_tarball_of_another_checksum_is_refused(server: Any, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", server.url)
    publish(server, b"archive", "sha512-AAAA")
    with pytest.raises(FetchError, match=r"smalldata.tgz: its checksum is .*, and the npm registry gives .*AAAA"):
        npm_tarball("@scope/smalldata@1.0", scratch)


@pytest.mark.parametrize("answer", ["<html>", "{}", '{"dist": {"tarball": "x"}}', "[]"])
def test_an_answer_that_describes_no_tarball_is_an_error(
    answer: str, server: Any, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", server.url)
    (server.folder / "a").mkdir()
    (server.folder / "a/1").write_text(answer)
    with pytest.raises(FetchError, match="a@1: the npm registry's answer names no tarball with a checksum"):
        npm_tarball("a@1", scratch)


def test_a_package_that_is_not_there_is_named(server: Any, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", server.url)
    with pytest.raises(FetchError, match=r"/a/1: no such file \(http status 404\)"):
        npm_tarball("a@1", scratch)


def test_the_registry_is_the_one_that_npm_would_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    monkeypatch.delenv("npm_config_registry", raising=False)
    assert npm_registry() == NPM_REGISTRY
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.npmrc").write_text("fund=false\nregistry = http://home/\n")
    assert npm_registry() == "http://home"
    (tmp_path / ".npmrc").write_text("registry=http://here\n")
    assert npm_registry() == "http://here"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://given")
    assert npm_registry() == "http://given"

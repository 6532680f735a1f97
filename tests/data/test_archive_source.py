"""An archive of a repository: its members are what is checked, wherever its bytes come from."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmcontrast.config import Dataset, Grid
from mmcontrast.config.datasets import ArchiveSource, Member
from mmcontrast.data import archives
from mmcontrast.data.archives import check_archive, extract_archive
from mmcontrast.data.fetch import fetch
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.errors import ConfigError, DataError, FetchError

ROOT = Path(__file__).parents[2]
URL = "http://127.0.0.1:9/owner/sets/tar.gz/1408d85a"
FILES = {"DATA/a.csv": b"1,2\n", "DATA/b.csv": b"3,4\n" * 999, "README.md": b"hello"}


def packed(files: dict[str, bytes], folder: str = "sets-1408d85a", mtime: int = 0) -> bytes:
    """A gzipped tar as a forge makes it; another time gives other bytes of the same members."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=mtime) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def members(*names: str) -> dict[str, Member]:
    return {n: Member(bytes=len(FILES[n]), sha256=hashlib.sha256(FILES[n]).hexdigest()) for n in names or FILES}


@pytest.fixture
def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """mirrored(data): what the mirror holds at URL from now on."""
    monkeypatch.setenv("MMCONTRAST_MIRROR", str(tmp_path / "mirror"))
    path = tmp_path / "mirror/127.0.0.1:9/owner/sets/tar.gz/1408d85a"
    path.parent.mkdir(parents=True)
    return path.write_bytes  # type: ignore[return-value]


@pytest.fixture
def dataset(small: Any) -> Dataset:
    source = {"kind": "archive", "url": URL, "folder": "sets-1408d85a", "members": members("DATA/a.csv", "DATA/b.csv")}
    return Dataset.model_validate(
        small.common(
            sources=[source],
            modalities={"x": {"kind": "vector", "shape": [2]}},
            classes=["a", "b"],
            rows=3,
            split={"kind": "published", "train": 1, "val": 1, "test": 1},
            scaling="none",
        )
    )


def test_members_are_unpacked_and_other_files_left(mirrored: Any, dataset: Dataset, tmp_path: Path) -> None:
    mirrored(packed(FILES))
    manifest = fetch("toy", dataset, tmp_path / "raw")
    assert manifest["files"] == {n: m.sha256 for n, m in members("DATA/a.csv", "DATA/b.csv").items()}
    assert manifest["sources"][0]["pinned"] is True
    assert (tmp_path / "raw/DATA/b.csv").read_bytes() == FILES["DATA/b.csv"]
    assert not (tmp_path / "raw/README.md").exists()
    assert verified_manifest("toy", dataset, tmp_path / "raw") == manifest


def test_other_bytes_of_the_same_members_are_as_good(mirrored: Any, dataset: Dataset, tmp_path: Path) -> None:
    mirrored(packed(FILES))
    first = fetch("toy", dataset, tmp_path / "raw")
    shutil.rmtree(tmp_path / "cache/sha256")
    mirrored(packed(FILES, mtime=1))
    again = fetch("toy", dataset, tmp_path / "raw")
    assert again["files"] == first["files"]
    assert again["sources"] != first["sources"]


def test_a_member_of_other_bytes_is_named_and_nothing_is_kept(mirrored: Any, dataset: Dataset, tmp_path: Path) -> None:
    mirrored(packed(FILES | {"DATA/a.csv": b"1,3\n"}))
    with pytest.raises(FetchError, match=r"1408d85a: 'DATA/a\.csv' has sha256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        fetch("toy", dataset, tmp_path / "raw")
    assert not (tmp_path / "raw/DATA").exists()
    assert not list((tmp_path / "cache/sha256").rglob("*"))


def test_a_list_that_has_changed_is_noticed_before_and_after_fetching(
    mirrored: Any, dataset: Dataset, tmp_path: Path
) -> None:
    mirrored(packed(FILES))
    fetch("toy", dataset, tmp_path / "raw")
    source = dataset.sources[0]
    assert isinstance(source, ArchiveSource)
    wrong = {n: m.model_copy(update={"sha256": "0" * 64}) for n, m in source.members.items()}
    changed = dataset.model_copy(update={"sources": [source.model_copy(update={"members": wrong})]})
    with pytest.raises(DataError, match=f"written for other members of {URL} than params/datasets lists; run"):
        verified_manifest("toy", changed, tmp_path / "raw")
    # from the cache, too
    with pytest.raises(FetchError, match=r"'DATA/a\.csv' has sha256"):
        fetch("toy", changed, tmp_path / "raw")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (packed({n: FILES[n] for n in ("DATA/a.csv", "README.md")}), r"holds no 'sets-1408d85a/DATA/b\.csv' \(1 such"),
        (packed(FILES, folder="sets-main"), r"holds no 'sets-1408d85a/DATA/a\.csv' \(3 such members\)"),
        (packed(FILES)[:60], "not readable as a gzipped tar"),
        (b"<html>log in</html>", "not readable as a gzipped tar"),
    ],
)
def test_archives_that_are_not_what_is_listed(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(data)
    with pytest.raises(FetchError, match=message):
        check_archive(path, "sets-1408d85a", members())


def test_no_links_no_doubles_and_nothing_outside(tmp_path: Path) -> None:
    path, listed = tmp_path / "a.tar.gz", members("README.md")
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("sets/README.md")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(FetchError, match=r"'README\.md' is a folder, a link or a device, not a file"):
        extract_archive(path, "sets", listed, tmp_path / "out")
    with tarfile.open(path, "w:gz") as tar:
        for _ in range(2):
            info = tarfile.TarInfo("sets/README.md")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"hello"))
    with pytest.raises(FetchError, match="more than once"):
        extract_archive(path, "sets", listed, tmp_path / "out")
    outside = {"../README.md": listed["README.md"]}
    path.write_bytes(packed({"../README.md": b"hello"}, "sets"))
    with pytest.raises(FetchError, match="only relative paths without"):
        extract_archive(path, "sets", outside, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "BLOCKS_BYTES", 1 << 16)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(packed({"bomb": bytes(1 << 24), **FILES}, "sets"))
    with pytest.raises(FetchError, match="more than twice as large as its members, which is refused"):
        check_archive(path, "sets", members())


def test_the_list_of_members_lies_beside_the_params(small: Any, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    source = Grid(tmp_path).datasets["sp_sw_har"].sources[0]
    assert isinstance(source, ArchiveSource)
    assert len(source.members) == 449
    table = tmp_path / "params/datasets/sp_sw_har.tsv"
    lines = table.read_text().splitlines()
    for text, message in (
        (
            "\n".join([*lines[:2], "DATA/x.csv\tmany\t0"]),
            r"sources\[0\]\.members: sp_sw_har\.tsv, line 3: exp",
        ),
        ("\n".join([*lines, lines[1]]), "a path stands twice"),
        ("\n".join([*lines[:2], lines[2].replace("s01", "s0x")[:-1]]), r"sp_sw_har\.yaml: sources\.0\..*sha256"),
        (None, r"sp_sw_har\.tsv: no such table beside this file"),
    ):
        table.unlink()
        if text is not None:
            table.write_text(text)
        with pytest.raises(ConfigError, match=message):
            Grid(tmp_path)
        table.touch()

"""Downloads end in the file or in a message, never in part of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmcontrast.data import download as module
from mmcontrast.data.download import NotHeldError, download
from mmcontrast.errors import FetchError


def test_the_bytes_arrive(server: Any, tmp_path: Path) -> None:
    (server.folder / "a.csv").write_bytes(b"x" * 3_000_000)
    assert download(f"{server.url}/a.csv", tmp_path, size=3_000_000).read_bytes() == b"x" * 3_000_000


def test_a_missing_file_is_told_apart(server: Any, tmp_path: Path) -> None:
    with pytest.raises(NotHeldError, match=r"none\.csv: no such file \(http status 404\)"):
        download(f"{server.url}/none.csv", tmp_path)


def test_no_network_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:9/a: cannot connect"):
        download("http://127.0.0.1:9/a", tmp_path)


def test_an_answer_cut_short_is_an_error(server: Any, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"broke off|9 bytes"):
        download(f"{server.url}/file.short", tmp_path)


@pytest.mark.parametrize(("size", "message"), [(3, "more than 3 bytes"), (9, "5 bytes, 9 expected")])
def test_another_size_is_an_error(server: Any, tmp_path: Path, size: int, message: str) -> None:
    (server.folder / "a").write_bytes(b"12345")
    with pytest.raises(FetchError, match=message):
        download(f"{server.url}/a", tmp_path, size=size)


def test_a_file_of_unknown_size_is_capped(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (server.folder / "a").write_bytes(b"12345")
    monkeypatch.setattr(module, "MAX_DOWNLOAD_BYTES", 4)
    with pytest.raises(FetchError, match="more than 4 bytes"):
        download(f"{server.url}/a", tmp_path)


def test_an_answer_that_is_packed_is_refused(server: Any, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="sent as 'gzip', though only the plain file was asked for"):
        download(f"{server.url}/file.packed", tmp_path)
    assert not (tmp_path / "download").exists()

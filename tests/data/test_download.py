"""Downloads end in the file or in a message, never in part of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from mmcontrast.data import download as module
from mmcontrast.data.download import RETRIES, NotHeldError, download
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
    with pytest.raises(FetchError, match=r"file\.short: the connection broke off, 3 times"):
        download(f"{server.url}/file.short", tmp_path)
    assert server.requests["/file.short"] == 3


def test_an_answer_that_breaks_off_goes_on_where_it_did(server: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 8)
    assert download(f"{server.url}/file.breaks", tmp_path, size=40).read_bytes() == bytes(range(40))
    assert server.requests["/file.breaks"] == 3


def test_a_silent_server_is_waited_for_once(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", (10, 1))
    monkeypatch.setattr(module, "RETRIES", RETRIES)
    with pytest.raises(FetchError, match=r"file\.silent: no answer within 1 seconds"):
        download(f"{server.url}/file.silent", tmp_path)
    assert server.requests["/file.silent"] == 1


def test_a_file_elsewhere_is_followed_to(server: Any, tmp_path: Path) -> None:
    (server.folder / "a.csv").write_bytes(b"1")
    assert download(f"{server.url}/file.on", tmp_path).read_bytes() == b"1"


def test_from_outside_nothing_leads_into_a_private_network(server: Any, tmp_path: Path, monkeypatch: Any) -> None:
    assert module._private("127.0.0.1")
    assert not module._private("8.8.8.8")
    monkeypatch.setattr(module, "_private", lambda host: host == "localhost")
    with pytest.raises(FetchError, match=r"sends on to http://localhost:\d+/a\.csv, which is of a private network"):
        download(f"{server.url}/file.on", tmp_path)
    assert "/a.csv" not in server.requests


def test_nothing_leads_from_https_to_http() -> None:
    answer = requests.Response()
    answer.url, answer.status_code, answer.headers["location"] = "https://8.8.8.8/a", 302, "http://8.8.8.8/a"
    with pytest.raises(FetchError, match=r"https://8\.8\.8\.8/a: sends on to http://8\.8\.8\.8/a, which is not https"):
        module._Session().get_redirect_target(answer)


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

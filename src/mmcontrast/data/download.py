"""One file over http(s), with a progress bar on a terminal."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from urllib3.util import Retry

from mmcontrast.data.files import CHUNK_BYTES
from mmcontrast.errors import FetchError

TIMEOUT_SECONDS = (10, 60)
RETRIES = Retry(total=2, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
MAX_DOWNLOAD_BYTES = 16 * 1024**3

# it prints each retry; what came of them is in our own message
logging.getLogger("urllib3").setLevel(logging.ERROR)


class NotHeldError(FetchError):
    """An origin simply does not have the file, which of a mirror nobody needs to be warned."""


def console() -> Console:
    """Where progress is shown: standard error, so that a command's output can be piped."""
    return Console(stderr=True)


def download(url: str, folder: Path, size: int | None = None) -> Path:
    """Download `url` into `folder`.

    Args:
        size: bytes the file must have, where known; a longer answer is cut off at once.

    Raises:
        FetchError: no connection, an http error, an answer cut short, or a size other than expected.
    """
    path = folder / "download"
    limit = MAX_DOWNLOAD_BYTES if size is None else size
    # identity: the checksum is that of the file, and a compressed answer would hide its size
    headers = {"Accept-Encoding": "identity"}
    try:
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
            with session.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers) as answer:
                if answer.status_code == 404:
                    raise NotHeldError(f"{url}: no such file (http status 404)")
                if answer.status_code != 200:
                    raise FetchError(f"{url}: http status {answer.status_code} {answer.reason}")
                coding = answer.headers.get("Content-Encoding", "identity")
                if coding != "identity":
                    # a few bytes on the line could become any number in memory
                    raise FetchError(f"{url}: sent as '{coding}', though only the plain file was asked for")
                declared = answer.headers.get("Content-Length", "")
                total = size or (int(declared) if re.fullmatch(r"[0-9]{1,15}", declared) else None)
                written = _save(answer, path, url, total, limit)
    except requests.RequestException as e:
        raise FetchError(f"{url}: {_plain(e)}") from None
    if size is not None and written != size:
        raise FetchError(f"{url}: {written} bytes, {size} expected")
    return path


def _save(answer: requests.Response, path: Path, url: str, total: int | None, limit: int) -> int:
    screen = console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    speed = (TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, *speed, console=screen, disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task(url.rsplit("/", 1)[-1], total=total)
        written = 0
        with path.open("wb") as out:
            for chunk in answer.iter_content(CHUNK_BYTES):
                written += len(chunk)
                if written > limit:
                    raise FetchError(f"{url}: more than {limit} bytes, which is the most that is accepted")
                out.write(chunk)
                bar.advance(task, len(chunk))
    return written


def _plain(error: requests.RequestException) -> str:
    """What went wrong, without the addresses of internal objects that urllib3 prints."""
    if isinstance(error, requests.exceptions.SSLError):
        return f"the certificate was not accepted ({error})"
    if isinstance(error, requests.exceptions.ProxyError):
        return "cannot connect to the proxy; check HTTPS_PROXY"
    if isinstance(error, requests.exceptions.Timeout):
        return f"no answer within {TIMEOUT_SECONDS[1]} seconds"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "cannot connect (is there a network?)"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return str(error)

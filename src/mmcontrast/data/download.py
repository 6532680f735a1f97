"""One file over http(s), with a progress bar on a terminal."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from urllib3.exceptions import ProtocolError, ReadTimeoutError
from urllib3.util import Retry

from mmcontrast.data.files import CHUNK_BYTES
from mmcontrast.errors import FetchError

TIMEOUT_SECONDS = (10, 60)
FAILED = (429, 500, 502, 503, 504)
# `read`: else a silent server is waited for three times
RETRIES = Retry(total=2, read=False, backoff_factor=0.2, status_forcelist=FAILED, raise_on_status=False)
# times that an answer which breaks off is asked for; what has come is kept where the server says it is the same file
ANSWERS = 3
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
        FetchError: no connection, an http error, an answer that is cut short or goes on at a less protected place, or a
            size other than expected.
    """
    path, tag = folder / "download", ""
    limit = MAX_DOWNLOAD_BYTES if size is None else size
    try:
        with _Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
            for left in reversed(range(ANSWERS)):
                had = path.stat().st_size if tag and path.exists() else 0
                # identity: the checksum is that of the file, and a compressed answer would hide its size
                headers = {"Accept-Encoding": "identity"}
                headers |= {"Range": f"bytes={had}-", "If-Range": tag} if had else {}
                try:
                    with session.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers) as answer:
                        tag = answer.headers.get("ETag", "") if _checked(answer, url, had) == 200 else tag
                        written = _save(answer, path, url, size, limit)
                    break
                except requests.RequestException as e:
                    if not left or not _broke_off(e):
                        raise
    except requests.RequestException as e:
        raise FetchError(f"{url}: {_plain(e)}") from None
    if size is not None and written != size:
        raise FetchError(f"{url}: {written} bytes, {size} expected")
    return path


def _checked(answer: requests.Response, url: str, had: int) -> int:
    """The status: 200, or 206 for what comes after the bytes that are had."""
    if answer.status_code == 404:
        raise NotHeldError(f"{url}: no such file (http status 404)")
    rest = had and answer.headers.get("Content-Range", "").startswith(f"bytes {had}-")
    if answer.status_code != 200 and not (answer.status_code == 206 and rest):
        raise FetchError(f"{url}: http status {answer.status_code} {answer.reason}")
    coding = answer.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        # a few bytes on the line could become any number in memory
        raise FetchError(f"{url}: sent as '{coding}', though only the plain file was asked for")
    return answer.status_code


def _save(answer: requests.Response, path: Path, url: str, size: int | None, limit: int) -> int:
    """Write the file, or append the rest of it; bytes it has then."""
    screen = console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    speed = (TransferSpeedColumn(), TimeRemainingColumn())
    written = path.stat().st_size if answer.status_code == 206 else 0
    declared = answer.headers.get("Content-Length", "")
    total = size or (written + int(declared) if re.fullmatch(r"[0-9]{1,15}", declared) else None)
    with Progress(*columns, *speed, console=screen, disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task(url.rsplit("/", 1)[-1], total=total, completed=written)
        with path.open("ab" if written else "wb") as out:
            for chunk in answer.iter_content(CHUNK_BYTES):
                written += len(chunk)
                if written > limit:
                    raise FetchError(f"{url}: more than {limit} bytes, which is the most that is accepted")
                out.write(chunk)
                bar.advance(task, len(chunk))
    return written


class _Session(requests.Session):
    """Is not sent on from https to http, nor from outside to an address of a private network."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            here, there = urlsplit(resp.url), urlsplit(urljoin(resp.url, target))
            bare = here.scheme == "https" and there.scheme != "https"
            if bare or (_private(there.hostname) and not _private(here.hostname)):
                what = "is not https" if bare else "is of a private network"
                raise FetchError(f"{resp.url}: sends on to {there.geturl()}, which {what}; not followed")
        return target


def _private(host: str | None) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False  # of a proxy to look up
    return not all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global for *_, address in found)


def _broke_off(error: requests.RequestException) -> bool:
    """Within an answer, or before it while the connection stood."""
    cause = next(iter(error.args), None)
    return isinstance(cause, ProtocolError | ReadTimeoutError) and not isinstance(error, requests.Timeout)


def _plain(error: requests.RequestException) -> str:
    """What went wrong, without the addresses of internal objects that urllib3 prints."""
    if isinstance(error, requests.exceptions.SSLError):
        return f"the certificate was not accepted ({error})"
    if isinstance(error, requests.exceptions.ProxyError):
        return "cannot connect to the proxy; check HTTPS_PROXY"
    if _broke_off(error):
        return f"the connection broke off, {ANSWERS} times"
    if isinstance(error, requests.exceptions.ReadTimeout):
        return f"no answer within {TIMEOUT_SECONDS[1]} seconds"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "cannot connect (is there a network?)"
    return str(error)

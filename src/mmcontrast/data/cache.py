"""Downloaded files by their checksum, shared by all checkouts of a user.

<cache>/sha256/ab/abcd...      the bytes; the name is the checksum
<cache>/first_use/<key>.json   checksum of a file that came without one, as first seen
<cache>/locks/<key>            one lock an item, so that two runs at once download it once
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmcontrast.data.files import replacing, sha256_of, write_json
from mmcontrast.data.json_text import read_json
from mmcontrast.errors import FetchError

log = logging.getLogger(__name__)

SHA256 = re.compile(r"[0-9a-f]{64}")


def cache_root() -> Path:
    """Folder named by MMCONTRAST_CACHE, or ~/.cache/mmcontrast."""
    return Path(os.environ.get("MMCONTRAST_CACHE") or "~/.cache/mmcontrast").expanduser()


def _key(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()


class Cache:
    """A content-addressed store. Every file is checked again each time it is taken out."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = cache_root() if root is None else root

    def path(self, sha256: str) -> Path:
        """Where the file with this checksum lies, or would lie."""
        return self.root / "sha256" / sha256[:2] / sha256

    def get(self, sha256: str) -> Path | None:
        """The file with this checksum, or None. A copy that no longer has its checksum is removed."""
        path = self.path(sha256)
        try:
            found = sha256_of(path)
        except FileNotFoundError:
            return None
        if found == sha256:
            return path
        log.warning("%s: the cached copy has changed on disk; it is removed and fetched again", path)
        path.unlink(missing_ok=True)
        return None

    def put(self, file: Path, sha256: str) -> Path:
        """Copy `file`, whose checksum the caller has verified, into the store."""
        path = self.path(sha256)
        with replacing(path, sync=False) as temp:
            shutil.copyfile(file, temp)
        return path

    def first_use(self, label: str) -> str | None:
        """Checksum recorded when `label`, which has no published one, was first fetched."""
        path = self.record(label)
        try:
            sha256 = read_json(path)["sha256"]
            if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
                raise ValueError(f"'{sha256}' is not a sha256")
            return sha256
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as e:
            raise FetchError(f"{path}: damaged ({e}); remove it to trust {label} as it is fetched next") from None

    def remember(self, label: str, sha256: str) -> None:
        """Record the checksum of a file that has no published one."""
        write_json(self.record(label), {"source": label, "sha256": sha256}, seal=True)

    def record(self, label: str) -> Path:
        """Where the first-use checksum of `label` is kept."""
        return self.root / "first_use" / f"{_key(label)}.json"

    @contextmanager
    def lock(self, label: str) -> Iterator[None]:
        """Hold the item alone among all processes; released by the system if the process dies."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        # to be read, so that another user of the cache may hold it too
        handle = os.open(folder / _key(label), os.O_RDONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder on the cache's own disk, gone afterwards."""
        folder = self.root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            yield Path(name)

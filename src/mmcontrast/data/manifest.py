"""What lies in data/raw/<dataset>/ by name and checksum, as `fetch` wrote it. `status` looks at names only."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from mmcontrast import paths
from mmcontrast.config import Dataset, Grid, LocalSource, Source
from mmcontrast.config.datasets import IN_PLACE, ArchiveSource, NpmSource, RemoteSource, UrlSource, WheelSource
from mmcontrast.data.files import inside, read_json, sha256_of
from mmcontrast.data.outside import preparer
from mmcontrast.errors import ConfigError, DataError, FetchError

MANIFEST = "manifest.json"


def label(source: Source) -> str:
    """What a source is called in messages, manifests and the cache: its URL, `name==version` or `name@version`."""
    if isinstance(source, UrlSource | ArchiveSource):
        return source.url
    if isinstance(source, LocalSource):
        return f"your copy of {source.path}"
    return source.requirement if isinstance(source, WheelSource) else source.package


def pinned(source: Source) -> bool:
    """Whether params/ gives its checksum, so that its bytes are known before they are read.

    Wheels and npm packages always are, and are unpacked without a guard against bombs; of an archive its members are,
    and no more is read than they take. A URL's file may be unpinned and what a user puts there always is: readers of
    csv, MATLAB, pickles and Parquet look at sizes before they read.
    """
    return source.sha256 is not None or isinstance(source, ArchiveSource)


def file_name(source: UrlSource) -> str:
    """Last part of the source's path, percent-escapes decoded."""
    return mirror_path(source).rsplit("/", 1)[-1]


def mirror_path(source: RemoteSource) -> str:
    """Path of a source below a mirror, percent-escapes decoded."""
    if isinstance(source, UrlSource | ArchiveSource):
        parts = urlsplit(source.url)
        return f"{parts.netloc}{unquote(parts.path)}"
    if isinstance(source, WheelSource):
        return f"wheel/{source.requirement}.whl"
    return f"npm/{source.package}.tgz"


def package_name(source: NpmSource) -> str:
    """The npm package without its version."""
    return source.package.rsplit("@", 1)[0]


def raw_path(raw_dir: Path, name: str) -> Path:
    """Where a source's file is: in the raw folder (else FetchError), or as it says if it begins with /, ./ or ../."""
    return Path(name) if name.startswith(IN_PLACE) else inside(raw_dir, name)


def raw_names(source: Source) -> list[str]:
    """Names, relative to the raw folder, of the files that a source gives."""
    if isinstance(source, WheelSource | ArchiveSource):
        return list(source.members)
    if isinstance(source, LocalSource):
        return [] if source.folder else [source.path]
    if isinstance(source, NpmSource):
        return [f"{package_name(source)}/{member}" for member in source.members]
    return [file_name(source)]


def verified_manifest(dataset_name: str, dataset: Dataset, raw_dir: Path | str) -> dict[str, Any]:
    """The manifest of a raw folder, all files there and unchanged. DataError: not so, or fetched for other params."""
    raw_dir = Path(raw_dir)
    path = raw_dir / MANIFEST
    again = f"run `mmcontrast data fetch {dataset_name}`"
    try:
        manifest: dict[str, Any] = read_json(path)
        files, sources = manifest["files"], _sources(manifest["sources"])
        if not isinstance(files, dict) or not all(isinstance(sha256, str) for sha256 in files.values()):
            raise ValueError("`files` does not give a checksum for each name")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, so {dataset_name} has not been fetched; {again}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as e:
        raise DataError(f"{path}: not a manifest ({e}); {again}") from None
    for source in dataset.sources:
        if label(source) not in sources or source.sha256 not in (None, sources[label(source)]):
            raise DataError(f"{path}: written for another source than {label(source)} of params/datasets; {again}")
        if isinstance(source, ArchiveSource) and any(files.get(n) != m.sha256 for n, m in source.members.items()):
            raise DataError(f"{path}: written for other members of {label(source)} than params/datasets lists; {again}")
    wanted = {name for source in dataset.sources for name in raw_names(source)}
    for name in sorted(wanted | set(files)):
        try:
            file = raw_path(raw_dir, name)
        except FetchError as e:
            raise DataError(f"{path}: {e}; {again}") from None
        if name not in files or not file.is_file():
            raise DataError(f"{file}: missing, there or in {MANIFEST}; {again}")
        got = sha256_of(file)
        if got != files[name]:
            raise DataError(
                f"{file}: changed since it was fetched (sha256 {got}, {MANIFEST} says {files[name]}); {again}"
            )
    return manifest


def _sources(sources: Any) -> dict[str, str | None]:
    """Source -> checksum, as written in a manifest; None for a folder of the user's own, which has none."""
    for source in sources:
        kinds = {key: type(value) for key, value in source.items() if (key, value) != ("sha256", None)}
        if {"sha256": str} | kinds != {"source": str, "sha256": str, "pinned": bool} or "sha256" not in source:
            raise ValueError("`sources` does not give source, sha256 and pinned for each")
    return {source["source"]: source["sha256"] for source in sources}


State = Literal["yes", "partly", "no", "not needed"]


@dataclass(frozen=True)
class Status:
    """One dataset's row; `next_step`: the command that brings it further, or "ready"."""

    name: str
    title: str
    licence: str
    rows: int
    fetched: State
    prepared: State
    next_step: str


def status(grid: Grid) -> list[Status]:
    """A row for every dataset in params/, whether the suite runs it or not."""
    return [_status(name, dataset, grid.root) for name, dataset in grid.datasets.items()]


def _status(name: str, dataset: Dataset, root: Path) -> Status:
    raw_dir = root / paths.raw_dir(name)
    fetched = _fetched(dataset, raw_dir)
    files = [root / paths.prepared(name, split) for split in paths.SPLITS] + [root / paths.datasheet(name)]
    prepared = _state(sum(file.is_file() for file in files), len(files))
    absent = [s for s in dataset.sources if isinstance(s, LocalSource) and not raw_path(raw_dir, s.path).exists()]
    step = f"mmcontrast data fetch {name}"
    if prepared == "yes":
        step = "ready"
    elif fetched in ("yes", "not needed"):
        step = f"mmcontrast data prepare {name}"
    elif absent:
        step = f"put {absent[0].path} into {paths.raw_dir(name)}/: {absent[0].how}"
    try:
        preparer(name, dataset)
    except ConfigError:
        step = "ready" if prepared == "yes" else "no reader in the pipeline yet"
    return Status(name, dataset.title, dataset.licence, dataset.rows, fetched, prepared, step)


def _fetched(dataset: Dataset, raw_dir: Path) -> State:
    if not dataset.sources:
        return "not needed"
    try:
        manifest = read_json(raw_dir / MANIFEST)
        listed = {*manifest["files"], *(source["source"] for source in manifest.get("sources", ()))}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        listed = set()
    there = [
        name in listed and (raw_dir / name).is_file() for source in dataset.sources for name in raw_names(source)
    ]  # of a folder the manifest has no files
    folders = [s for s in dataset.sources if isinstance(s, LocalSource) and s.folder]
    there += [label(s) in listed and raw_path(raw_dir, s.path).is_dir() for s in folders]
    return _state(sum(there), len(there))


def _state(found: int, wanted: int) -> State:
    if found == wanted:
        return "yes"
    return "partly" if found else "no"


def described(row: Status, dataset: Dataset) -> list[str]:
    """What it is, its size and terms, where to get each file and to put it, and whether its reader knows the layout."""
    raw_dir, split = Path(paths.raw_dir(row.name)), dataset.split.model_dump(include=set(paths.SPLITS))
    sizes = ", ".join(f"{part} {n:,}" if n >= 1 else f"{part} {n:.0%}" for part, n in split.items() if n)
    inputs = ", ".join(f"{m} ({s.kind}{f' {s.shape}' if s.shape else ''})" for m, s in dataset.modalities.items())
    files = {raw_path(raw_dir, name): label(s) for s in dataset.sources for name in raw_names(s)}
    own = [s for s in dataset.sources if isinstance(s, LocalSource)]
    files |= {raw_path(raw_dir, s.path): "to be put there by you" for s in own}
    absent = [path for path in files if not path.exists()]
    lines = [
        f"{row.name}: {row.title}",
        " ".join(dataset.description.split()),
        f"rows: {row.rows:,} ({sizes}); inputs: {inputs}",
        f"terms: {row.licence} ({'may' if dataset.redistribute else 'not to'} be given on)",
        *(f"file: {path}: {files[path] if path in absent else 'there'}" for path in files),
        *(f"how: {how}" for how in dict.fromkeys(s.how for s in own if raw_path(raw_dir, s.path) in absent)),
        f"fetched: {row.fetched}; prepared: {row.prepared}",
    ]
    if files and not absent and row.prepared != "yes":
        lines.append(f"layout: {recognised(row.name, dataset, raw_dir)}")
    return [*lines, f"next: {row.next_step}"]


def recognised(name: str, dataset: Dataset, raw_dir: Path) -> str:
    """What its reader says of the files from the first instance alone: "recognised", or what is wrong and where."""
    try:
        reader = importlib.import_module(f"mmcontrast.data.prepare.{preparer(name, dataset)}")
        next(iter(reader.stream(name, dataset, raw_dir).instances), None)
    except (ConfigError, DataError) as e:
        return f"not recognised: {e}"
    return "recognised, from the first row"

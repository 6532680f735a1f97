"""What of each dataset is there, and how to get the rest. Looks at names only: no file is read in full."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from mmcontrast import paths
from mmcontrast.config import Dataset, Grid, LocalSource, UrlSource
from mmcontrast.data.files import read_json
from mmcontrast.data.manifest import MANIFEST, label, raw_names
from mmcontrast.data.outside import preparer
from mmcontrast.errors import ConfigError

State = Literal["yes", "partly", "no", "not needed"]


@dataclass(frozen=True)
class Status:
    """One dataset's row.

    Attributes:
        source: where it comes from, in a few words.
        next_step: the command that brings it further, or "ready".
    """

    name: str
    title: str
    licence: str
    rows: int
    source: str
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
    absent = [s for s in dataset.sources if isinstance(s, LocalSource) and not (raw_dir / s.path).exists()]
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
    return Status(name, dataset.title, dataset.licence, dataset.rows, _source(dataset), fetched, prepared, step)


def _fetched(dataset: Dataset, raw_dir: Path) -> State:
    if not dataset.sources:
        return "not needed"
    wanted = [name for source in dataset.sources for name in raw_names(source)]
    try:
        listed = dict(read_json(raw_dir / MANIFEST)["files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        listed = {}
    return _state(sum(name in listed and (raw_dir / name).is_file() for name in wanted), len(wanted))


def _state(found: int, wanted: int) -> State:
    if found == wanted:
        return "yes"
    return "partly" if found else "no"


def _source(dataset: Dataset) -> str:
    if not dataset.sources:
        return "made by code"
    urls = [s for s in dataset.sources if isinstance(s, UrlSource)]
    others = [s for s in dataset.sources if not isinstance(s, UrlSource)]
    out = [label(s) if isinstance(s, LocalSource) else f"{s.kind} {label(s)}" for s in others]
    hosts = sorted({urlsplit(s.url).netloc for s in urls})
    if urls:
        out.append(f"{len(urls)} files from {', '.join(hosts)}")
    return "; ".join(out)

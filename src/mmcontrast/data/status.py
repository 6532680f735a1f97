"""All that a user wants to know of one dataset before its files are read for hours."""

import importlib
from pathlib import Path

from mmcontrast import paths
from mmcontrast.config import Dataset, LocalSource
from mmcontrast.data.manifest import Status, label, raw_names, raw_path
from mmcontrast.data.outside import preparer
from mmcontrast.errors import ConfigError, DataError


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

"""Files that a stage reads and no stage of the pipeline makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmcontrast.config import Dataset, LocalSource, Model, Pretrained
from mmcontrast.errors import ConfigError


def encoder_files(encoders: Mapping[str, Pretrained]) -> list[Path]:
    """Those of pretrained encoders in folders; of a hub id its commit, which the configuration has, says it all."""
    folders = sorted({spec.folder for spec in encoders.values() if spec.folder is not None})
    return [p for folder in folders for p in sorted(Path(folder).rglob("*")) if p.is_file()]


def own_files(dataset: Dataset) -> list[Path]:
    """Files of the user's own that stay where they are, those that there are: of its sources, not in folders."""
    local = [Path(s.path) for s in dataset.sources if isinstance(s, LocalSource) and s.in_place]
    return [path for path in local if path.is_file()]


def reader_files(dataset: Dataset) -> list[Path]:
    """The file of a reader of the user's own."""
    path = Path(str(dataset.prepare.get("file"))) if dataset.reader == "python" else None
    return [path] if path is not None and path.is_file() else []


def outside_files(model: Model) -> list[Path]:
    """Those of pretrained encoders and weights.

    Raises:
        ConfigError: there are no such weights.
    """
    found = encoder_files(model.pretrained)
    if model.image_weights is None:
        return found
    path = Path(model.image_weights)
    if not path.is_file():
        raise ConfigError(f"model.image_weights: {path}: no such file; name one relative to the checkout")
    return [*found, path]

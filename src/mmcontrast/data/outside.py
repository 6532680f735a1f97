"""Which module of `mmcontrast.data.prepare` reads a dataset, and files that no stage makes; without polars."""

import re
from collections.abc import Mapping
from pathlib import Path

from mmcontrast.config import Dataset, LocalSource, Model, Pretrained
from mmcontrast.errors import ConfigError, nearest

READS = re.compile(r"^def stream\(name: str,", re.MULTILINE)
# of a dataset made by code that has no module of its own, and of one whose inputs are another's
GENERATED, FEATURES = "synthetic", "features"


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
    """Those of pretrained encoders and weights. Raises ConfigError: there are no such weights."""
    found = encoder_files(model.pretrained)
    if model.image_weights is None:
        return found
    path = Path(model.image_weights)
    if not path.is_file():
        raise ConfigError(f"model.image_weights: {path}: no such file; name one relative to the checkout")
    return [*found, path]


def preparer(dataset_name: str, dataset: Dataset) -> str:
    """Name of the module: `reader` of the dataset's file, else the longest beginning of its name that is one.

    So `omniglot` reads omniglot_small too; generated data need their whole name for it. Raises ConfigError: none reads
    it.
    """
    if dataset.features_of is not None:
        return FEATURES
    folder = Path(__file__).parent / "prepare"
    readers = sorted(p.stem for p in folder.glob("*.py") if READS.search(p.read_text(encoding="utf-8")))
    words = dataset_name.split("_")
    tried = ["_".join(words[:n]) for n in range(len(words), 0, -1)]
    if dataset.reader is not None:
        tried = [dataset.reader]
    elif dataset.generate:
        tried = [dataset_name, GENERATED]
    found = next((name for name in tried if name in readers), None)
    if found is None:
        raise ConfigError(
            f"params/datasets/{dataset_name}.yaml: no module in mmcontrast.data.prepare reads '{tried[0]}'; write one, "
            f"or name one by `reader`; {nearest(tried[0], readers)}"
        )
    return found

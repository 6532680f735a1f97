"""Which module of `mmcontrast.data.prepare` reads a dataset; kept apart, so the workflow can ask without polars."""

from __future__ import annotations

import re
from pathlib import Path

from mmcontrast.config import Dataset
from mmcontrast.errors import ConfigError, nearest

READS = re.compile(r"^def (read|stream)\(name: str,", re.MULTILINE)
# of a dataset made by code that has no module of its own, and of one whose inputs are another's
GENERATED, FEATURES = "synthetic", "features"


def preparer(dataset_name: str, dataset: Dataset) -> str:
    """Name of the module: `reader` of the dataset's file, else the longest beginning of its name that is one.

    So `omniglot` reads omniglot_small too. Generated data need their whole name for it.

    Raises:
        ConfigError: there is none for this dataset.
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

"""Which module of `mmcontrast.data.prepare` reads a dataset; kept apart, so the workflow can ask without polars."""

from __future__ import annotations

from mmcontrast.config import Dataset
from mmcontrast.errors import ConfigError, nearest

PREPARERS = {
    "rosmap": "omics",
    "mogonet_brca": "omics",
    "tcga_brca": "tcga",
    "handwritten": "handwritten",
    "handwritten_tmc": "handwritten",
    "weak_modality": "weak_modality",
    "nyuv2": "nyuv2",
    "mosi": "mosi",
    "mosi_text": "mosi_text",
    "trifeature": "trifeature_files",
    "trifeature_biased": "trifeature_files",
    "trifeature_small": "trifeature_files",
    "trifeature_small_biased": "trifeature_files",
    "emoji": "emoji",
    "emoji_minilm": "emoji",
    "flickr30k": "flickr30k",
    "text2shape_tricolo": "text2shape",
    "text2shape_parts2words": "text2shape",
}
# of a dataset made by code that has no module of its own
GENERATED = "synthetic"


def preparer(dataset_name: str, dataset: Dataset) -> str:
    """Name of the module, e.g. `omics`.

    Raises:
        ConfigError: there is none for this dataset.
    """
    if dataset.generate:
        return PREPARERS.get(dataset_name, GENERATED)
    if dataset_name not in PREPARERS:
        raise ConfigError(
            f"params/datasets/{dataset_name}.yaml: no module in mmcontrast.data.prepare reads '{dataset_name}' (see "
            f"mmcontrast.data.preparers); {nearest(dataset_name, PREPARERS)}"
        )
    return PREPARERS[dataset_name]

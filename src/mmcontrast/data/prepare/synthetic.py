"""A generated dataset: one latent code drives every modality, and the classes overlap.

N instances, C classes, K latent width, d features of a modality. mu_c ~ N(0, I_K); z = mu_y + overlap * e; modality m
is z W_m / sqrt(K) + noise * e_m with W_m ~ N(0, 1), so that no modality knows the class better than z does.
"""

from pathlib import Path

import numpy as np
from pydantic import Field

from mmcontrast.config import Dataset, PublishedSplit, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.instances import Stream, from_arrays
from mmcontrast.errors import ConfigError


class Generate(Strict):
    """`generate` of a generated dataset."""

    latent: int = Field(gt=0, description="Width K of the code that all modalities share.")
    overlap: float = Field(ge=0, description="Spread of the code within a class; class centres have spread 1.")
    noise: float = Field(ge=0, description="Spread of each modality's own noise.")
    seed: int = Field(ge=0)


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All instances, labels in turn 0, 1, ..., C-1, 0, ..."""
    where = f"params/datasets/{name}.yaml"
    params = validate(Generate, dataset.generate, where, prefix="generate")
    if isinstance(dataset.split, PublishedSplit):
        raise ConfigError(f"{where}: split: a generated dataset has no published split; give `kind: random`")
    rng = np.random.default_rng(params.seed)
    labels_N = np.arange(dataset.rows, dtype=np.int64) % len(dataset.classes)
    centres_CK = rng.standard_normal((len(dataset.classes), params.latent))
    codes_NK = centres_CK[labels_N] + params.overlap * rng.standard_normal((dataset.rows, params.latent))
    inputs = {}
    for modality, spec in dataset.modalities.items():
        weights_Kd = rng.standard_normal((params.latent, spec.shape[0])) / np.sqrt(params.latent)
        # einsum adds in one fixed order; a threaded matrix product may differ in the last bit between machines
        signal_Nd = np.einsum("nk,kd->nd", codes_NK, weights_Kd, optimize=False)
        inputs[modality] = signal_Nd + params.noise * rng.standard_normal(signal_Nd.shape)
    return from_arrays(labels_N, inputs)

"""A generated dataset in which one modality is easily ignored, and whose factors are known.

Modality m observes x_m = gain_m (share * s A_m + p_m B_m) + noise e_m, with a factor s (width S) that all modalities
share, a private factor p_m (width P) each, and fixed mixing matrices. All factors are standard normal. Under view noise
of one size for all modalities the gain decides how much two views of a modality have in common: a tuple is told from
others by the strong ones alone, and plain tuple contrast can drop the private factor of a weak one. Each factor's class
is the sign of its first coordinate; the label is that of the LAST modality's private factor, and the other factors
(`shared`, and each modality by name) are the tasks a dataset's file may ask for. N instances, d features of a modality.
"""

from pathlib import Path

import numpy as np
from pydantic import Field

from mmcontrast.config import Dataset, PublishedSplit, validate
from mmcontrast.config.base import Strict, known
from mmcontrast.data.instances import Stream, from_arrays
from mmcontrast.errors import ConfigError


class Generate(Strict):
    """`generate` of the dataset's file."""

    shared: int = Field(gt=0, description="Width S of the factor that all modalities observe.")
    private: int = Field(gt=0, description="Width P of each modality's own factor.")
    share: float = Field(ge=0, description="Size of the shared factor's part; the private factor's part has size 1.")
    gain: dict[str, float] = Field(min_length=2, description="Modality: size of its signal, in units of view noise.")
    noise: float = Field(ge=0, description="Standard deviation of each observation's own noise.")
    seed: int = Field(ge=0)


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All instances."""
    where = f"params/datasets/{name}.yaml"
    params = validate(Generate, dataset.generate, where, prefix="generate")
    if isinstance(dataset.split, PublishedSplit):
        raise ConfigError(f"{where}: split: a generated dataset has no published split; give `kind: random`")
    known(f"{where}: generate.gain", "value for modality", dataset.modalities, params.gain)
    known(f"{where}: generate.gain", "modality", params.gain, dataset.modalities)
    for task, target in dataset.targets.items():
        if target.width != 2:
            key = f"tasks.{task}" if task else "classes"
            raise ConfigError(f"{where}: {key}: a factor's sign has two classes, not {target.width}")
    rng = np.random.default_rng(params.seed)
    shared_NS = rng.standard_normal((dataset.rows, params.shared))
    factors = {"shared": shared_NS}
    inputs = {}
    for modality, spec in dataset.modalities.items():
        private_NP = rng.standard_normal((dataset.rows, params.private))
        mix_Sd = rng.standard_normal((params.shared, *spec.shape)) / np.sqrt(params.shared)
        mix_Pd = rng.standard_normal((params.private, *spec.shape)) / np.sqrt(params.private)
        # einsum adds in one fixed order; a threaded matrix product may differ in the last bit between machines
        signal_Nd = params.share * np.einsum("ns,sd->nd", shared_NS, mix_Sd, optimize=False)
        signal_Nd = signal_Nd + np.einsum("np,pd->nd", private_NP, mix_Pd, optimize=False)
        noise_Nd = params.noise * rng.standard_normal(signal_Nd.shape)
        inputs[modality] = params.gain[modality] * signal_Nd + noise_Nd
        factors[modality] = private_NP
    labels = {factor: (values[:, 0] > 0).astype(np.int64) for factor, values in factors.items()}
    label_N = labels.pop(next(reversed(labels)))
    known(f"{where}: tasks: beside that of the label", "factor", dataset.tasks, labels)
    return from_arrays(label_N, inputs, tasks={task: labels[task] for task in dataset.tasks})

"""A generated set of three modalities of which any two are independent, and all three together are not.

Each modality holds T bits and a private factor: x_m = gain * (2 bits - 1) A_m + p_m B_m + noise e_m, with fixed mixing
matrices and standard normal p_m and e_m. An instance is even where the third modality's bits are the first's XOR the
second's, and odd where each is the opposite. Of the biased arm the pretraining instances are all even: that is what
there is to learn of three modalities at once; the unbiased arm is its control, and both are scored on its instances.
The bits of all combinations stand equally often in every split, so that neither sums over modalities nor any pair of
them tell even from odd: a probe of them scores 50.

N instances, T bits of a modality, P width of a private factor, d features.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from pydantic import Field

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.errors import ConfigError
from mmcontrast.paths import SPLITS

SIGNS = ["negative", "positive"]
PARITY = ["even", "odd"]


class Generate(Strict):
    """`generate` of the dataset's file."""

    bits: int = Field(gt=0, le=4, description="Bits T of each modality.")
    private: int = Field(gt=0, description="Width P of each modality's own factor.")
    gain: float = Field(gt=0, description="Size of the bits' part; the private factor's part has size 1.")
    noise: float = Field(ge=0, description="Standard deviation of each observation's own noise.")
    biased: bool = Field(default=False, description="All instances of train are even.")
    seed: int = Field(ge=0)


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All instances."""
    where = f"params/datasets/{name}.yaml"
    params = validate(Generate, dataset.generate, where, prefix="generate")
    words = ["".join(map(str, word)) for word in product((0, 1), repeat=params.bits)]
    tasks = {"private2": SIGNS, "private3": SIGNS, **{f"bits{m}": words for m in (1, 2, 3)}, "parity": PARITY}
    for key, value, wanted in (("classes", dataset.classes, SIGNS), ("tasks", dataset.tasks, tasks)):
        if value != wanted:
            raise ConfigError(f"{where}: {key}: `generate` makes {wanted}, and the file says {value}")
    if [m.kind for m in dataset.modalities.values()] != ["vector"] * 3:
        raise ConfigError(f"{where}: modalities: `generate` makes three vectors")
    for split in SPLITS:
        n = getattr(dataset.split, split)
        if dataset.split.kind != "published" or n % (cells := 2 * len(words) ** 2):
            raise ConfigError(f"{where}: split: give `kind: published` and multiples of {cells}; {split} is {n}")
    if params.biased != (dataset.probe_from is not None):
        raise ConfigError(f"{where}: probe_from: name the unbiased dataset where `generate.biased` is true, only there")
    rule = "each split is drawn by itself, with every combination of bits equally often"
    return Stream(_instances(dataset, params), split_rule=rule)


def _instances(dataset: Dataset, params: Generate) -> Iterator[Instance]:
    rng = np.random.default_rng(params.seed)
    mixes = [
        [rng.standard_normal((width, *spec.shape)) / np.sqrt(width) for width in (params.bits, params.private)]
        for spec in dataset.modalities.values()
    ]
    for s, split in enumerate(SPLITS):
        n, biased = getattr(dataset.split, split), params.biased and split == "train"
        rng = np.random.default_rng([params.seed, s, biased])
        bits_3NT, parity_N = _bits(params.bits, n, biased, rng)
        private_3NP = rng.standard_normal((3, n, params.private))
        values = []
        for (mix_Td, mix_Pd), bits_NT, private_NP in zip(mixes, bits_3NT, private_3NP, strict=True):
            # einsum adds in one fixed order; a threaded matrix product may differ in the last bit between machines
            signal_Nd = params.gain * np.einsum("nt,td->nd", 2.0 * bits_NT - 1, mix_Td, optimize=False)
            signal_Nd += np.einsum("np,pd->nd", private_NP, mix_Pd, optimize=False)
            values.append(signal_Nd + params.noise * rng.standard_normal(signal_Nd.shape))
        words_3N = bits_3NT @ (1 << np.arange(params.bits)[::-1])
        signs_3N = (private_3NP[:, :, 0] > 0).astype(int)
        for i in range(n):
            of_bits = {f"bits{m + 1}": int(words_3N[m, i]) for m in range(3)}
            tasks = {"private2": int(signs_3N[1, i]), "private3": int(signs_3N[2, i]), **of_bits}
            x = {m: value[i] for m, value in zip(dataset.modalities, values, strict=True)}
            name = f"{split}{'-biased' * biased}-{i:05d}"
            yield Instance(name, x, int(signs_3N[0, i]), split, tasks | {"parity": int(parity_N[i])})


def _bits(t: int, n: int, biased: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(3, N, T) bits and (N,) parity, in a random order: each combination as often as every other."""
    cells = np.array(list(product((0, 1), repeat=2 * t + 1)))
    if biased:
        cells = cells[cells[:, -1] == 0]
    rows = rng.permutation(np.arange(n) % len(cells))
    first, second, odd = cells[rows, :t], cells[rows, t : 2 * t], cells[rows, -1]
    return np.stack([first, second, first ^ second ^ odd[:, None]]), odd

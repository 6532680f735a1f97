"""Where randomness comes from: one seed a run, a stream of its own for every purpose, all of it saved and restored."""

import hashlib
import random
from typing import Any

import numpy as np
import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A seed in 0 .. 2**63 - 1 that depends on nothing but the run's seed and what it is for.

    Hashed, so that neighbouring seeds give unrelated streams and no two purposes share one.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def named_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A generator that belongs to one purpose, e.g. `named_generator(3, "order")`.

    The same on every rank unless the rank is part of the purpose.
    """
    generator = torch.Generator()
    generator.manual_seed(derived_seed(seed, *purpose))
    return generator


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed the global generators of python, numpy and torch (CPU and CUDA).

    Ranks get different streams, so that their dropout masks differ; rank 0's are those of a single process.
    """
    random.seed(derived_seed(seed, "python", rank))
    np.random.seed(derived_seed(seed, "numpy", rank) % 2**32)
    torch.manual_seed(derived_seed(seed, "torch", rank))


def random_state() -> dict[str, Any]:
    """State of every global generator, as tensors and plain values that `torch.load(weights_only=True)` accepts."""
    numpy_state: Any = np.random.get_state(legacy=True)
    name, key, *rest = numpy_state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(key.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
    }


def restore(state: dict[str, Any]) -> None:
    """Put every global generator back to what `random_state` saw."""
    random.setstate(state["python"])
    name, key, *rest = state["numpy"]
    np.random.set_state((name, key.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and state["cuda"]:
        # of the device in use: where training goes on, others may be seen
        torch.cuda.set_rng_state(state["cuda"][0].cpu())

"""What one seed of one stage leaves behind; tensors of evaluated epochs are kept in files beside the checkpoints.

What has been evaluated since the last checkpoint is written with the next one, into one file whose name is its sha256.
A checkpoint names the files, so that it does not grow with the epochs before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from mmcontrast.data.files import replacing
from mmcontrast.errors import TrainingError
from mmcontrast.methods.base import History

# the epoch, then names such as the split
Key = tuple[Any, ...]
SUFFIX = ".safetensors"


class EpochTensors(Mapping[Key, Tensor]):
    """Tensors on the CPU by epoch and names, in the order in which they came.

    Args:
        folder: of their files. files: sha256 of a file -> the keys of what is in it, for a checkpoint.
    """

    def __init__(self, folder: Path, files: dict[str, list[Key]] | None = None) -> None:
        self.folder, self.files = folder, {} if files is None else files
        self.new: dict[Key, Tensor] = {}
        self._last: tuple[str, dict[str, Tensor]] = ("", {})

    def __setitem__(self, key: Key, tensor: Tensor) -> None:
        self.new[key] = tensor

    def __getitem__(self, key: Key) -> Tensor:
        """See the class.

        Raises:
            TrainingError: its file is not as it was written.
        """
        if key in self.new:
            return self.new[key]
        for name, keys in self.files.items():
            if key in keys:
                return self._read(name)[str(keys.index(key))]
        raise KeyError(key)

    def __iter__(self) -> Iterator[Key]:
        for keys in self.files.values():
            yield from keys
        yield from self.new

    def __len__(self) -> int:
        return sum(map(len, self.files.values())) + len(self.new)

    def write(self) -> None:
        """Put what is new onto the disk."""
        if not self.new:
            return
        content = save({str(i): tensor.contiguous() for i, tensor in enumerate(self.new.values())})
        name = hashlib.sha256(content).hexdigest()
        with replacing(self.folder / f"{name}{SUFFIX}") as temporary:
            temporary.write_bytes(content)
        self.files[name], self.new = list(self.new), {}

    def sums(self) -> dict[Path, str]:
        """File -> its sha256."""
        return {self.folder / f"{name}{SUFFIX}": name for name in self.files}

    def _read(self, name: str) -> dict[str, Tensor]:
        """The last file is kept in memory, as the next tensor is mostly in it too."""
        if self._last[0] != name:
            path = self.folder / f"{name}{SUFFIX}"
            content = path.read_bytes() if path.exists() else b""
            if hashlib.sha256(content).hexdigest() != name:
                raise TrainingError(
                    f"{path}: missing, or not as it was written; run the same command again, which goes on from an "
                    "earlier checkpoint or trains anew"
                )
            self._last = name, load(content)
        return self._last[1]


@dataclass
class SeedRun:
    """What one seed of one stage leaves behind.

    Attributes:
        kept: of each evaluated epoch, on rank 0. Of a cell that its classifier scores (epoch, split) -> (n, C) float32
            outputs; of one scored by retrieval (epoch, split, modality) -> (P, D) float32 unit rows of observations.
        history: (epoch, name, value) of every logged scalar.
        instance: (split, modality) -> (P,) int64 row in the split of each observation's instance.
        best_key: how the selected epoch scored on validation (larger is better); None before the first evaluation.
        best_epoch: the epoch `weights` belong to.
        weights: state dict of the selected epoch, or of the last one where nothing is selected; on rank 0 alone.
    """

    kept: EpochTensors
    history: History = field(default_factory=list)
    instance: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    best_key: list[float] | None = None
    best_epoch: int = -1
    weights: dict[str, Tensor] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """As plain values and tensors, for a checkpoint; what is kept of epochs goes into files of its own."""
        self.kept.write()
        return vars(self) | {"kept": self.kept.files}

    @classmethod
    def from_payload(cls, folder: Path, payload: dict[str, Any]) -> SeedRun:
        """Inverse of `payload`. `folder`: of what is kept."""
        return cls(**payload | {"kept": EpochTensors(folder, payload["kept"])})

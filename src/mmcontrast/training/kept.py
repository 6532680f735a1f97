"""Tensors of evaluated epochs, kept in files beside the checkpoints until outputs are made of them.

What has been evaluated since the last checkpoint is written with the next one, into one file whose name is its sha256.
A checkpoint names the files, so that it does not grow with the epochs before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from mmcontrast.data.files import replacing
from mmcontrast.errors import TrainingError

# the epoch, then names such as the split
Key = tuple[Any, ...]
SUFFIX = ".safetensors"


class EpochTensors(MutableMapping[Key, Tensor]):
    """Tensors on the CPU by epoch and names, in the order in which they came.

    Args:
        folder: of their files. files: sha256 of a file -> the keys of what is in it.
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

    def __delitem__(self, key: Key) -> None:
        raise TypeError("what an epoch has left is not taken back")

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

    def payload(self) -> list[Any]:
        """What is written, as plain values, for a checkpoint."""
        return [[name, [list(key) for key in keys]] for name, keys in self.files.items()]

    @classmethod
    def from_payload(cls, folder: Path, payload: list[Any]) -> EpochTensors:
        """Inverse of `payload`."""
        return cls(folder, {name: [tuple(key) for key in keys] for name, keys in payload})

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

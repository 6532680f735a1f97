"""Training state on disk: whole or not there, checked before it is believed, never of another configuration.

    folder/
      checkpoint-000007/        at most two of these; gets its name last of all, and the highest number is the newest
        rank0.pt ...            payload of each rank, loaded with `weights_only=True` alone
        manifest.json           step, fingerprint, number of ranks, sha256 of each file, and of files beside it

A process may die at any point of `save`: the checkpoint before is still complete. A payload is a mapping of strings to
tensors and plain python values, nested at will. What has been evaluated since the last checkpoint is written with the
next one, into a file named by its sha256; a checkpoint names these, so that it does not grow with the epochs before it.
"""

import hashlib
import io
import json
import logging
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mmcontrast.data.files import replacing, sha256_of, write_json
from mmcontrast.errors import TrainingError
from mmcontrast.methods.base import History
from mmcontrast.training.distributed import World

log = logging.getLogger(__name__)

KEEP = 2
MANIFEST = "manifest.json"
NAME = "checkpoint-"

Payload = dict[str, Any]


def save(
    folder: Path, step: int, payload: Payload, fingerprint: str, world: World, beside: Mapping[Path, str] | None = None
) -> Path:
    """Write a checkpoint and make it the newest; the two newest are kept. Every rank calls it with its own payload.

    folder: of this run alone, on a disk that all ranks see. step: how far training is; recorded, not interpreted.
    fingerprint: of the configuration; `load_latest` refuses any other. beside: files below `folder` -> sha256, without
    which the checkpoint is worth nothing; rank 0's count. Gives the folder of the checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # a number never used before, so that a new checkpoint never has to replace an old one
    numbers = [int(name.removeprefix(NAME)) for name in _complete(folder)] if world.rank == 0 else []
    name = world.broadcast_object(f"{NAME}{max(numbers, default=-1) + 1:06d}")
    draft = folder / f".{name}"
    if world.rank == 0:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
    world.barrier()
    file = f"rank{world.rank}.pt"
    content = io.BytesIO()
    torch.save(payload, content)
    with replacing(draft / file) as temporary:
        # not by torch, whose own error hides what the disk says
        temporary.write_bytes(content.getbuffer())
    files = dict(world.gather_objects((file, sha256_of(draft / file))))
    if world.rank == 0:
        needed = {str(path.relative_to(folder)): digest for path, digest in (beside or {}).items()}
        manifest = {"step": step, "fingerprint": fingerprint, "ranks": world.size, "files": files, "beside": needed}
        write_json(draft / MANIFEST, manifest)
        _sync(draft)
        os.replace(draft, folder / name)
        _sync(folder)
        for old in [*_complete(folder)[KEEP:], *(p.name for p in folder.glob(f".{NAME}*"))]:
            shutil.rmtree(folder / old, ignore_errors=True)
    world.barrier()
    return folder / name


def load_latest(folder: Path, fingerprint: str, world: World) -> Payload | None:
    """This rank's payload of the newest checkpoint that is whole on every rank, tensors on the CPU.

    A broken one is passed over with a warning that names what is broken. None where nothing usable is left, and where
    the checkpoints are of another configuration or another number of ranks: such state is never resumed.
    """
    names = world.broadcast_object(_complete(folder) if world.rank == 0 else None)
    for name in names:
        payload, problem = _read(folder / name, fingerprint, world)
        problems = [p for p in world.gather_objects(problem) if p is not None]
        if not problems:
            return payload
        if world.rank == 0:
            log.warning("checkpoint %s is passed over: %s", folder / name, "; ".join(problems))
    return None


def remove(folder: Path, world: World) -> None:
    """Delete all checkpoints of a run that has ended."""
    world.barrier()
    if world.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
    world.barrier()


def _complete(folder: Path) -> list[str]:
    """Names of checkpoints, newest first. A name without a leading dot was given only to a complete one."""
    return sorted((p.name for p in folder.glob(f"{NAME}*")), key=lambda name: (len(name), name), reverse=True)


def _read(folder: Path, fingerprint: str, world: World) -> tuple[Payload | None, str | None]:
    """(payload, None), or (None, what is wrong)."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        written, ranks, files = manifest["fingerprint"], manifest["ranks"], manifest["files"]
        beside = manifest["beside"].items() if world.rank == 0 else []
    except (OSError, ValueError, KeyError, TypeError) as e:
        return None, f"{MANIFEST} cannot be read ({type(e).__name__}: {e})"
    if written != fingerprint:
        return None, "it was written under another configuration (fingerprint differs)"
    if ranks != world.size:
        return None, f"it was written by {ranks} rank(s), not {world.size}"
    file = f"rank{world.rank}.pt"
    try:
        if sha256_of(folder / file) != files.get(file):
            return None, f"{file} does not have the checksum in {MANIFEST}"
        for name, digest in beside:
            if sha256_of(folder.parent / name) != digest:
                return None, f"{name} beside it does not have the checksum in {MANIFEST}"
        return torch.load(folder / file, map_location="cpu", weights_only=True), None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as e:
        return None, f"{file} cannot be read ({type(e).__name__}: {e})"


def _sync(folder: Path) -> None:
    """See a folder's names onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# the epoch, then names such as the split
Key = tuple[Any, ...]
SUFFIX = ".safetensors"


class EpochTensors(Mapping[Key, Tensor]):
    """Tensors on the CPU by epoch and names, in the order in which they came.

    files: sha256 of a file in `folder` -> the keys of what is in it, for a checkpoint.
    """

    def __init__(self, folder: Path, files: dict[str, list[Key]] | None = None) -> None:
        self.folder, self.files = folder, {} if files is None else files
        self.new: dict[Key, Tensor] = {}
        self._last: tuple[str, dict[str, Tensor]] = ("", {})

    def __setitem__(self, key: Key, tensor: Tensor) -> None:
        self.new[key] = tensor

    def __getitem__(self, key: Key) -> Tensor:
        """Raises TrainingError if its file is not as it was written."""
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
        content = save_tensors({str(i): tensor.contiguous() for i, tensor in enumerate(self.new.values())})
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
            self._last = name, load_tensors(content)
        return self._last[1]


@dataclass
class SeedRun:
    """What one seed of one stage leaves behind.

    Attributes:
        kept: of each evaluated epoch, on rank 0: (epoch, split) -> (n, C) float32 outputs of a classifier, or for
            retrieval (epoch, split, modality) -> (P, D) float32 unit rows of observations.
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

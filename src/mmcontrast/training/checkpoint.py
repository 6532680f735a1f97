"""Training state on disk: whole or not there, checked before it is believed, never of another configuration.

    folder/
      checkpoint-000007/        at most two of these; gets its name last of all, and the highest number is the newest
        rank0.pt ...            payload of each rank, loaded with `weights_only=True` alone
        manifest.json           step, fingerprint, number of ranks, sha256 of each file, and of files beside it

A process may die at any point of `save`: the checkpoint before is still complete. A payload is a mapping of
strings to tensors and plain python values (numbers, strings, None, lists, dicts), nested at will.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmcontrast.data.files import sha256_of, write_json
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

    Args:
        folder: of this run alone, on a disk that all ranks see.
        step: how far training is; recorded, not interpreted.
        fingerprint: of the configuration; `load_latest` refuses any other.
        beside: files below `folder` -> sha256, without which the checkpoint is worth nothing; rank 0's count.

    Returns:
        The folder of the checkpoint.
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
    file = _rank_file(world.rank)
    _write(draft / file, payload)
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


def _rank_file(rank: int) -> str:
    return f"rank{rank}.pt"


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
    file = _rank_file(world.rank)
    try:
        if sha256_of(folder / file) != files.get(file):
            return None, f"{file} does not have the checksum in {MANIFEST}"
        for name, digest in beside:
            if sha256_of(folder.parent / name) != digest:
                return None, f"{name} beside it does not have the checksum in {MANIFEST}"
        return torch.load(folder / file, map_location="cpu", weights_only=True), None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as e:
        return None, f"{file} cannot be read ({type(e).__name__}: {e})"


def _write(path: Path, payload: Payload) -> None:
    """Write a payload and see it onto the disk; what the disk says, torch raises an error of its own over.

    Raises:
        OSError: of the disk, with the path.
    """
    try:
        with path.open("wb") as handle:
            torch.save(payload, handle)
            handle.flush()
            os.fsync(handle.fileno())
    except (OSError, RuntimeError) as e:
        found: BaseException = e
        while not isinstance(found, OSError):
            if found.__context__ is None:
                raise
            found = found.__context__
        found.filename = found.filename or str(path)
        raise found from None


def _sync(folder: Path) -> None:
    """See a folder's names onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

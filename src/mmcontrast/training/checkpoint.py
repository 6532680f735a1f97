"""Training state on disk: whole or not there, checked before it is believed, never of another configuration.

    folder/
      latest                    name of the newest complete checkpoint; swapped in atomically, last of all
      checkpoint-000007/        at most two of these
        rank0.pt ...            payload of each rank, loaded with `weights_only=True` alone
        manifest.json           step, fingerprint, number of ranks, sha256 of each file, and of files beside it

A process may die at any point of `save`: what `latest` named before is still complete. A payload is a mapping of
strings to tensors and plain python values (numbers, strings, None, lists, dicts), nested at will.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mmcontrast.training.distributed import World

log = logging.getLogger(__name__)

KEEP = 2
POINTER = "latest"
MANIFEST = "manifest.json"
NAME = re.compile(r"checkpoint-(\d{6,})")

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
    name = world.broadcast_object(_next_name(folder) if world.rank == 0 else None)
    draft = folder / f".{name}"
    if world.rank == 0:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
    world.barrier()
    file = _rank_file(world.rank)
    _write(draft / file, lambda handle: torch.save(payload, handle))
    files = dict(world.gather_objects((file, _sha256(draft / file))))
    if world.rank == 0:
        needed = {str(path.relative_to(folder)): digest for path, digest in (beside or {}).items()}
        manifest = {"step": step, "fingerprint": fingerprint, "ranks": world.size, "files": files, "beside": needed}
        text = json.dumps(manifest, indent=2) + "\n"
        _write(draft / MANIFEST, lambda handle: handle.write(text.encode()))
        _sync(draft)
        os.replace(draft, folder / name)
        _sync(folder)
        pointer = folder / f".{POINTER}"
        _write(pointer, lambda handle: handle.write(f"{name}\n".encode()))
        os.replace(pointer, folder / POINTER)
        _sync(folder)
        _drop_old(folder, name)
    world.barrier()
    return folder / name


def load_latest(folder: Path, fingerprint: str, world: World) -> Payload | None:
    """This rank's payload of the newest checkpoint that is whole on every rank, tensors on the CPU.

    A broken one is passed over with a warning that names what is broken. None where nothing usable is left, and where
    the checkpoints are of another configuration or another number of ranks: such state is never resumed.
    """
    names = world.broadcast_object(_candidates(folder) if world.rank == 0 else None)
    for name in names:
        payload, problem = _read(folder / name, fingerprint, world)
        problems = [p for p in world.gather_objects(problem) if p is not None]
        if not problems:
            return payload
        if world.rank == 0:
            log.warning("checkpoint %s is passed over: %s", folder / name, "; ".join(problems))
    return None


def latest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint that has a readable manifest, for messages; None where there is none."""
    for name in _complete(folder):
        try:
            return int(json.loads((folder / name / MANIFEST).read_text(encoding="utf-8"))["step"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def remove(folder: Path, world: World) -> None:
    """Delete all checkpoints of a run that has ended."""
    world.barrier()
    if world.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
    world.barrier()


def _rank_file(rank: int) -> str:
    return f"rank{rank}.pt"


def _number(name: str) -> int:
    match = NAME.fullmatch(name)
    return int(match.group(1)) if match else -1


def _complete(folder: Path) -> list[str]:
    """Names of checkpoints, newest first. A name without a leading dot was given only to a complete one."""
    found = [p.name for p in folder.iterdir() if p.is_dir() and _number(p.name) >= 0] if folder.is_dir() else []
    return sorted(found, key=_number, reverse=True)


def _next_name(folder: Path) -> str:
    """A number never used before, so that a new checkpoint never has to replace an old one."""
    return f"checkpoint-{max(map(_number, _complete(folder)), default=-1) + 1:06d}"


def _candidates(folder: Path) -> list[str]:
    """What may be loaded: first what `latest` names, then the others, newest first."""
    names = _complete(folder)
    try:
        first = (folder / POINTER).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        if names:
            log.warning("%s has checkpoints but no file '%s'; the newest whole one is taken", folder, POINTER)
        return names
    if first not in names:
        log.warning("%s names %r, which is not there; the newest whole checkpoint is taken", folder / POINTER, first)
        return names
    return [first, *(n for n in names if n != first)]


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
        if _sha256(folder / file) != files.get(file):
            return None, f"{file} does not have the checksum in {MANIFEST}"
        for name, digest in beside:
            if _sha256(folder.parent / name) != digest:
                return None, f"{name} beside it does not have the checksum in {MANIFEST}"
        return torch.load(folder / file, map_location="cpu", weights_only=True), None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as e:
        return None, f"{file} cannot be read ({type(e).__name__}: {e})"


def _drop_old(folder: Path, newest: str) -> None:
    """Keep `newest` and the ones before it, KEEP in all; unfinished drafts go too."""
    older = [n for n in _complete(folder) if _number(n) < _number(newest)]
    drafts = [p.name for p in folder.glob(".checkpoint-*")]
    for name in [*older[KEEP - 1 :], *drafts]:
        shutil.rmtree(folder / name, ignore_errors=True)


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file and see it onto the disk."""
    try:
        with path.open("wb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
    except (OSError, RuntimeError) as e:
        problem = _disk_error(e)
        problem.filename = problem.filename or str(path)
        raise problem from None


def _disk_error(error: BaseException) -> OSError:
    """What the disk said: torch raises an error of its own over it when it closes the file.

    Raises:
        RuntimeError: it was another error.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError):
            return found
        found = found.__context__
    raise error


def _sync(folder: Path) -> None:
    """See a folder's names onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()

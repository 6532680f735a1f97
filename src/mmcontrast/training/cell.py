"""Run one stage of a cell: all its seeds in one process, then everything it leaves behind, written atomically."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from mmcontrast import __version__, paths
from mmcontrast.config import CellConfig
from mmcontrast.data.clip_files import read_clip
from mmcontrast.data.files import replacing, sha256_of, write_json
from mmcontrast.data.loading import Table, load_dataset
from mmcontrast.data.table import task_column
from mmcontrast.data.tokens import tokenised
from mmcontrast.data.word_pieces import WordPieces
from mmcontrast.errors import TrainingError
from mmcontrast.evaluation.readouts import column as readout_column
from mmcontrast.methods.build import build_method
from mmcontrast.methods.registry import method_module
from mmcontrast.paths import Layout
from mmcontrast.sources import sources
from mmcontrast.training import checkpoint
from mmcontrast.training.distributed import World, start_world
from mmcontrast.training.interrupt import StopRequest
from mmcontrast.training.loop import SeedRun, SeedTrainer, embed
from mmcontrast.training.retrieving import observation_table

log = logging.getLogger(__name__)


def fingerprint(cell: CellConfig, stage: str, pretrained: Path | None) -> str:
    """sha256 of everything that decides the stage's result: parameters, data, code, starting weights, torch."""
    digest = hashlib.sha256()
    digest.update(json.dumps([stage, cell.model_dump(mode="json"), torch.__version__], sort_keys=True).encode())
    files = [Path(paths.prepared(*part)) for part in cell.data]
    files += [Path(f) for f in sources("mmcontrast.training.cell", method_module(cell.implementation))]
    if pretrained is not None:
        files += sorted(pretrained.glob("*.safetensors"))
    if cell.model.clip is not None:
        files += read_clip(cell.model.clip).files
    for file in files:
        digest.update(f"{file} {sha256_of(file)}".encode())
    return digest.hexdigest()


def launch_ranks(cell: CellConfig, arguments: list[str]) -> None:
    """Replace this process by torchrun with one process a rank, unless it is one already or one is enough.

    Each rank runs the very same command.
    """
    if cell.engine.ranks == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(cell.engine.ranks), "-m", "mmcontrast", *arguments]
    os.environ["OMP_NUM_THREADS"] = str(cell.engine.threads)
    sys.stdout.flush()
    os.execv(sys.executable, command)


def _initial_weights(pretrained: Path | None, seed: int) -> dict[str, Tensor] | None:
    if pretrained is None:
        return None
    file = pretrained / f"seed{seed}.safetensors"
    if not file.is_file():
        raise TrainingError(f"{file}: no pretrained weights for seed {seed}; run `mmcontrast pretrain` for this cell")
    return load_file(file)


def run_stage(
    cell: CellConfig,
    stage: str,
    layout: Layout,
    report: Callable[[int, int, int, dict[str, float]], None] = lambda seed, epoch, epochs, terms: None,
) -> dict[str, Any]:
    """Train every seed of a cell's stage and write its outputs under `layout.stage(cell.name, stage)`.

    Args:
        cell: what is trained. stage: pretrain | finetune. layout: where outputs and resume state go.
        report: called as report(seed, epoch, epochs, terms) after each epoch.

    Returns:
        The cost record that is also written as cost.json; its seconds count from the start of the process, imports
        included. Empty on ranks other than 0.

    Raises:
        TrainingError: the cell has no such stage, its loss is not finite, or another process is training it.
        StoppedError: SIGTERM came; the state is saved.
        DataError: the prepared data are missing, damaged or not what the cell expects.
    """
    if stage not in cell.stages:
        raise TrainingError(f"{cell.name}: has no stage '{stage}', only {cell.stages}")
    world = start_world(cell.engine)
    pretrained = Path(layout.stage(cell.name, "pretrain", "models")) if stage == "finetune" and cell.pretrain else None
    mark = fingerprint(cell, stage, pretrained)
    state = layout.state(cell.name, stage)
    runs: dict[int, SeedRun] = {}
    tables: dict[int, dict[str, Table]] = {}
    vocabularies: dict[int, dict[str, WordPieces]] = {}
    training, saving = 0.0, 0.0
    with _alone(state, cell, world), StopRequest() as stop:
        for seed in cell.seeds:
            tables[seed], vocabularies[seed] = tokenised(load_dataset(cell, Path("."), seed), cell)
            trainer = SeedTrainer(
                cell,
                stage,
                seed,
                tables[seed],
                world,
                state / f"seed{seed}",
                mark,
                _initial_weights(pretrained, seed),
                lambda epoch, terms, seed=seed: report(seed, epoch, getattr(cell, stage).epochs, terms),  # type: ignore[misc]
                stop,
            )
            before = time.perf_counter()
            runs[seed] = trainer.train()
            training += time.perf_counter() - before
            saving += trainer.saving_seconds
    cost: dict[str, Any] = {}
    if world.rank == 0:
        folder = Path(layout.stage(cell.name, stage))
        write_outputs(cell, stage, folder, runs, tables, world)
        _write_vocabularies(folder / "models", vocabularies)
        cost = {
            "seconds": time.time() - psutil.Process().create_time(),
            "training_seconds": training,
            "checkpoint_seconds": saving,
            "seeds": len(cell.seeds),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "parameters": sum(w.numel() for w in runs[cell.seeds[0]].weights.values()),
            "ranks": world.size,
            "device": world.device.type,
        }
        write_json(folder / "cost.json", cost)
    for seed in cell.seeds:
        checkpoint.remove(state / f"seed{seed}", world)
    return cost


@contextmanager
def _alone(state: Path, cell: CellConfig, world: World) -> Iterator[None]:
    """Hold the stage's resume state alone among all processes; released by the system if the process dies."""
    if world.rank != 0:
        yield
        return
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise TrainingError(
                f"{cell.name}: another process is training this stage (pid {handle.read().strip() or 'unknown'}, which "
                f"holds {state / 'lock'}); wait until it has ended, then run the command again"
            ) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def write_outputs(
    cell: CellConfig,
    stage: str,
    folder: Path,
    runs: dict[int, SeedRun],
    tables: dict[int, dict[str, Table]],
    world: World,
) -> None:
    """history, predictions (finetune), embeddings and models of a finished stage."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_parquet(_history(runs), folder / "history.parquet")
    if stage == "finetune":  # without rows where there is no classifier: the workflow expects the file
        _write_parquet(_predictions(cell, runs, tables), folder / "predictions.parquet")
    if cell.scored_by == "retrieval":
        embeddings = observation_table({seed: run.embedded for seed, run in runs.items()}, tables)
    else:
        embeddings = _embeddings(cell, runs, tables, world)
    _write_parquet(embeddings, folder / "embeddings.parquet")
    models = folder / "models"
    models.mkdir(exist_ok=True)
    for seed, run in runs.items():
        weights = {k: v.contiguous() for k, v in run.weights.items()}
        # one key alone: safetensors writes several in an order that changes from run to run
        metadata = {"mmcontrast": json.dumps({"epoch": run.best_epoch, "seed": seed, "version": __version__})}
        with replacing(models / f"seed{seed}.safetensors") as temporary:
            # not save_file, whose errors do not tell a full disk from anything else
            temporary.write_bytes(save(weights, metadata))
    write_json(models / "cell.json", cell.model_dump(mode="json"))


def _write_vocabularies(models: Path, vocabularies: dict[int, dict[str, WordPieces]]) -> None:
    """What a text encoder's weights mean nothing without."""
    for seed, of_seed in vocabularies.items():
        for modality, pieces in of_seed.items():
            value = {"pieces": pieces.pieces, "merges": [list(pair) for pair in pieces.merges]}
            write_json(models / f"seed{seed}.{modality}.json", value)


def _write_parquet(table: pa.Table, path: Path) -> None:
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _history(runs: dict[int, SeedRun]) -> pa.Table:
    rows = [(seed, *row) for seed, run in runs.items() for row in run.history]
    seeds, epochs, names, values = zip(*rows, strict=True) if rows else [()] * 4
    return pa.table(
        {
            "seed": pa.array(seeds, pa.int64()),
            "epoch": pa.array(epochs, pa.int64()),
            "name": pa.array(names, pa.string()),
            "value": pa.array(values, pa.float64()),
        }
    )


def _fixed(matrix: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _no_predictions(cell: CellConfig) -> pa.Table:
    fields = {"seed": pa.int64(), "epoch": pa.int64(), "split": pa.string(), "id": pa.string(), "label": pa.int64()}
    return pa.schema([*fields.items(), ("probs", pa.list_(pa.float32(), len(cell.classes)))]).empty_table()


def _predictions(cell: CellConfig, runs: dict[int, SeedRun], tables: dict[int, dict[str, Table]]) -> pa.Table:
    parts = [_no_predictions(cell)]
    for seed, run in runs.items():
        for (epoch, split), probs in run.probs.items():
            table = tables[seed][split]
            n = len(table)
            parts.append(
                pa.table(
                    {
                        "seed": pa.array(np.full(n, seed, dtype=np.int64)),
                        "epoch": pa.array(np.full(n, epoch, dtype=np.int64)),
                        "split": pa.array([split] * n),
                        "id": pa.array(table.ids),
                        "label": pa.array(table.labels.numpy()),
                        "probs": _fixed(probs.numpy()),
                    }
                )
            )
    return pa.concat_tables(parts).combine_chunks()


def _embeddings(
    cell: CellConfig, runs: dict[int, SeedRun], tables: dict[int, dict[str, Table]], world: World
) -> pa.Table:
    parts = []
    method = build_method(cell).to(world.device)
    for seed, run in runs.items():
        method.load_state_dict(run.weights)
        probed = tables[seed] | ({"train": tables[seed]["probe"]} if "probe" in tables[seed] else {})
        for split in paths.SPLITS:
            table = probed[split]
            if len(table) == 0:
                continue
            n = len(table)
            parts.append(
                pa.table(
                    {
                        "seed": pa.array(np.full(n, seed, dtype=np.int64)),
                        "split": pa.array([split] * n),
                        "id": pa.array(table.ids),
                        "label": pa.array(table.labels.numpy()),
                        **{task_column(task): pa.array(of.numpy()) for task, of in table.tasks.items()},
                        **{readout_column(v): _fixed(z.numpy()) for v, z in embed(method, table, world.device).items()},
                    }
                )
            )
    return pa.concat_tables(parts).combine_chunks()

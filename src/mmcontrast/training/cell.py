"""Run one stage of a cell: all its seeds in one process, then everything it leaves behind, written atomically."""

import fcntl
import hashlib
import importlib
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from mmcontrast import paths
from mmcontrast.config import CellConfig
from mmcontrast.data.files import sha256_of, write_json
from mmcontrast.data.inputs import Decoders
from mmcontrast.data.loading import Table, held_out, load_whole
from mmcontrast.data.outside import outside_files
from mmcontrast.errors import DataError, TrainingError
from mmcontrast.evaluation.scores import score
from mmcontrast.exported import read_weights, sealed, weights_name
from mmcontrast.methods.base import SeedJob
from mmcontrast.methods.registry import training_modules
from mmcontrast.paths import Layout
from mmcontrast.sources import digests
from mmcontrast.training import checkpoint, gpus
from mmcontrast.training.batching import batches
from mmcontrast.training.checkpoint import SeedRun
from mmcontrast.training.distributed import StopRequest, World, start_world
from mmcontrast.training.loop import SeedTrainer
from mmcontrast.training.outputs import Splits, write_outputs

log = logging.getLogger(__name__)


def fingerprint(cell: CellConfig, stage: str, pretrained: Path | None) -> str:
    """sha256 of everything that decides the stage's result: parameters, data, code, starting weights, torch."""
    digest = hashlib.sha256()
    # how many processes decode ahead decides nothing, and may change before training goes on
    decisive = cell.model_copy(update={"engine": cell.engine.model_copy(update={"workers": 0})})
    digest.update(json.dumps([stage, decisive.model_dump(mode="json"), torch.__version__], sort_keys=True).encode())
    files = [Path(paths.prepared(*part)) for part in cell.data]
    digest.update(json.dumps(digests(*training_modules(cell))).encode())
    if pretrained is not None:
        files += sorted(pretrained.glob("*.safetensors"))
    files += outside_files(cell.model)
    for file in files:
        digest.update(f"{file} {sha256_of(file)}".encode())
    return digest.hexdigest()


def _refuse_unprepared(cell: CellConfig) -> None:
    """Raise DataError if a prepared file that a cell is trained on is not there."""
    for file in (*(paths.prepared(*part) for part in cell.data), paths.fitted(cell.dataset)):
        if not Path(file).is_file():
            raise DataError(f"{file}: no such file; run `mmcontrast data prepare {Path(file).parent.name}` first")


def launch_ranks(cell: CellConfig, arguments: list[str]) -> None:
    """Replace this process by torchrun with one process per rank, unless it is one already or one is enough.

    GPUs are taken before, so that jobs side by side have different ones. Raises DataError: a prepared file is missing.
    """
    _refuse_unprepared(cell)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return
    if cell.engine.device == "cuda":
        gpus.take(cell.engine.ranks)
    if cell.engine.ranks == 1:
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(cell.engine.ranks), "-m", "mmcontrast", *arguments]
    os.environ["OMP_NUM_THREADS"] = str(cell.engine.threads)
    sys.stdout.flush()
    os.execv(sys.executable, command)


def _refuse_useless(cell: CellConfig, tables: dict[str, Table], where: str) -> None:
    """Raise DataError for splits that make a batch of one row, or whose labels a metric cannot score."""
    rows = len(tables["train"])
    for name, stage in ((name, getattr(cell, name)) for name in cell.stages if not tables["train"].observations):
        if stage.epochs and len(batches(rows, stage.batch_size, torch.Generator())[-1]) < 2:
            raise DataError(
                f"{cell.name}, {where}: {name}.batch_size: {stage.batch_size} deals the {rows} rows of train into a "
                "batch of 1, which leaves nothing to contrast with; choose a larger one, or hold out less"
            )
    # a classifier is of the main target alone, and neither retrieval nor a stage that is followed is scored by labels
    scored = {} if cell.retrieval or cell.followed_by else cell.targets
    scored = scored if cell.scored_by == "probe" else {task: scored[task] for task in scored if not task}
    for (task, target), split in product(scored.items(), ("val", "test")):
        labels = (tables[split].tasks[task] if task else tables[split].labels).numpy()
        for metric in target.metrics if len(labels) else ():
            try:
                score(metric, labels, np.zeros((len(labels), target.width)))
            except DataError as e:
                of = f", task {task}" if task else ""
                raise DataError(
                    f"{cell.name}, {where}: {split} ({len(labels)} rows){of}: {e}; metrics and split stand in "
                    f"params/datasets/{cell.dataset}.yaml"
                ) from None


def _splits(cell: CellConfig, whole: dict[str, Table]) -> Callable[[int], Splits]:
    """What gives a seed's splits, texts as word pieces, and vocabularies; what one seed has is held for the last."""
    drawn = not len(whole["val"]) and cell.selection.holdout > 0
    texts = any(modality.kind == "text" for modality in cell.modalities.values())
    held = f", selection.holdout {cell.selection.holdout:g} of train as val" if drawn else ""
    for seed in cell.seeds if drawn else cell.seeds[:1]:
        _refuse_useless(cell, held_out(cell, whole, seed), f"seed {seed}{held}")

    @lru_cache(maxsize=1)
    def made(seed: int) -> Splits:
        tables = held_out(cell, whole, seed)
        return importlib.import_module("mmcontrast.data.tokens").tokenised(tables, cell) if texts else (tables, {})

    return lambda seed: made(seed if drawn else cell.seeds[0])


@contextmanager
def _loaded(cell: CellConfig, world: World) -> Iterator[Callable[[int], Splits]]:
    """The data by seed, and while they are read the processes that decode them."""
    whole = load_whole(cell, Path("."))
    if not cell.engine.workers or not any(modality.encoded for modality in cell.modalities.values()):
        yield _splits(cell, whole)
        return
    with closing(Decoders(cell.engine.workers, pin=world.device.type == "cuda")) as decoders:
        yield _splits(cell, {split: replace(table, decoders=decoders) for split, table in whole.items()})


def run_stage(
    cell: CellConfig,
    stage: str,
    layout: Layout,
    report: Callable[[int, int, int, dict[str, float]], None] = lambda seed, epoch, epochs, terms: None,
    plan: str = "",
) -> dict[str, Any]:
    """Train every seed of a cell's stage and write its outputs under `layout.stage(cell.name, stage)`.

    report: called as report(seed, epoch, epochs, terms) after each epoch, on rank 0. plan: checksum of the plan that is
    carried out. Gives the cost record that is also written as cost.json, {} on ranks other than 0; its seconds count
    from the start of the process, imports included.

    Raises:
        TrainingError: the cell has no such stage, its loss is not finite, or another process is training it.
        StoppedError: SIGTERM came; the state is saved.
        DataError: the prepared data are missing, damaged or not what the cell expects, a batch would be of one row, or
            a split has labels that a metric cannot score.
    """
    if stage not in cell.stages:
        raise TrainingError(f"{cell.name}: has no stage '{stage}', only {cell.stages}")
    _refuse_unprepared(cell)
    world = start_world(cell.engine)
    if world.rank:
        logging.getLogger("mmcontrast").setLevel(logging.WARNING)
    told = (lambda *_: None) if world.rank else report
    pretrained = Path(layout.stage(cell.name, "pretrain", "models")) if stage == "finetune" and cell.pretrain else None
    mark = fingerprint(cell, stage, pretrained)
    state = layout.state(cell.name, stage)
    runs: dict[int, SeedRun] = {}
    vocabularies: dict[int, dict[str, Any]] = {}
    training, saving = 0.0, 0.0
    cost: dict[str, Any] = {}
    with _alone(state, cell, world), _loaded(cell, world) as splits:
        with StopRequest() as stop:
            for seed in cell.seeds:
                tables, vocabularies[seed] = splits(seed)
                initial = None
                if pretrained is not None:
                    again = f"run `mmcontrast pretrain {cell.name}{layout.select}` again"
                    initial = read_weights(sealed(pretrained / weights_name(seed), again))
                trainer = SeedTrainer(
                    cell,
                    SeedJob(stage, seed, world, state / f"seed{seed}", mark, stop),
                    tables,
                    initial,
                    lambda epoch, terms, seed=seed: told(seed, epoch, getattr(cell, stage).epochs, terms),  # type: ignore[misc]
                )
                before = time.perf_counter()
                runs[seed] = trainer.train()
                training += time.perf_counter() - before
                saving += trainer.saving_seconds
        if world.rank == 0:
            folder = Path(layout.stage(cell.name, stage))
            write_outputs(cell, stage, folder, runs, splits, vocabularies, world.device)
    if world.rank == 0:
        cost = {
            "seconds": time.time() - psutil.Process().create_time(),
            "training_seconds": training,
            "checkpoint_seconds": saving,
            "seeds": len(cell.seeds),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "parameters": sum(w.numel() for w in runs[cell.seeds[0]].weights.values()),
            "ranks": world.size,
            "device": world.device.type,
            "plan": plan,
        }
        write_json(folder / "cost.json", cost, seal=True)
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

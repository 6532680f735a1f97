"""What a finished stage leaves behind: history, predictions, embeddings, models; each file written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save
from torch import Tensor

from mmcontrast import __version__, paths
from mmcontrast.config import CellConfig
from mmcontrast.config.targets import Target
from mmcontrast.data.files import replacing, sha256_of, write_json
from mmcontrast.data.json_text import read_json
from mmcontrast.data.loading import Table
from mmcontrast.data.table import task_column, weight_column
from mmcontrast.errors import TrainingError
from mmcontrast.evaluation.labels import output_column
from mmcontrast.evaluation.readouts import column as readout_column
from mmcontrast.methods.build import build_method
from mmcontrast.training.loop import SeedRun, embed
from mmcontrast.training.retrieving import observation_table


def write_outputs(
    cell: CellConfig,
    stage: str,
    folder: Path,
    runs: dict[int, SeedRun],
    tables: dict[int, dict[str, Table]],
    vocabularies: dict[int, dict[str, Any]],
    device: torch.device,
) -> None:
    """history, predictions (finetune), embeddings and models of a finished stage.

    Args:
        vocabularies: seed -> modality -> word pieces of a text encoder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_parquet(_history(runs), folder / "history.parquet")
    if stage == "finetune":  # without rows where there is no classifier: the workflow expects the file
        _write_parquet(_predictions(cell, runs, tables), folder / "predictions.parquet")
    if cell.scored_by == "retrieval":
        embeddings = observation_table({seed: run.embedded for seed, run in runs.items()}, tables)
    else:
        embeddings = _embeddings(cell, runs, tables, device)
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
    _write_vocabularies(models, vocabularies)
    write_json(models / "cell.json", cell.model_dump(mode="json"))
    seal_models(models, list(runs))


def _write_vocabularies(models: Path, vocabularies: dict[int, dict[str, Any]]) -> None:
    """What a text encoder's weights mean nothing without."""
    for seed, of_seed in vocabularies.items():
        for modality, pieces in of_seed.items():
            value = {"pieces": pieces.pieces, "merges": [list(pair) for pair in pieces.merges]}
            write_json(models / f"seed{seed}.{modality}.json", value)


def seal_models(models: Path, seeds: list[int]) -> None:
    """Remove what is of other seeds, and write the checksums of the rest: last, so that they say all is there."""
    found = sorted(p for p in models.iterdir() if p.name not in (paths.CHECKSUMS, ".snakemake_timestamp"))
    kept = [p for p in found if p.name == "cell.json" or p.name.split(".")[0] in {f"seed{seed}" for seed in seeds}]
    for old in set(found) - set(kept):
        old.unlink()
    write_json(models / paths.CHECKSUMS, {p.name: sha256_of(p) for p in kept})


def sealed_weights(file: Path) -> Path:
    """The weights file itself, where it is as it was written.

    Raises:
        TrainingError: it is missing, or changed since.
    """
    try:
        sealed = read_json(file.parent / paths.CHECKSUMS)
        as_written = sealed[file.name] == sha256_of(file)
    except (OSError, ValueError, LookupError):
        raise TrainingError(f"{file}: not there, or without its checksum; run `mmcontrast pretrain` first") from None
    if not as_written:
        raise TrainingError(f"{file}: not what was written there; run `mmcontrast pretrain` for this cell again")
    return file


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


def _labels(labels: Tensor, target: Target) -> pa.Array:
    """Class indices, or the zeros and ones, or the numbers of each row."""
    if target.kind == "multilabel":
        return pa.FixedSizeListArray.from_arrays(pa.array(labels.to(torch.uint8).reshape(-1).numpy()), target.width)
    return pa.array(labels.numpy()) if target.kind == "classes" else _fixed(labels.numpy())


def _no_predictions(cell: CellConfig) -> pa.Table:
    fields = {"seed": pa.int64(), "epoch": pa.int64(), "split": pa.string(), "id": pa.string()}
    none = torch.zeros(0, dtype=torch.int64) if cell.target == "classes" else torch.zeros(0, len(cell.classes))
    label = _labels(none, cell.targets[""]).type
    output = (output_column(cell.target), pa.list_(pa.float32(), len(cell.classes)))
    return pa.schema([*fields.items(), ("label", label), output]).empty_table()


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
                        "label": _labels(table.labels, cell.targets[""]),
                        output_column(cell.target): _fixed(probs.numpy()),
                    }
                )
            )
    return pa.concat_tables(parts).combine_chunks()


def _embeddings(
    cell: CellConfig, runs: dict[int, SeedRun], tables: dict[int, dict[str, Table]], device: torch.device
) -> pa.Table:
    parts = []
    method = build_method(cell).to(device)
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
                        "label": _labels(table.labels, cell.targets[""]),
                        **{task_column(t): _labels(of, cell.targets[t]) for t, of in table.tasks.items()},
                        **{weight_column(t): pa.array(of.numpy()) for t, of in table.weights.items()},
                        **{readout_column(r): _fixed(z.numpy()) for r, z in embed(method, table, device).items()},
                    }
                )
            )
    return pa.concat_tables(parts).combine_chunks()

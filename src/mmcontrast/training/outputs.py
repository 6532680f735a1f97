"""What a finished stage leaves behind: history, predictions, embeddings, models; each file written atomically."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from mmcontrast import paths
from mmcontrast.config import CellConfig
from mmcontrast.config.targets import Target
from mmcontrast.data.parquet import write_parquet
from mmcontrast.data.table import task_column, weight_column
from mmcontrast.evaluation.labels import output_column
from mmcontrast.evaluation.readouts import column as readout_column
from mmcontrast.exported import SeedExport, write_models
from mmcontrast.methods.base import build_method
from mmcontrast.training.kept import SeedRun
from mmcontrast.training.loop import embed
from mmcontrast.training.retrieving import Splits, observation_table, vectors


def write_outputs(
    cell: CellConfig,
    stage: str,
    folder: Path,
    runs: dict[int, SeedRun],
    splits: Callable[[int], Splits],
    vocabularies: dict[int, dict[str, Any]],
    device: torch.device,
) -> None:
    """history, predictions (finetune), embeddings and models of a finished stage.

    Args:
        vocabularies: seed -> modality -> word pieces of a text encoder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(_history(runs), folder / "history.parquet")
    if stage == "finetune":  # without rows where there is no classifier: the workflow expects the file
        write_parquet(_predictions(cell, runs, splits), folder / "predictions.parquet")
    if cell.scored_by == "retrieval":
        embeddings = observation_table(runs, splits)
    else:
        embeddings = _embeddings(cell, runs, splits, device)
    write_parquet(embeddings, folder / "embeddings.parquet")
    seeds = {seed: SeedExport(run.weights, run.best_epoch, vocabularies[seed]) for seed, run in runs.items()}
    write_models(folder / "models", cell, seeds, Path(paths.fitted(cell.dataset)))


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


def _labels(labels: Tensor, target: Target) -> pa.Array:
    """Class indices, or the zeros and ones, or the numbers of each row."""
    if target.kind == "multilabel":
        return pa.FixedSizeListArray.from_arrays(pa.array(labels.to(torch.uint8).reshape(-1).numpy()), target.width)
    return pa.array(labels.numpy()) if target.kind == "classes" else vectors(labels.numpy())


def _no_predictions(cell: CellConfig) -> pa.Table:
    fields = {"seed": pa.int64(), "epoch": pa.int64(), "split": pa.string(), "id": pa.string()}
    none = torch.zeros(0, dtype=torch.int64) if cell.target == "classes" else torch.zeros(0, len(cell.classes))
    label = _labels(none, cell.targets[""]).type
    output = (output_column(cell.target), pa.list_(pa.float32(), len(cell.classes)))
    return pa.schema([*fields.items(), ("label", label), output]).empty_table()


def _predictions(cell: CellConfig, runs: dict[int, SeedRun], splits: Callable[[int], Splits]) -> pa.Table:
    parts = [_no_predictions(cell)]
    for seed, run in runs.items() if cell.scored_by == "classifier" else ():
        for (epoch, split), probs in run.kept.items():
            table, n = splits(seed)[0][split], len(probs)
            columns = {
                "seed": pa.repeat(seed, n),
                "epoch": pa.repeat(epoch, n),
                "split": pa.repeat(split, n),
                "id": pa.array(table.ids),
                "label": _labels(table.labels, cell.targets[""]),
                output_column(cell.target): vectors(probs.numpy()),
            }
            parts.append(pa.table(columns))
    return pa.concat_tables(parts).combine_chunks()


def _embeddings(
    cell: CellConfig, runs: dict[int, SeedRun], splits: Callable[[int], Splits], device: torch.device
) -> pa.Table:
    parts = []
    method = build_method(cell).to(device)
    for seed, run in runs.items():
        method.load_state_dict(run.weights)
        tables, _ = splits(seed)
        for split in paths.SPLITS:
            table = tables.get("probe", tables[split]) if split == "train" else tables[split]
            if n := len(table):
                columns = {
                    "seed": pa.repeat(seed, n),
                    "split": pa.repeat(split, n),
                    "id": pa.array(table.ids),
                    "label": _labels(table.labels, cell.targets[""]),
                    **{task_column(t): _labels(of, cell.targets[t]) for t, of in table.tasks.items()},
                    **{weight_column(t): pa.array(of.numpy()) for t, of in table.weights.items()},
                    **{readout_column(r): vectors(z.numpy()) for r, z in embed(method, table, device).items()},
                }
                parts.append(pa.table(columns))
    return pa.concat_tables(parts).combine_chunks()

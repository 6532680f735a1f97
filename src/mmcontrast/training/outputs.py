"""What a finished stage leaves behind: history, predictions, embeddings, models; each file written atomically.

Shapes: n rows of a split, C classes, labels or quantities, P rows of a modality, D width.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mmcontrast import paths
from mmcontrast.config import CellConfig
from mmcontrast.config.metrics import Target
from mmcontrast.data.loading import Table
from mmcontrast.data.parquet import write_parquet
from mmcontrast.data.table import task_column, weight_column
from mmcontrast.errors import TrainingError
from mmcontrast.evaluation.columns import column as readout_column
from mmcontrast.evaluation.columns import output_column
from mmcontrast.evaluation.retrieval import ranked, selection_key
from mmcontrast.exported import SeedExport, write_models
from mmcontrast.methods.base import Method, build_method
from mmcontrast.training.batching import in_chunks
from mmcontrast.training.checkpoint import SeedRun


@torch.no_grad()
def predict(method: Method, table: Table, device: torch.device) -> Tensor:
    """(n, C) float32 probabilities, or numbers in the units of the data, on the CPU, in evaluation mode."""
    method.eval()
    out = []
    for batch in in_chunks(table, device):
        predictions = method.predictions(batch)
        if predictions is None:
            raise TrainingError(f"{method.cell.name}: the method has no classifier, so `finetune` cannot be scored")
        out.append(predictions.cpu())
    method.train()
    return torch.cat(out)


@torch.no_grad()
def embed(method: Method, table: Table, device: torch.device) -> dict[str, Tensor]:
    """view -> (n, D) float32 embeddings on the CPU, in evaluation mode."""
    method.eval()
    chunks = [method.embeddings(batch) for batch in in_chunks(table, device)]
    method.train()
    return {view: torch.cat([chunk[view].float().cpu() for chunk in chunks]) for view in chunks[0]}


Found = dict[str, tuple[Tensor, Tensor]]
# of a seed: its tables by split, and the vocabulary of each text modality
Splits = tuple[dict[str, Table], dict[str, Any]]


def retrieval_key(cell: CellConfig, found: Found) -> list[float]:
    """How well the embeddings of a split do: larger is better."""
    if cell.retrieval is None:
        raise TypeError(f"{cell.name} is not scored by retrieval")
    sides = cell.retrieval.gallery, cell.retrieval.queries
    rows = {m: (found[m][0].numpy(), found[m][1].numpy()) for m in sides}
    return list(selection_key(ranked(rows, cell.retrieval)))


@torch.no_grad()
def embed_observations(method: Method, table: Table, device: torch.device) -> Found:
    """modality -> (P, D) float32 unit rows and (P,) instances, on the CPU, in evaluation mode."""
    method.eval()
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    before = 0
    for batch in in_chunks(table, device):
        for m, (z_PD, ids_P) in method.observations(batch).items():
            parts.setdefault(m, []).append((z_PD.float().cpu(), ids_P.cpu() + before))
        # where each modality has one row, these are counted within the batch
        before += len(batch.labels) if batch.ids is None else 0
    method.train()
    return {m: (torch.cat([z for z, _ in p]), torch.cat([i for _, i in p])) for m, p in parts.items()}


def observation_table(runs: Mapping[int, SeedRun], splits: Callable[[int], Splits]) -> pa.Table:
    """embeddings.parquet of a retrieval cell: a row per observation, seed, split and evaluated epoch.

    `observation` counts the rows of an instance and modality from 0, in the order of the data.
    """
    parts = []
    for seed, run in runs.items():
        tables, _ = splits(seed)
        for (epoch, split, m), z in run.kept.items():
            n, table, instance = len(z), tables[split], run.instance[split, m]
            columns = {
                "seed": pa.repeat(seed, n),
                "epoch": pa.repeat(epoch, n),
                "split": pa.repeat(split, n),
                "modality": pa.repeat(m, n),
                "id": pa.array([table.ids[i] for i in instance.tolist()]),
                "label": pa.array(table.labels[instance].numpy()),
                "observation": pa.array(_counted(instance.numpy())),
                "embedding": vectors(z.numpy()),
            }
            parts.append(pa.table(columns))
    return pa.concat_tables(parts).combine_chunks()


def vectors(matrix: np.ndarray) -> pa.Array:
    """(n, D) numbers as a column of n float32 lists of one width."""
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _counted(instance_P: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each run of equal instances."""
    starts = np.flatnonzero(np.r_[True, instance_P[1:] != instance_P[:-1]])
    return np.arange(len(instance_P)) - np.repeat(starts, np.diff(np.r_[starts, len(instance_P)]))


def write_outputs(
    cell: CellConfig,
    stage: str,
    folder: Path,
    runs: dict[int, SeedRun],
    splits: Callable[[int], Splits],
    vocabularies: dict[int, dict[str, Any]],
    device: torch.device,
) -> None:
    """history, predictions (finetune), embeddings, models of a stage. vocabularies: seed -> text modality -> pieces."""
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

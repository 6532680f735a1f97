"""What a retrieval cell keeps of each evaluated epoch: the embeddings of all observations of val and test.

Shapes: E evaluated epochs, P rows of a modality, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.data.loading import Table
from mmcontrast.evaluation.ranking import ranked, selection_key
from mmcontrast.methods.base import Method
from mmcontrast.training.batching import in_chunks
from mmcontrast.training.kept import SeedRun

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
    for batch in in_chunks(table, device):
        for m, (z_PD, ids_P) in method.observations(batch).items():
            parts.setdefault(m, []).append((z_PD.float().cpu(), ids_P.cpu()))
    method.train()
    return {m: (torch.cat([z for z, _ in p]), torch.cat([i for _, i in p])) for m, p in parts.items()}


def observation_table(runs: Mapping[int, SeedRun], splits: Callable[[int], Splits]) -> pa.Table:
    """embeddings.parquet of a retrieval cell: a row an observation, seed, split and evaluated epoch.

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

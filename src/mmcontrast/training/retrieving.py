"""What a retrieval cell keeps of each evaluated epoch: the embeddings of all observations of val and test.

Shapes: E evaluated epochs, P rows of a modality, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
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
from mmcontrast.training.kept import EpochTensors

Found = dict[str, tuple[Tensor, Tensor]]


@dataclass
class Embedded:
    """One seed's, on rank 0.

    Attributes:
        z: (epoch, split, modality) -> (P, D) float32 unit rows.
        instance: (split, modality) -> (P,) int64 row of each row's instance in the split.
    """

    z: EpochTensors
    instance: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """As plain values and tensors, for a checkpoint."""
        return {"z": self.z.payload(), "instance": [[*key, instance] for key, instance in self.instance.items()]}

    @classmethod
    def from_payload(cls, folder: Path, payload: dict[str, Any]) -> Embedded:
        """Inverse of `payload`."""
        instance = {(split, m): rows for split, m, rows in payload["instance"]}
        return cls(EpochTensors.from_payload(folder, payload["z"]), instance)

    def add(self, epoch: int, split: str, found: Found) -> None:
        """Keep the embeddings of a split, as `embed_observations` gives them."""
        for m, (z, instance) in found.items():
            self.z[epoch, split, m] = z
            self.instance[split, m] = instance


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


def observation_table(runs: dict[int, Embedded], tables: dict[int, dict[str, Table]]) -> pa.Table:
    """embeddings.parquet of a retrieval cell: a row an observation, seed, split and evaluated epoch.

    `observation` counts the rows of an instance and modality from 0, in the order of the data.
    """
    parts = []
    for seed, embedded in runs.items():
        for (epoch, split, m), z in embedded.z.items():
            table, instance = tables[seed][split], embedded.instance[split, m]
            n = len(z)
            flat = pa.array(np.ascontiguousarray(z.numpy(), dtype=np.float32).reshape(-1))
            parts.append(
                pa.table(
                    {
                        "seed": pa.array(np.full(n, seed, dtype=np.int64)),
                        "epoch": pa.array(np.full(n, epoch, dtype=np.int64)),
                        "split": pa.array([split] * n),
                        "modality": pa.array([m] * n),
                        "id": pa.array([table.ids[i] for i in instance.tolist()]),
                        "label": pa.array(table.labels[instance].numpy()),
                        "observation": pa.array(_counted(instance.numpy())),
                        "embedding": pa.FixedSizeListArray.from_arrays(flat, z.shape[1]),
                    }
                )
            )
    return pa.concat_tables(parts).combine_chunks()


def _counted(instance_P: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each run of equal instances."""
    starts = np.flatnonzero(np.r_[True, instance_P[1:] != instance_P[:-1]])
    return np.arange(len(instance_P)) - np.repeat(starts, np.diff(np.r_[starts, len(instance_P)]))

"""Training on the dataset of tests/real_inputs.py with a method made for it, and what it leaves behind.

Each letter of a text is one number.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcontrast.config import CellConfig
from mmcontrast.data.inputs import Ragged
from mmcontrast.data.loading import Table
from mmcontrast.methods.base import Batch, Method, Progress
from mmcontrast.training.distributed import World
from tests.real_inputs import real_cell
from tests.training import resuming


def numbered(table: Table) -> Table:
    """The table with numbers in place of its texts."""
    letters = [[ord(c) - 96 for c in text] for text in table.inputs["title"]]
    offsets = np.cumsum([0, *map(len, letters)])
    values = np.array([n for text in letters for n in text], dtype=np.int64)
    return replace(table, inputs={**table.inputs, "title": Ragged([values], [offsets], fill=0)})


def tokenised(tables: Mapping[str, Table], cell: CellConfig) -> tuple[dict[str, Table], dict[str, Any]]:
    return {split: numbered(table) for split, table in tables.items()}, {}


class Means(Method):
    """A linear layer for the mean of each input, zeros where a row lacks it, and a head; it draws noise."""

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        widths = {"picture": 3, "track": 2, "title": 8, "vector": 3}
        self.layers = nn.ModuleDict({m: nn.Linear(width, 4) for m, width in widths.items()})
        self.letters = nn.Embedding(27, 8, padding_idx=0)
        self.dropout, self.head = nn.Dropout(0.1), nn.Linear(16, 2)

    def embed(self, batch: Batch) -> Tensor:
        x = dict(batch.inputs)
        means = {
            "picture": x["picture"].float().mean((2, 3)) / 255,
            "track": x["track"].nan_to_num().sum(1) / x["track"].shape[1],
            "title": self.letters(x["title"]).sum(1) / x["title"].shape[1],
            "vector": x["vector"],
        }
        has = {m: batch.present[m][:, None] if m in batch.present else 1 for m in means}
        return torch.cat([layer(means[m]) * has[m] for m, layer in self.layers.items()], dim=1)

    def logits(self, batch: Batch) -> Tensor:
        return self.head(self.embed(batch))

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        z_BD, labels_B = progress.gather(self.embed(batch)), progress.gather(batch.labels)
        noise_BD = torch.randn(z_BD.shape, generator=progress.generator)
        return {"loss": F.cross_entropy(self.head(z_BD + 0.1 * noise_BD), labels_B)}


@contextmanager
def method_for_real_inputs() -> Iterator[None]:
    """Wherever the stage builds its method, it is this one."""
    with (
        patch("mmcontrast.training.loop.method_class", lambda cell: Means),
        patch("mmcontrast.training.loop.build_method", Means),
        patch("mmcontrast.training.outputs.build_method", Means),
        patch("mmcontrast.data.tokens.tokenised", tokenised),
    ):
        yield


def trained(cell: CellConfig, stops: str | None = None, rank: int = 0) -> tuple[dict[str, bytes], int]:
    """What the cell leaves behind, {} on ranks other than 0, and how often it was interrupted."""
    with method_for_real_inputs():
        number = 0
        if stops is None:
            resuming.train(cell)
        else:
            number = resuming.STOPS[stops](cell)
        # reading removes them: one rank alone may do it
        return resuming.outputs(cell) if rank == 0 else {}, number


def interrupted_on_two_ranks(world: World, root: str, workers: int) -> tuple[bool, int]:
    """A job of each rank: whether the bits are equal with a stop in the middle of an epoch, and that there was one."""
    os.chdir(root)
    # the tests' ranks end with the process that started them, and such processes may start none of their own
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    cell = real_cell(ranks=2, workers=workers)
    undisturbed, _ = trained(cell, rank=world.rank)
    world.barrier()
    with method_for_real_inputs():
        number = resuming.trained_with_stops(cell, iter([5, 10**6]), resuming.asked)
        interrupted = resuming.outputs(cell) if world.rank == 0 else {}
    world.barrier()
    return undisturbed == interrupted and (world.rank > 0 or len(undisturbed) > 5), number


def on_two_ranks(world: World, root: str) -> dict[str, bytes]:
    """A job of each rank: what the cell leaves behind."""
    os.chdir(root)
    return trained(real_cell(ranks=2), rank=world.rank)[0]

"""Pictures that are stored as JPEG or PNG files and decoded batch by batch, ahead of training where processes do it.

b rows of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mmcontrast.data.inputs import Part, Places, Rows
from mmcontrast.data.mapped import open_map
from mmcontrast.data.pictures import decode
from mmcontrast.errors import DataError


class EncodedImages:
    """Pictures in Arrow arrays of bytes; a batch is (b, C, H, W) uint8. A null is black.

    Args:
        column: of binary. name: of the modality. shape: of a decoded picture. path: the prepared file, for messages.
        mapped: the file that the column is mapped from, where another process finds it; None = it is in memory.
    """

    def __init__(
        self, column: pa.ChunkedArray, name: str, shape: Sequence[int], path: Path, mapped: Path | None = None
    ) -> None:
        self.chunks, self.name, self.shape, self.path, self.mapped = column.chunks, name, tuple(shape), path, mapped
        self.places = Places([len(chunk) for chunk in self.chunks])

    def __reduce__(self) -> Any:
        if self.mapped is None:
            return super().__reduce__()
        return _reopened, (self.name, self.shape, self.path, self.mapped)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Rows) -> Tensor:
        """See the class.

        Raises:
            DataError: names a row whose picture cannot be decoded.
        """
        places = self.places.of(rows)
        out = np.zeros((len(places), *self.shape), np.uint8)
        for k, (part, row) in enumerate(places):
            data = self.chunks[part][row].as_py()
            if data is None:
                continue
            try:
                out[k] = decode(data, self.shape)
            except ValueError as e:
                number = int(self.places.starts[part]) + row
                raise DataError(
                    f"{self.path}: modality '{self.name}', row {number} (from 0): the picture cannot be decoded ({e}); "
                    f"run `mmcontrast data prepare {self.path.parent.name}`"
                ) from None
        return torch.from_numpy(out)


def _reopened(name: str, shape: Sequence[int], path: Path, mapped: Path) -> EncodedImages:
    return EncodedImages(open_map(mapped)[name], name, shape, path, mapped)


Task = dict[str, tuple[EncodedImages, Tensor]]


class _Decode(Dataset[dict[str, Tensor] | DataError]):
    """A task is its own index, and its answer the pictures; an error is an answer too, or its text would be torch's."""

    def __getitem__(self, task: Task) -> dict[str, Tensor] | DataError:
        try:
            return {name: images[rows] for name, (images, rows) in task.items()}
        except DataError as e:
            return e


class _Tasks(Sampler[Task]):
    """The tasks of one epoch or of an evaluation."""

    def __init__(self) -> None:
        self.now: Iterator[Task] = iter(())

    def __iter__(self) -> Iterator[Task]:
        return self.now


def _as_it_is(answer: Any) -> Any:
    return answer


def _outlive_stops(worker: int) -> None:
    """A scheduler that stops a job signals all its processes; the one that trains still needs this one to end well."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Decoders:
    """Processes that decode the batches to come. One set of them serves all seeds of a cell, one reader at a time.

    They are started by a server that never had another thread, where a fork of this process could inherit a lock.

    Args:
        workers: number of processes. pin: the tensors are to be sent to a GPU.
    """

    def __init__(self, workers: int, pin: bool) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.tasks, self.turn = _Tasks(), 0
        self.loader = DataLoader(
            _Decode(),
            sampler=self.tasks,
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin,
            worker_init_fn=_outlive_stops,
            # else each epoch would draw from the generator that dropout draws from
            generator=torch.Generator(),
            multiprocessing_context=context,
            persistent_workers=True,
        )

    def decoded(self, tasks: Iterator[Task]) -> Iterator[dict[str, Tensor]]:
        """The pictures of each task in order. Tasks are drawn a few ahead.

        Raises:
            DataError: a picture cannot be decoded.
        """
        self.turn += 1
        turn, self.tasks.now = self.turn, tasks
        for answer in self.loader:
            if turn != self.turn:
                break
            if isinstance(answer, DataError):
                raise answer
            yield answer
        if turn != self.turn:
            raise RuntimeError("two readers at once; the first one must come to its end before")

    def close(self) -> None:
        """End the processes."""
        if self.loader._iterator is not None:
            self.loader._iterator._shutdown_workers()  # type: ignore[attr-defined]


def encoded(parts: Mapping[str, Part]) -> Task:
    """What of a batch there is to decode."""
    return {
        name: (p.of, p.rows)
        for name, p in parts.items()
        if isinstance(p.of, EncodedImages) and isinstance(p.rows, Tensor)
    }

"""Inputs of a split that become tensors batch by batch; processes may decode pictures ahead of training.

N rows of a split, b of a batch, T steps of the longest of these, S of several rows, d width of a step, C x H x W image.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mmcontrast.data.files import again
from mmcontrast.data.parquet import open_map
from mmcontrast.data.pictures import decode
from mmcontrast.errors import DataError

Rows = slice | Tensor


class Column(Protocol):
    """What a tensor of N rows can do, as far as batches need it."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """(b, ...) tensor of the rows: a slice, or an int64 tensor of row numbers. Of texts a list."""


class View:
    """Rows of a tensor or column in an order of their own, without a copy of them."""

    def __init__(self, base: Tensor | Column, rows: Tensor) -> None:
        self.base: Tensor | Column = base.base if isinstance(base, View) else base
        self.rows: Tensor = base.rows[rows] if isinstance(base, View) else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows | int) -> Any:
        return self.base[self.rows[rows]]


class Places:
    """Where the rows of parts that follow each other are. `sizes`: rows of each part."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.starts = np.cumsum([0, *sizes], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def of(self, rows: Rows) -> list[tuple[int, int]]:
        """(part, row in it) of each row. Raises IndexError: there is no such row."""
        rows_b = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows.numpy()
        if len(rows_b) and (rows_b.min() < 0 or rows_b.max() >= len(self)):
            raise IndexError(f"rows {rows_b.min()} to {rows_b.max()} of {len(self)}")
        part_b = np.searchsorted(self.starts, rows_b, side="right") - 1
        return list(zip(part_b.tolist(), (rows_b - self.starts[part_b]).tolist(), strict=True))


def present(column: pa.ChunkedArray) -> Tensor:
    """(N,) bool: which rows are not null."""
    parts = [chunk.is_valid().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0, np.bool_))


def numbers(array: pa.FixedSizeListArray) -> np.ndarray:
    """(n, width) of vectors or pixels, without a copy. A row that is null holds anything."""
    width = array.type.list_size
    flat = array.values.slice(array.offset * width, len(array) * width)
    if flat.null_count:  # the numbers of a row that is null are null too; what is there in their place is memory
        flat = pa.Array.from_buffers(flat.type, len(flat), [None, flat.buffers()[1]], offset=flat.offset)
    return flat.to_numpy(zero_copy_only=True).reshape(len(array), width)


class FixedRows:
    """Vectors or pixels, rows of `shape` in Arrow's FixedSizeList, of which a batch is a copy. A null is zeros."""

    def __init__(self, column: pa.ChunkedArray, shape: Sequence[int]) -> None:
        self.shape, self.present = tuple(shape), present(column)
        self.views = [numbers(array).reshape(-1, *shape) for array in column.chunks]
        self.places = Places([len(view) for view in self.views])
        self.dtype = column.type.value_type.to_pandas_dtype()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Rows) -> Tensor:
        places = self.places.of(rows)
        out = np.empty((len(places), *self.shape), self.dtype)
        for k, (part, row) in enumerate(places):
            out[k] = self.views[part][row]
        tensor = torch.from_numpy(out)
        tensor[~self.present[rows]] = 0
        return tensor


class Ragged:
    """Rows of different numbers of steps; a batch is (b, T, ...), padded with `fill` at the end of each row.

    `values`: of some rows each, (S, ...) one after another. `offsets`: of the same rows, where each begins, and where
    the last one ends. `lengths`: (N,) int64 steps of each row, 0 where there is none; None = as the offsets say.
    """

    def __init__(
        self, values: Sequence[np.ndarray], offsets: Sequence[np.ndarray], fill: float, lengths: Tensor | None = None
    ) -> None:
        self.values, self.offsets, self.fill = list(values), list(offsets), fill
        self.places = Places([len(o) - 1 for o in self.offsets])
        counted = [np.diff(o) for o in self.offsets]
        self.lengths = torch.from_numpy(np.concatenate(counted).astype(np.int64)) if lengths is None else lengths

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Rows) -> Tensor:
        return self.padded(rows, self.longest(rows))

    def longest(self, rows: Rows) -> int:
        """Steps of the longest of the rows, at least 1."""
        lengths_b = self.lengths[rows]
        return max(1, int(lengths_b.max())) if len(lengths_b) else 1

    def padded(self, rows: Rows, steps: int) -> Tensor:
        """(b, steps, ...) of rows of which none is longer."""
        places, lengths_b = self.places.of(rows), self.lengths[rows].tolist()
        out = np.full((len(places), steps, *self.values[0].shape[1:]), self.fill, self.values[0].dtype)
        for k, ((part, row), length) in enumerate(zip(places, lengths_b, strict=True)):
            begin = self.offsets[part][row]
            out[k, :length] = self.values[part][begin : begin + length]
        return torch.from_numpy(out)


def sequences(column: pa.ChunkedArray) -> Ragged:
    """Rows of List<FixedSizeList<float32>[d]>, none of a null; (b, T, d), padded with NaN: stored values are finite."""
    values = [numbers(chunk.values) for chunk in column.chunks]
    offsets = [chunk.offsets.to_numpy(zero_copy_only=False) for chunk in column.chunks]
    if not values:
        values, offsets = [np.zeros((0, column.type.value_type.list_size), np.float32)], [np.zeros(1, np.int32)]
    lengths = np.concatenate([np.diff(o) for o in offsets]).astype(np.int64)
    return Ragged(values, offsets, float("nan"), torch.from_numpy(lengths * present(column).numpy()))


class Texts:
    """Texts in Arrow arrays. No method takes them as they are: `data.tokens` makes numbers of them. A null is empty."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, rows: Rows | int) -> Any:
        """The texts of the rows; the text itself of a single number."""
        if isinstance(rows, int) or (isinstance(rows, Tensor) and rows.ndim == 0):
            return self.column[int(rows)].as_py() or ""
        numbers_b = range(*rows.indices(len(self))) if isinstance(rows, slice) else rows.tolist()
        return [self.column[row].as_py() or "" for row in numbers_b]

    def __iter__(self) -> Iterator[str]:
        for chunk in self.column.chunks:
            yield from (text or "" for text in chunk.to_pylist())


@dataclass(frozen=True)
class Part:
    """The rows of a batch that one process takes of an input that is no view; `steps` of a padded row, where needed."""

    of: Tensor | Column
    rows: Rows
    steps: int | None = None

    def tensor(self) -> Tensor:
        """(b, ...)."""
        if isinstance(self.of, Ragged) and self.steps is not None:
            return self.of.padded(self.rows, self.steps)
        return self.of[self.rows]


def part(x: Tensor | Column, rows: Rows, mine: Rows | None = None) -> Part:
    """What this process takes of the batch `rows`: positions `mine` (None = all), padded as far as the whole batch."""
    if isinstance(x, View):
        rows, x = x.rows[rows], x.base
    if isinstance(rows, slice) and not isinstance(x, Tensor):
        rows = torch.arange(*rows.indices(len(x)))
    steps = x.longest(rows) if isinstance(x, Ragged) else None
    return Part(x, rows if mine is None or isinstance(rows, slice) else rows[mine], steps)


class EncodedImages:
    """Pictures in Arrow arrays of bytes; a batch is (b, C, H, W) uint8. A null is black.

    `name` (modality) and `path` (prepared file) are for messages. `mapped`: file the column is mapped from, for other
    processes; None = it is in memory.
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
        """See the class. Raises DataError: names a row whose picture cannot be decoded."""
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
                    f"{again(self.path)}"
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
    """`workers` processes that decode the batches to come; one set serves all seeds of a cell, one reader at a time.

    They are started by a server that never had another thread, where a fork of this process could inherit a lock.
    `pin`: the tensors are to be sent to a GPU.
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
        """The pictures of each task in order; tasks are drawn a few ahead. DataError: one cannot be decoded."""
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


def unit_pixels(x: Tensor) -> Tensor:
    """uint8 divided by 255, as float32; floating-point numbers as they are. Any shape."""
    return x if torch.is_floating_point(x) else x.float() / 255

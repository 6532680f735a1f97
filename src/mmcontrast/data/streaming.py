"""Prepared splits written an instance at a time: what is held for each is its id, its labels and its group alone.

A reader gives a `Stream`. Where its instances come with their splits and nothing has to be fitted, they go straight
into the splits; otherwise they wait in an Arrow file beside these, which is read again, through a memory map, to fit on
train and to write. Rows keep the reader's order. Equal instances give equal bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from mmcontrast.config import Dataset
from mmcontrast.data import table
from mmcontrast.data.files import replacing
from mmcontrast.data.instances import Instance, Intake, Stream, Written
from mmcontrast.data.parquet import seal
from mmcontrast.data.scaling import Farthest, Running, Scaler
from mmcontrast.errors import DataError
from mmcontrast.paths import SPLITS

BATCH_ROWS, BATCH_BYTES = 512, 16 * 1024**2
GROUP_BYTES = 64 * 1024**2
SCALED = ("vector", "sequence")


def write_stream(name: str, dataset: Dataset, stream: Stream, out_dir: Path) -> Written:
    """train.parquet, val.parquet and test.parquet.

    Raises DataError: an instance is not what params/datasets/<name>.yaml says (it is named), a split has not the size
    that stands there, or nothing can be fitted on train.
    """
    taken = Intake(name, dataset)
    first = (dataset.modalities, dataset.classes, dataset.scaling, stream.feature_names)
    more = (dataset.tasks, dataset.scenes, dataset.target, dataset.case_weights)
    layouts = {split: table.schema(name, split, *first, *more) for split in SPLITS}
    scaled = [m for m, spec in dataset.modalities.items() if spec.kind in SCALED]
    wide = unscaled(layouts["train"], scaled)
    shown = track(
        stream.instances,
        f"preparing {name}",
        total=dataset.rows,
        console=Console(file=sys.stderr),
        disable=not sys.stderr.isatty(),
    )
    incoming = _batches(shown, taken, wide, stream.in_memory)
    scalers: dict[str, Scaler] = {}
    if dataset.split.kind == "published" and not scaled:
        _write(incoming, taken, layouts, scalers, stream, out_dir)
        taken.deal()
    else:
        with _waiting(incoming, wide, out_dir) as batches:
            taken.deal()
            scalers = _fit(name, dataset, taken, scaled, batches, stream.feature_names)
            _write(batches, taken, layouts, scalers, stream, out_dir)
    return taken.written(scalers, stream.feature_names)


def _batches(instances: Iterable[Instance], taken: Intake, layout: pa.Schema, whole: bool) -> Iterator[pa.RecordBatch]:
    """All instances, checked; at most BATCH_ROWS or about BATCH_BYTES at a time, or all at once."""
    rows: list[list[Any]] = []
    size = 0
    for instance in instances:
        rows.append(taken.row(instance))
        size += sum(_bytes(cell) for cell in rows[-1])
        if not whole and (len(rows) == BATCH_ROWS or size >= BATCH_BYTES):
            yield batch_of(rows, layout)
            rows, size = [], 0
    if rows:
        yield batch_of(rows, layout)


def _bytes(cell: Any) -> int:
    if isinstance(cell, list):
        return sum(map(_bytes, cell))
    return int(cell.nbytes) if isinstance(cell, np.ndarray) else len(cell) if isinstance(cell, str | bytes) else 8


def batch_of(rows: Sequence[Sequence[Any]], layout: pa.Schema) -> pa.RecordBatch:
    """Rows of cells, as `Intake.row` gives them, as columns."""
    cells = [table.column(values, f.type) for values, f in zip(zip(*rows, strict=True), layout, strict=True)]
    return pa.RecordBatch.from_arrays(cells, schema=layout)


def unscaled(layout: pa.Schema, scaled: Sequence[str]) -> pa.Schema:
    """The layout before these modalities are scaled, which is done in float64."""
    return pa.schema([f.with_type(_double(f.type)) if f.name in scaled else f for f in layout])


def _double(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_double(kind.value_type), kind.list_size)
    return pa.list_(_double(kind.value_type)) if pa.types.is_list(kind) else pa.float64()


@contextmanager
def _waiting(batches: Iterator[pa.RecordBatch], layout: pa.Schema, out_dir: Path) -> Iterator[list[pa.RecordBatch]]:
    """What `batches` give, to be read as often as wanted."""
    path = out_dir / ".waiting.arrow.part"
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, layout) as writer:
            for batch in batches:
                writer.write_batch(batch)
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            yield [file.get_batch(i) for i in range(file.num_record_batches)]
    finally:
        path.unlink(missing_ok=True)


def _fit(
    name: str,
    dataset: Dataset,
    taken: Intake,
    scaled: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    feature_names: Mapping[str, Sequence[str]],
) -> dict[str, Scaler]:
    seen = {m: Running(dataset.modalities[m].shape[-1]) for m in scaled}
    farthest = {m: Farthest(dataset.modalities[m].shape[-1]) for m in scaled}
    for batch, rows in taken.located(batches):
        train = batch.take(rows["train"])
        for m, found in farthest.items():
            found.add(table.numbers(batch[m]))
        for m, running in seen.items():
            with np.errstate(over="ignore", invalid="ignore"):  # told below
                running.add(table.numbers(train[m]))
    taken.alone = {m: np.flatnonzero(found.alone_d).tolist() for m, found in farthest.items()}
    scalers = {m: running.scaler(dataset.scaling) for m, running in seen.items()}
    for m, fitted in scalers.items():
        empty_d, large_d = seen[m].empty_d, ~(np.isfinite(fitted.offset_d) & np.isfinite(fitted.spread_d))
        if (wrong_d := empty_d if empty_d.any() else large_d).any():
            j = int(np.flatnonzero(wrong_d)[0])
            feature = feature_names[m][j] if m in feature_names else f"number {j + 1}"
            raise DataError(
                f"{name}: modality '{m}': no row of train has a value of feature {feature} ({wrong_d.sum()} "
                "such features), so nothing can be filled in where it is missing; leave the feature out"
                if empty_d.any()
                else f"{name}: modality '{m}': feature {feature} has values in train that are too large to be scaled "
                f"(its mean or spread is not finite; {wrong_d.sum()} such features); look for a wrong value there"
            )
    return scalers


def _write(
    batches: Iterable[pa.RecordBatch],
    taken: Intake,
    layouts: Mapping[str, pa.Schema],
    scalers: Mapping[str, Scaler],
    stream: Stream,
    out_dir: Path,
) -> None:
    with ExitStack() as open_files:
        files = {}
        for split, layout in layouts.items():
            temp = open_files.enter_context(replacing(out_dir / f"{split}.parquet"))
            files[split] = open_files.enter_context(_RowGroups(temp, layout, stream.group_rows))
        for batch, rows in taken.located(batches):
            for split, own in rows.items():
                if len(own):
                    part = batch if len(own) == len(batch) else batch.take(own)
                    files[split].add(with_scale(part, layouts[split], scalers, out_dir / f"{split}.parquet"))


def with_scale(part: pa.RecordBatch, layout: pa.Schema, scalers: Mapping[str, Scaler], path: Path) -> pa.RecordBatch:
    """Rows of the layout before scaling, scaled and in the layout. DataError: a number is too large for float32."""
    cells = []
    for f in layout:
        column = part[f.name]
        if f.name in scalers:
            with np.errstate(over="ignore"):
                column = table.with_numbers(column, scalers[f.name], f.type)
            if not np.isfinite(table.numbers(column)).all():
                raise DataError(f"{path}: modality '{f.name}': a number is too large for float32 after scaling")
        cells.append(column)
    return pa.RecordBatch.from_arrays(cells, schema=layout)


class _RowGroups:
    """A sealed Parquet file in row groups of so many rows, or of fewer that take GROUP_BYTES."""

    def __init__(self, path: Path, layout: pa.Schema, rows: int) -> None:
        # numbers hardly repeat: a dictionary of them costs time and saves nothing. But bytes are stored as 32-bit
        # integers unless a dictionary holds the 256 of them
        lists = [f for f in layout if pa.types.is_fixed_size_list(f.type)]
        images = [f"{f.name}.list.element" for f in lists if f.type.value_type == pa.uint8()]
        names = [f.name for f in layout if f.type == pa.int64() or f.name == table.SCENE]
        self._file = pq.ParquetWriter(path, layout, compression="zstd", use_dictionary=[*images, *names])
        self._path, self._layout, self._rows, self._waiting = path, layout, rows, layout.empty_table()
        self._empty = True

    def __enter__(self) -> _RowGroups:
        return self

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting = pa.concat_tables([self._waiting, pa.Table.from_batches([batch])])
        while len(self._waiting) >= self._rows:
            self._flush(self._rows)
        if self._waiting.nbytes >= GROUP_BYTES:
            self._flush(len(self._waiting))

    def _flush(self, n: int) -> None:
        self._file.write_table(self._waiting.slice(0, n).combine_chunks(), row_group_size=max(n, 1))
        self._waiting = self._waiting.slice(n)
        self._empty = False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and (len(self._waiting) or self._empty):
            self._flush(len(self._waiting))
        self._file.close()
        if kind is None:
            seal(self._path)

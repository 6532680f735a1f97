"""What no checksum answers: exported weights and stored scores, computed again from the files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Set
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from mmcontrast.config import CellConfig, Grid
from mmcontrast.errors import DataError
from mmcontrast.evaluation.frames import read_frame
from mmcontrast.paths import Layout
from mmcontrast.pipeline.findings import Finding, judged

# largest difference of a probability, and of an embedding relative to its largest number, that the machine, its thread
# count or the size of a chunk may make; weights of another epoch differ by far more
TOLERANCE = 1e-4
# scores from the same stored numbers
SCORE_TOLERANCE = 1e-12


def model_findings(grid: Grid, layout: Layout, unread: Set[str] = frozenset()) -> Iterator[Finding]:
    """Every exported model, run again on the prepared data, against what its training stored.

    What fails on `unread` datasets, which are damaged, says nothing of a model, and spoils nothing.
    """
    for cell in grid.cells.values():
        for stage, seed in product(cell.stages, cell.seeds):
            file = layout.stage(cell.name, stage, f"models/seed{seed}.safetensors")
            check = partial(_largest_difference, cell, stage, seed, grid.root)
            goes = [layout.stage(cell.name, s) for s in cell.stages[cell.stages.index(stage) :]]
            goes = [] if unread & {name for name, _ in cell.data} else goes
            yield judged("models", grid.root, file, check, goes)


def _largest_difference(cell: CellConfig, stage: str, seed: int, root: Path, file: Path) -> float:
    """Of all embeddings and predictions of a model. Raises DataError where one is too large."""
    import torch

    from mmcontrast.data.loading import load_dataset
    from mmcontrast.evaluation.labels import output_column
    from mmcontrast.evaluation.readouts import column
    from mmcontrast.trained import exported_epoch, load_method
    from mmcontrast.training.loop import embed, predict

    def stored(table: str, rows: dict[str, Any]) -> pl.DataFrame:
        return read_frame(
            file.parents[1] / table, {"seed": pl.Int64, "split": pl.String, "id": pl.String}, again
        ).filter(**rows)

    again, largest = f"train {cell.name} again", 0.0
    method, device = load_method(file), torch.device("cpu")
    if method.cell.model_dump(exclude={"engine"}) != cell.of_stage(stage).model_dump(exclude={"engine"}):
        raise DataError(f"{file}: trained with other parameters than params/ now says; {again}")
    tables = load_dataset(cell, root, seed)
    embedded = tables | ({"train": tables["probe"]} if "probe" in tables else {})
    for split in ("train", "val", "test"):
        if len(embedded[split]) and not embedded[split].observations:
            before = stored("embeddings.parquet", {"seed": seed, "split": split})
            for readout, z in embed(method, embedded[split], device).items():
                rows = _rows(before, embedded[split].ids, column(readout))
                largest = max(largest, _difference(f"{file}: {column(readout)} of {split}", rows, z.numpy()))
    # a probe scores embeddings: such a cell stores no predictions of its classifier
    if stage == "finetune" and cell.scored_by == "classifier":
        epoch = exported_epoch(file)
        for split in ("val", "test"):
            if len(tables[split]):
                before = stored("predictions.parquet", {"seed": seed, "split": split, "epoch": epoch})
                rows = _rows(before, tables[split].ids, output_column(cell.target))
                found = predict(method, tables[split], device).numpy()
                largest = max(largest, _difference(f"{file}: predictions of {split}", rows, found))
    return largest


def _rows(frame: pl.DataFrame, ids: list[str], column: str) -> np.ndarray[Any, Any]:
    """The column's vectors in the order of ids."""
    joined = pl.DataFrame({"id": ids}).join(frame.select("id", column), on="id", how="left", maintain_order="left")
    if joined[column].null_count() or len(joined) != len(frame):
        raise DataError(f"{column}: the stored rows are not those of the prepared data; train the cell again")
    return joined[column].to_numpy()


def _difference(what: str, before: np.ndarray[Any, Any], again: np.ndarray[Any, Any]) -> float:
    same_shape = before.shape == again.shape
    difference = float(np.abs(before - again).max() / max(1.0, np.abs(before).max())) if same_shape else float("inf")
    if not difference <= TOLERANCE:
        raise DataError(f"{what} differ by {difference:.2g}; train the cell again")
    return difference


def score_findings(grid: Grid, layout: Layout) -> Iterator[Finding]:
    """Scores computed again from what is stored, against results.parquet."""
    path = grid.root / layout.report("results.parquet")
    try:
        results = read_frame(path, {"dataset": pl.String, "method": pl.String, "variant": pl.String}, "report it again")
    except FileNotFoundError:
        yield Finding("scores", str(path), "missing")
        return
    except Exception as e:  # as `judged`: no damage ends the examination
        reason = str(e) if isinstance(e, DataError) else f"{path}: {type(e).__name__}: {e}"
        yield Finding("scores", str(path), "wrong", reason, [layout.report("results.parquet")])
        return
    for cell in grid.cells.values():
        scored = grid.root / layout.scored(cell.name, cell.last_stage, cell.scored_by)
        reported = results.filter(dataset=cell.dataset, method=cell.method, variant=cell.variant)
        if not scored.exists() or reported.is_empty():
            yield Finding("scores", cell.name, "missing")
            continue
        try:
            _compare_scores(cell, scored, reported)
            yield Finding("scores", cell.name, "right")
        except Exception as e:
            select = layout.select
            again = f"run `mmcontrast evaluate {cell.name}{select}`, then `mmcontrast report results{select}`"
            reason = f"{cell.name}: {(str(e) or type(e).__name__).splitlines()[0]}; {again}"
            made = [layout.metrics(cell.name), layout.curves(cell.name), layout.intervals(cell.name)]
            yield Finding("scores", cell.name, "wrong", reason, [*made, layout.report("results.parquet")])


def _compare_scores(cell: CellConfig, scored: Path, reported: pl.DataFrame) -> None:
    """Raises AssertionError where a score differs."""
    from threadpoolctl import threadpool_limits

    from mmcontrast.evaluation.evaluate import evaluate_cell

    # many small matrices: more threads only get in each other's way
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        again = [Path(folder) / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
        evaluate_cell(cell, scored, *again)
        metrics = pl.read_parquet(again[0])
    columns = [c for c in metrics.columns if c in reported.columns]
    order = [c for c in columns if c != "value"]
    # a cell of two experiments is in the table twice
    one, other = metrics.select(columns).sort(order), reported.select(columns).unique().sort(order)
    assert_frame_equal(one, other, rel_tol=0, abs_tol=SCORE_TOLERANCE)

"""Predictions and embeddings of a cell as an earlier step of the pipeline wrote them, checked and as arrays.

Shapes: N cases of a split, E evaluated epochs, C classes, labels or quantities, D width of the embedding, P rows of a
modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import CellConfig
from mmcontrast.config.metrics import Target
from mmcontrast.data.parquet import read_parquet
from mmcontrast.data.table import task_column, weight_column
from mmcontrast.errors import DataError
from mmcontrast.evaluation.columns import OWN, column, label_type, not_predictions, output_column, readouts_of

NAMED = {pl.Array: "float32 of one width"}


def read_frame(path: Path, columns: Mapping[str, Any], remedy: str) -> pl.DataFrame:
    """A Parquet file as a frame.

    columns: name -> polars type, or None where any is accepted; further ones are let through. remedy: what to do about
    a wrong file, as the end of a sentence.
    Raises DataError: damaged, or a column is missing, of another type or has empty cells. FileNotFoundError: no file.
    """
    table = read_parquet(path, remedy)
    try:
        frame = pl.DataFrame(pl.from_arrow(table.replace_schema_metadata()))
    except (pl.exceptions.PolarsError, ValueError, TypeError) as e:
        raise DataError(f"{path}: not a table that is written here ({str(e).splitlines()[0]}); {remedy}") from None
    if missing := [c for c in columns if c not in frame.columns]:
        raise DataError(f"{path}: no column {', '.join(missing)}; expected {', '.join(columns)}; {remedy}")
    for name, kind in columns.items():
        dtype = frame[name].dtype
        # a vector may be of any width
        vector = isinstance(dtype, pl.Array) and dtype.inner == pl.Float32 and len(dtype.shape) == 1
        if kind is not None and not (vector if kind is pl.Array else dtype == kind):
            raise DataError(f"{path}: column {name} is {dtype}, expected {NAMED.get(kind, kind)}; {remedy}")
        if frame[name].null_count():
            raise DataError(f"{path}: column {name} has rows without a value; {remedy}")
    return frame


def read_outputs(path: Path, columns: Mapping[str, Any], cell: CellConfig) -> pl.DataFrame:
    """What the training of a cell has left, of all its seeds; `columns` as of `read_frame`.

    Raises DataError: as `read_frame`, or the file is missing, or is of other seeds than the cell.
    """
    try:
        frame = read_frame(path, columns, f"train {cell.name} again")
    except FileNotFoundError:
        raise DataError(f"{path}: no {path.stem}; run `mmcontrast {cell.last_stage} {cell.name}` first") from None
    found = frame["seed"].unique().sort().to_list()
    if found != sorted(cell.seeds):
        raise DataError(
            f"{path}: {cell.name}: holds seeds {found}, and the suite lists {sorted(cell.seeds)}; train the cell again"
        )
    return frame


def by_epoch(part: pl.DataFrame, keys: Sequence[str], where: str) -> tuple[list[int], pl.DataFrame]:
    """The E epochs of E * N rows sorted by epoch, and N rows with the keys; DataError where epochs have other rows."""
    epochs = part["epoch"].unique().sort().to_list()
    n, rest = divmod(len(part), len(epochs))
    rows = part.select(keys)
    if rest or any(not rows[i * n : (i + 1) * n].equals(rows[:n]) for i in range(1, len(epochs))):
        raise DataError(
            f"{where}: not the same {', '.join(keys)} at every epoch of {epochs[0]}..{epochs[-1]}; train the cell again"
        )
    return epochs, rows[:n]


PREDICTED = {"seed": pl.Int64, "epoch": pl.Int64, "split": pl.String, "id": pl.String}
PREDICTED_SPLITS = ("val", "test")


@dataclass(frozen=True)
class Predictions:
    """One seed's predictions of one split at every evaluated epoch.

    Attributes:
        ids: N case names, sorted. labels: (N,) class indices, (N, C) zeros and ones, or (N, C) numbers.
        probs: (E, N, C) probabilities or predicted numbers. epochs: the E evaluated ones, ascending, 0-based.
        weights: (N,) what each case counts in a score; None = all count alike.
    """

    ids: list[str]
    labels: NDArray[Any]
    probs: NDArray[np.float32]
    epochs: list[int]
    weights: NDArray[np.float64] | None = None


def read_predictions(path: Path, cell: CellConfig) -> dict[tuple[int, str], Predictions]:
    """Every (seed, split) of a cell's predictions.parquet.

    The split "val" is absent where the cell holds nothing out and its dataset publishes none; "test" never is.
    Raises DataError: the file is missing or not what this cell's training writes; names the cell, seed and split.
    """
    target = cell.targets[""]
    columns = PREDICTED | {"label": label_type(target), output_column(target.kind): pl.Array}
    frame = read_outputs(path, columns, cell)
    out: dict[tuple[int, str], Predictions] = {}
    for (seed, split), part in frame.sort("seed", "split", "epoch", "id").group_by(
        ["seed", "split"], maintain_order=True
    ):
        if split not in PREDICTED_SPLITS:
            raise DataError(f"{path}: {cell.name}: split '{split}'; accepted are {', '.join(PREDICTED_SPLITS)}")
        out[int(str(seed)), str(split)] = _predictions(part, f"{path}: {cell.name}, seed {seed}, {split}", cell)
    needed = [("test",), ("val",)] if cell.selection.holdout > 0 else [("test",)]
    _check_alike(out, path, cell, needed)
    return out


def _predictions(part: pl.DataFrame, where: str, cell: CellConfig) -> Predictions:
    epochs, cases = by_epoch(part, ["id", "label"], where)
    ids, labels = _cases(cases, {"label": cell.targets[""]}, where)
    stage = cell.finetune
    if stage is not None and epochs[-1] != stage.epochs - 1:
        raise DataError(f"{where}: the last evaluated epoch is {epochs[-1]}, and training ends at {stage.epochs - 1}")
    return Predictions(ids, labels["label"], _outputs(part, epochs, len(ids), where, cell), epochs)


def _cases(part: pl.DataFrame, targets: Mapping[str, Target], where: str) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Ids, and labels by their column, as the dataset's file accepts them."""
    ids, found = part["id"].to_list(), {}
    if len(set(ids)) != len(ids):
        raise DataError(f"{where}: a case has more than one row; train the cell again")
    for name, target in targets.items():
        labels = found[name] = part[name].to_numpy()
        wrong, accepted = ~np.isfinite(labels), "finite numbers"
        if target.kind != "regression":
            most = target.width - 1 if target.kind == "classes" else 1
            wrong, accepted = (labels < 0) | (labels > most), f"0 to {most}"
        if wrong.any():
            i = int(wrong.reshape(len(labels), -1).any(-1).argmax())
            raise DataError(f"{where}: {name}: {labels[i].tolist()} of case {ids[i]}; accepted are {accepted}")
    return ids, found


def _outputs(part: pl.DataFrame, epochs: list[int], n: int, where: str, cell: CellConfig) -> NDArray[np.float32]:
    kind, wanted = cell.target, len(cell.classes)
    column = part[output_column(kind)]
    width = column.dtype.shape[0] if isinstance(column.dtype, pl.Array) else None
    if width != wanted:
        a_name = {"classes": "a class", "multilabel": "a label", "regression": "a quantity"}[kind]
        raise DataError(f"{where}: {column.name} is {column.dtype}, expected {wanted} float32, one {a_name}")
    outputs = column.to_numpy().reshape(len(epochs), n, wanted)
    bad = not_predictions(kind, outputs)
    if bad.any():
        e, i = np.argwhere(bad)[0]
        what = "finite numbers" if kind == "regression" else "probabilities"
        raise DataError(
            f"{where}: epoch {epochs[e]}, case {part['id'][int(i)]}: {outputs[e, i].tolist()} are not {what} "
            f"({int(bad.sum())} such rows); the training diverged or the file is damaged"
        )
    return outputs


def _check_alike(out: Mapping[Any, Any], path: Path, cell: CellConfig, needed: Sequence[tuple[str, ...]]) -> None:
    """All seeds have the same parts, evaluated at the same epochs, and the same test instances with the same labels."""
    parts = dict.fromkeys([*needed, *(key[1:] for key in out)])
    epochs = None
    for seed, part in product(cell.seeds, parts):
        where = f"{path}: {cell.name}, seed {seed}"
        if (seed, *part) not in out:
            of = "".join(f" of '{modality}'" for modality in part[1:])
            raise DataError(f"{where}: no rows of the {part[0]} split{of}; train the cell again")
        one, first = out[seed, *part], out[cell.seeds[0], *part]
        epochs = epochs or getattr(one, "epochs", None)
        if getattr(one, "epochs", None) != epochs:
            raise DataError(f"{where}, {', '.join(part)}: evaluated at other epochs; train the cell again")
        # only the test split is the same for all seeds: val may be held out by seed
        same = np.array_equal(one.ids, first.ids) and np.array_equal(one.labels, first.labels)
        if part[0] == "test" and not same:
            raise DataError(f"{where}: other test instances or labels than seed {cell.seeds[0]}; train the cell again")


EMBEDDED = {"seed": pl.Int64, "split": pl.String, "id": pl.String, "embedding": pl.Array}
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Embeddings:
    """One seed's embeddings of one split.

    Attributes:
        ids: N case names, sorted. z: (N, D) finite float32.
        labels: (N,) class indices, (N, C) zeros and ones, or (N, C) numbers.
        tasks: task -> labels of the dataset's further tasks.
        readouts: further embeddings that are scored, by name; see `evaluation.columns`.
        weights: task -> (N,) what each case counts, of the main labels under the empty name; {} = all count alike.
    """

    ids: list[str]
    labels: NDArray[Any]
    z: NDArray[np.float32]
    tasks: dict[str, NDArray[Any]] = field(default_factory=dict)
    readouts: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def cases(self, task: str) -> Embeddings:
        """The cases of a task, with its labels and, where there are weights, these alone, of mean 1, without a name."""
        labels = self.tasks[task] if task else self.labels
        if not self.weights:
            return replace(self, labels=labels)
        rows = np.flatnonzero(weights_N := self.weights[task])
        return Embeddings(
            [self.ids[i] for i in rows],
            labels[rows],
            self.z[rows],
            readouts={name: z_ND[rows] for name, z_ND in self.readouts.items()},
            weights={"": weights_N[rows] / weights_N[rows].mean()},
        )

    def of(self, readout: str) -> NDArray[np.float32]:
        """(N, D) of a readout."""
        return self.readouts[readout] if readout else self.z


def read_embeddings(path: Path, cell: CellConfig) -> dict[tuple[int, str], Embeddings]:
    """Every (seed, split) of a cell's embeddings.parquet; train, val and test are all there.

    Raises DataError: the file is missing or not what this cell's training writes; names the cell, seed and split.
    """
    columns = EMBEDDED | {_column(task): label_type(target) for task, target in cell.targets.items()}
    columns |= dict.fromkeys(map(weight_column, cell.targets), pl.Float64) if cell.case_weights else {}
    frame = read_outputs(path, columns, cell)
    for readout in map(column, readouts_of(frame.columns)):
        if not isinstance(frame[readout].dtype, pl.Array):
            raise DataError(f"{path}: {cell.name}: {readout} is {frame[readout].dtype}, expected float32 of one width")
    out = {
        (seed, split): _embeddings(
            frame.filter(seed=seed, split=split), f"{path}: {cell.name}, seed {seed}, {split}", cell
        )
        for seed in cell.seeds
        for split in SPLITS
    }
    _check_alike(out, path, cell, [])
    return out


def _embeddings(part: pl.DataFrame, where: str, cell: CellConfig) -> Embeddings:
    if part.is_empty():
        remedy = "; a probe needs one: set selection.holdout above 0" if where.endswith(", val") else ""
        raise DataError(f"{where}: no rows of this split{remedy}")
    part = part.sort("id")
    ids, tasks = _cases(part, {_column(task): target for task, target in cell.targets.items()}, where)
    readouts = {readout: part[column(readout)].to_numpy() for readout in readouts_of(part.columns)}
    for readout, z_ND in readouts.items():
        bad_N = ~np.isfinite(z_ND).all(-1)
        if bad_N.any():
            raise DataError(
                f"{where}: the {column(readout)} of case {ids[int(bad_N.argmax())]} is not finite ({int(bad_N.sum())} "
                "such rows); the training diverged or the file is damaged"
            )
    weights = {t: part[weight_column(t)].to_numpy() for t in cell.targets} if cell.case_weights else {}
    further = {task: tasks[task_column(task)] for task in cell.tasks}
    return Embeddings(ids, tasks["label"], readouts.pop(OWN), further, readouts, weights)


def _column(task: str) -> str:
    return task_column(task) if task else "label"


OBSERVED = {
    **{"seed": pl.Int64, "epoch": pl.Int64, "split": pl.String, "modality": pl.String, "id": pl.String},
    **{"label": None, "observation": pl.Int64, "embedding": pl.Array},
}


@dataclass(frozen=True)
class Observed:
    """One seed's observations of one split and modality at every evaluated epoch.

    Attributes:
        ids: (P,) instance of each row. labels: (P,) its class.
        z: (E, P, D) finite float32, in the order of `epochs`. epochs: ascending, 0-based.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    z: NDArray[np.float32]
    epochs: list[int]


def read_observations(path: Path, cell: CellConfig) -> dict[tuple[int, str, str], Observed]:
    """(seed, split, modality) -> embeddings of a cell's embeddings.parquet. "val" may be absent; "test" never is.

    Raises DataError: the file is missing or not what this cell's training writes; names the cell, seed and split.
    """
    frame = read_outputs(path, OBSERVED, cell)
    out: dict[tuple[int, str, str], Observed] = {}
    keys = ["seed", "split", "modality"]
    for (seed, split, modality), part in frame.sort(*keys, "epoch", maintain_order=True).group_by(
        keys, maintain_order=True
    ):
        where = f"{path}: {cell.name}, seed {seed}, {split}, {modality}"
        out[int(str(seed)), str(split), str(modality)] = _observed(part, where)
    _check_alike(out, path, cell, [("test", modality) for modality in cell.modalities])
    for (seed, split, modality), one in out.items():
        other = out.get((seed, split, next(iter(cell.modalities))))
        if other is None or set(one.ids) != set(other.ids):
            where = f"{path}: {cell.name}, seed {seed}, {split}, {modality}"
            raise DataError(f"{where}: not the instances of the first modality; train the cell again")
    return out


def _observed(part: pl.DataFrame, where: str) -> Observed:
    epochs, rows = by_epoch(part, ["id", "label", "observation"], where)
    z = part["embedding"].to_numpy()
    if not np.isfinite(z).all():
        bad = int((~np.isfinite(z).all(-1)).argmax())
        raise DataError(
            f"{where}: the embedding of {part['id'][bad]} is not finite; the training diverged or the file is damaged"
        )
    z = z.reshape(len(epochs), len(rows), -1)
    return Observed(np.array(rows["id"].to_list()), rows["label"].to_numpy(), z, epochs)

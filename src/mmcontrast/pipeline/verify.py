"""Do the files still give what was reported? Checksums, predictions and scores, all computed again.

Three questions, each answered from the files alone:
- files: is everything that dvc.lock lists still what it was, in the workspace and in DVC's cache?
- models: do the exported weights, run again, give the predictions and embeddings that are stored?
- scores: do the stored predictions and embeddings give the scores in results.parquet?
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from polars.testing import assert_frame_equal

from mmcontrast.config import CellConfig, Grid
from mmcontrast.errors import DataError, MMContrastError
from mmcontrast.paths import Layout

# largest difference of a probability, and of an embedding relative to its largest number, that the machine, its thread
# count or the size of a chunk may make; weights of another epoch differ by far more
TOLERANCE = 1e-4
# scores from the same stored numbers
SCORE_TOLERANCE = 1e-12


@dataclass
class Verdict:
    """What one question found.

    Attributes:
        checked: how many things were looked at. missing: names of what is not here. wrong: what is not as it was.
        largest: the largest difference that was accepted.
    """

    what: str
    checked: int = 0
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    largest: float | None = None

    @property
    def text(self) -> str:
        """One line, and one more for each fault."""
        absent = f", {len(self.missing)} not here" if self.missing else ""
        accepted = "" if self.largest is None else f" (largest difference {self.largest:.1g})"
        head = f"{self.what}: {self.checked} checked{absent}, {len(self.wrong)} wrong{accepted}"
        return "\n".join([head, *(f"  {line}" for line in self.wrong)])


def verify(grid: Grid, layout: Layout) -> list[Verdict]:
    """All verdicts of a selection; DVC's part is of the default one alone, which dvc.lock is about."""
    locked = locked_files(grid.root) if layout.is_default else []
    return [*locked, *exported_models(grid, layout), stored_scores(grid, layout)]


def locked_files(root: Path) -> Iterator[Verdict]:
    """Workspace files and cache objects against the checksums in dvc.lock."""
    locked: dict[str, str] = {}
    if (root / "dvc.lock").exists():
        for stage in yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"].values():
            locked |= {entry["path"]: entry["md5"] for part in ("deps", "outs") for entry in stage.get(part, [])}
    files, objects = Verdict("files of dvc.lock"), Verdict("objects in DVC's cache")
    for path, md5 in sorted(locked.items()):
        if not (root / path).exists():
            files.missing.append(path)
            continue
        files.checked += 1
        if (found := md5_of(root / path)) != md5:
            files.wrong.append(f"{path}: md5 {found}, and dvc.lock says {md5}; delete it, then run `dvc repro`")
    for md5 in sorted(set(locked.values())):
        blob = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
        if blob.exists():
            objects.checked += 1
            if (found := _md5(blob)) != md5.removesuffix(".dir"):
                # DVC trusts its cache: it would hand the object out again
                names = ", ".join(path for path, of in locked.items() if of == md5)
                objects.wrong.append(
                    f"{blob.relative_to(root)}: md5 {found}, the copy of {names}; delete it, then run `dvc commit -f` "
                    f"if {names} is right; otherwise delete that too and run `dvc repro`"
                )
    yield files
    yield objects


def md5_of(path: Path) -> str:
    """DVC's checksum of a file or a folder."""
    if path.is_file():
        return _md5(path)
    # .dvcignore keeps Snakemake's own marks out of folders
    files = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".snakemake"))
    inside = sorted(str(p.relative_to(path)) for p in files)
    listed = [{"md5": _md5(path / name), "relpath": name} for name in inside]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


@cache
def _md5(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def exported_models(grid: Grid, layout: Layout) -> list[Verdict]:
    """Every exported model, run again on the prepared data, against what its training stored."""
    predictions, embeddings = Verdict("models: predictions"), Verdict("models: embeddings")
    for cell in grid.cells.values():
        for stage, seed in product(cell.stages, cell.seeds):
            name = layout.stage(cell.name, stage, f"models/seed{seed}.safetensors")
            if not (grid.root / name).exists():
                embeddings.missing.append(name)
                continue
            try:
                _compare_model(cell, stage, seed, grid.root, layout, predictions, embeddings)
            except MMContrastError as e:
                embeddings.checked += 1
                embeddings.wrong.append(str(e))
    return [v for v in (predictions, embeddings) if v.checked or v.missing]


def _compare_model(
    cell: CellConfig, stage: str, seed: int, root: Path, layout: Layout, predictions: Verdict, embeddings: Verdict
) -> None:
    import torch

    from mmcontrast.data.loading import load_dataset
    from mmcontrast.evaluation.labels import output_column
    from mmcontrast.evaluation.readouts import column
    from mmcontrast.trained import exported_epoch, load_method
    from mmcontrast.training.loop import embed, predict

    file = root / layout.stage(cell.name, stage, f"models/seed{seed}.safetensors")
    method, device = load_method(file), torch.device("cpu")
    if method.cell.model_dump(exclude={"engine"}) != cell.of_stage(stage).model_dump(exclude={"engine"}):
        raise DataError(f"{file}: trained with other parameters than params/ now says; train {cell.name} again")
    tables = load_dataset(cell, root, seed)
    embedded = tables | ({"train": tables["probe"]} if "probe" in tables else {})
    stored = pl.read_parquet(root / layout.stage(cell.name, stage, "embeddings.parquet")).filter(seed=seed)
    for split in ("train", "val", "test"):
        if len(embedded[split]) and not embedded[split].observations:
            for view, again in embed(method, embedded[split], device).items():
                before = _rows(stored.filter(split=split), embedded[split].ids, column(view))
                _compare(embeddings, f"{file}: {column(view)} of {split}", before, again.numpy())
    # a probe scores embeddings: such a cell stores no predictions of its classifier
    if stage != "finetune" or cell.scored_by != "classifier":
        return
    stored = pl.read_parquet(root / layout.stage(cell.name, stage, "predictions.parquet"))
    stored = stored.filter(seed=seed, epoch=exported_epoch(file))
    for split in ("val", "test"):
        if len(tables[split]):
            before = _rows(stored.filter(split=split), tables[split].ids, output_column(cell.target))
            probs = predict(method, tables[split], device).numpy()
            _compare(predictions, f"{file}: predictions of {split}", before, probs)


def _rows(frame: pl.DataFrame, ids: list[str], column: str) -> np.ndarray[Any, Any]:
    """The column's vectors in the order of ids."""
    joined = pl.DataFrame({"id": ids}).join(frame.select("id", column), on="id", how="left", maintain_order="left")
    if joined[column].null_count() or len(joined) != len(frame):
        raise DataError(f"{column}: the stored rows are not those of the prepared data; train the cell again")
    return joined[column].to_numpy()


def _compare(verdict: Verdict, what: str, before: np.ndarray[Any, Any], again: np.ndarray[Any, Any]) -> None:
    verdict.checked += 1
    same_shape = before.shape == again.shape
    difference = float(np.abs(before - again).max() / max(1.0, np.abs(before).max())) if same_shape else float("inf")
    if not difference <= TOLERANCE:
        verdict.wrong.append(f"{what} differ by {difference:.2g}; train the cell again")
    else:
        verdict.largest = max(verdict.largest or 0.0, difference)


def stored_scores(grid: Grid, layout: Layout) -> Verdict:
    """Scores computed again from what is stored, against metrics.parquet and results.parquet."""
    from mmcontrast.evaluation.evaluate import evaluate_cell

    verdict = Verdict("scores in results.parquet")
    path = grid.root / layout.report("results.parquet")
    if not path.exists():
        verdict.missing.append(str(path))
        return verdict
    results = pl.read_parquet(path)
    for cell in grid.cells.values():
        scored = grid.root / layout.scored(cell.name, cell.last_stage, cell.scored_by)
        reported = results.filter(dataset=cell.dataset, method=cell.method, variant=cell.variant)
        if not scored.exists() or reported.is_empty():
            verdict.missing.append(cell.name)
            continue
        with tempfile.TemporaryDirectory() as folder:
            again = [Path(folder) / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
            evaluate_cell(cell, scored, *again)
            metrics = pl.read_parquet(again[0])
        verdict.checked += len(metrics)
        columns = [c for c in metrics.columns if c in reported.columns]
        order = [c for c in columns if c != "value"]
        # a cell of two experiments is in the table twice
        one, other = metrics.select(columns).sort(order), reported.select(columns).unique().sort(order)
        try:
            assert_frame_equal(one, other, rel_tol=0, abs_tol=SCORE_TOLERANCE)
        except AssertionError as e:
            reason = str(e).splitlines()[0]
            verdict.wrong.append(f"{cell.name}: {reason}; run `mmcontrast evaluate {cell.name}` and the report again")
    return verdict

"""Is everything still what it was? Every artifact of a suite, one verdict each, whatever has happened to it.

Checksums first: of the plan, raw and prepared data, what training left behind, scores, evidence, and for the default
suite what dvc.lock lists. Then the two questions that no checksum answers: do the exported weights give the stored
predictions and embeddings, and do these give the reported scores?
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import groupby, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import yaml
from polars.testing import assert_frame_equal

from mmcontrast import paths
from mmcontrast.config import CellConfig, Grid
from mmcontrast.data.files import check_prepared, read_json, sha256_of
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.data.parquet import read_outline
from mmcontrast.errors import DataError, MMContrastError, first_line
from mmcontrast.evaluation.stored import read_frame
from mmcontrast.exported import sealed
from mmcontrast.paths import Layout
from mmcontrast.pipeline.plan import planned

# largest difference of a probability, and of an embedding relative to its largest number, that the machine, its thread
# count or the size of a chunk may make; weights of another epoch differ by far more
TOLERANCE = 1e-4
# scores from the same stored numbers
SCORE_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Finding:
    """The verdict on one artifact: what was asked of all of its kind, and its name, usually its path.

    `spoiled`: paths without which the next run makes it again, and those of what is made from it: of a cell also its
    scores, and of both the page. `largest`: the largest difference that was accepted, of numbers computed again.
    """

    kind: str
    name: str
    state: Literal["right", "wrong", "missing"]
    reason: str = ""
    spoiled: list[str] = field(default_factory=list)
    largest: float | None = None


def judged(
    kind: str, root: Path, file: str, check: Callable[[Path], object], spoiled: list[str] | None = None
) -> Finding:
    """What a check makes of a path: it raises, or may return the largest difference. No damage ends the examination."""
    try:
        if not (root / file).exists():
            return Finding(kind, file, "missing")
        found = check(root / file)
    except Exception as e:
        told = str(e) if isinstance(e, MMContrastError) else f"{file}: {type(e).__name__}: {e}"
        return Finding(kind, file, "wrong", told, [file] if spoiled is None else spoiled)
    return Finding(kind, file, "right", largest=found if isinstance(found, float) else None)


def told(findings: Iterable[Finding], say: Callable[[str], None]) -> list[Finding]:
    """Say what is found as it is found, a line for each fault and one for each kind; all findings."""
    found: list[Finding] = []
    for kind, group in groupby(findings, key=lambda finding: finding.kind):
        of_kind = []
        for finding in group:
            of_kind.append(finding)
            if finding.state == "wrong":
                say(f"  {finding.reason}")
        absent = sum(f.state == "missing" for f in of_kind)
        wrong = sum(f.state == "wrong" for f in of_kind)
        largest = max((f.largest for f in of_kind if f.largest is not None), default=None)
        accepted = "" if largest is None else f" (largest difference {largest:.1g})"
        not_here = f", {absent} not here" if absent else ""
        say(f"{kind}: {len(of_kind) - absent} checked{not_here}, {wrong} wrong{accepted}")
        found += of_kind
    return found


def repair(findings: list[Finding], root: Path, say: Callable[[str], None]) -> list[str]:
    """Remove what is wrong and what is made from it, so that the next run makes it again; its paths."""
    spoiled = sorted({path for f in findings if f.state == "wrong" for path in f.spoiled})
    for path in spoiled:
        target = root / path
        if target.exists():
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            say(f"removed {path}")
    return spoiled


def examine(grid: Grid, layout: Layout) -> Iterator[Finding]:
    """One finding after another; the cheap ones first. Nothing is written."""
    page = layout.report("index.html")
    for finding in _examined(grid, layout):
        goes = dict.fromkeys(finding.spoiled)
        for path in finding.spoiled:
            for name, cell in ((n, c) for n, c in grid.cells.items() if path.startswith(layout.run(n, ""))):
                # else what was finetuned from it would stand, and it would not be made again
                made = [layout.stage(name, s) for s in cell.stages if path == layout.stage(name, cell.stages[0])]
                goes |= dict.fromkeys([*made, *layout.scores(name), page])
            if path.startswith(f"{layout.report()}/"):
                goes[page] = None
        yield replace(finding, spoiled=list(goes))


def _examined(grid: Grid, layout: Layout) -> Iterator[Finding]:
    root = grid.root
    try:
        for file in planned(grid, layout)[1]:
            if file.endswith(".json"):
                yield judged("plan", root, file, read_json)
    except (MMContrastError, OSError) as e:  # what it reads from outside the pipeline
        yield Finding("plan", layout.plans, "wrong", str(e))
    used = sorted({dataset for cell in grid.cells.values() for dataset, _ in cell.data})
    damaged: set[str] = set()
    for name in used:
        spec = grid.datasets[name]
        if spec.sources:
            # without its manifest it is fetched again; what a user has put beside it by hand stays
            check = partial(verified_manifest, name, spec)
            yield judged("raw data", root, paths.raw_dir(name), check, [paths.raw_manifest(name)])
        folder = str(Path(paths.datasheet(name)).parent)
        prepared = [judged("prepared data", root, file, _check, [folder]) for file in paths.prepared_files(name)]
        yield from prepared
        damaged |= {name for finding in prepared if finding.state != "right"}
    yield from _outputs(grid, layout)
    if layout.is_default:
        yield from _locked(root)
    yield from model_findings(grid, layout, damaged)
    yield from score_findings(grid, layout)


def _check(path: Path) -> None:
    """A table or JSON by its seal; of a prepared split also its checksum in the datasheet beside it."""
    if path.suffix == ".json":
        read_json(path)
        return
    check_prepared(path)
    read_outline(path, "remove it and run the pipeline again")


def _outputs(grid: Grid, layout: Layout) -> Iterator[Finding]:
    root = grid.root
    for cell in grid.cells.values():
        for stage in cell.stages:
            folder = layout.stage(cell.name, stage)
            for file in layout.outputs(cell.name, stage):
                yield judged("outputs of training", root, file, _check, [folder])
            yield judged("outputs of training", root, f"{folder}/models", _check_models, [folder])
    for cell in grid.cells.values():
        for file in layout.scores(cell.name):
            yield judged("scores of cells", root, file, _check, layout.scores(cell.name))
    for part in ("results.parquet", "intervals.parquet"):
        yield judged("report", root, layout.report(part), _check)
    for part in (*grid.active_experiments, "page"):
        yield judged("report", root, layout.evidence(part), _check)
    for kept in sorted((root / layout.kept).glob("*.parquet")):
        yield judged("earlier results", root, str(kept.relative_to(root)), _check_named)


def _check_models(folder: Path) -> None:
    for name in read_json(folder / paths.CHECKSUMS):
        sealed(folder / name)


def _check_named(file: Path) -> None:
    if sha256_of(file) != file.stem:
        raise DataError(f"{file}: its name is the sha256 it should have, and it has another; remove it")


def _locked(root: Path) -> Iterator[Finding]:
    """What stages have made, and cache objects, against dvc.lock; what stages are given is the user's to edit."""
    if not (root / "dvc.lock").exists():
        yield Finding("files of dvc.lock", "dvc.lock", "missing")
        return
    locked: dict[str, str] = {}
    try:
        for stage in yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"].values():
            locked |= {str(entry["path"]): str(entry["md5"]) for entry in stage.get("outs", [])}
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as e:
        reason = f"dvc.lock: damaged ({str(e).splitlines()[0]}); run `git checkout dvc.lock`"
        yield Finding("files of dvc.lock", "dvc.lock", "wrong", reason)
        return
    for path, md5 in sorted(locked.items()):
        yield judged("files of dvc.lock", root, path, partial(_check_md5, path, md5))
    store = _cache_folder(root)
    for md5 in sorted(set(locked.values())):
        blob = store / md5[:2] / md5[2:]
        if os.path.exists(blob):
            shown = str(blob.relative_to(root) if blob.is_relative_to(root) else blob)
            check = partial(_check_object, shown, md5, [path for path, of in locked.items() if of == md5])
            yield judged("objects in DVC's cache", root, shown, check)


def _check_object(shown: str, md5: str, names: list[str], blob: Path) -> None:
    if (found := _md5(blob)) != md5.removesuffix(".dir"):
        raise DataError(
            f"{shown}: md5 {found}, the copy of {', '.join(names)}; delete it, then run `dvc commit -f` if "
            f"{', '.join(names)} is right; otherwise delete that too and run `dvc repro`"
        )


def _cache_folder(root: Path) -> Path:
    from dvc.config import Config

    try:
        folder = Config(str(root / ".dvc"))["cache"].get("dir")
    except Exception:
        folder = None
    return Path(folder or root / ".dvc/cache") / "files/md5"


def _check_md5(path: str, md5: str, file: Path) -> None:
    if (found := md5_of(file)) != md5:
        raise DataError(f"{path}: md5 {found}, and dvc.lock says {md5}; delete it, then run `dvc repro`")


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


def model_findings(grid: Grid, layout: Layout, damaged: Set[str] = frozenset()) -> Iterator[Finding]:
    """Every exported model run again, against what its training stored; on `damaged` datasets no failure spoils it."""
    for cell in grid.cells.values():
        for stage, seed in product(cell.stages, cell.seeds):
            file = layout.stage(cell.name, stage, f"models/seed{seed}.safetensors")
            check = partial(_largest_difference, cell, stage, seed, grid.root)
            goes = [] if any(name in damaged for name, _ in cell.data) else [layout.stage(cell.name, stage)]
            yield judged("models", grid.root, file, check, goes)


def _largest_difference(cell: CellConfig, stage: str, seed: int, root: Path, file: Path) -> float:
    """Of all embeddings and predictions of a model. Raises DataError where one is too large."""
    import torch

    from mmcontrast.data.loading import load_dataset
    from mmcontrast.evaluation.columns import column, output_column
    from mmcontrast.trained import exported_epoch, load_method
    from mmcontrast.training.outputs import embed, predict

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
    columns, results = dict.fromkeys(("dataset", "method", "variant"), pl.String), list[pl.DataFrame]()
    file = layout.report("results.parquet")
    read = judged("scores", grid.root, file, lambda path: results.append(read_frame(path, columns, "report it again")))
    if read.state != "right":
        yield read
        return
    for cell in grid.cells.values():
        scored = grid.root / layout.scored(cell.name, cell.last_stage, cell.scored_by)
        reported = results[0].filter(dataset=cell.dataset, method=cell.method, variant=cell.variant)
        if not scored.exists() or reported.is_empty():
            yield Finding("scores", cell.name, "missing")
            continue
        try:
            _compare_scores(cell, scored, reported)
            yield Finding("scores", cell.name, "right")
        except Exception as e:
            select = layout.select
            again = f"run `mmcontrast evaluate {cell.name}{select}`, then `mmcontrast report results{select}`"
            reason = f"{cell.name}: {first_line(e)}; {again}"
            yield Finding("scores", cell.name, "wrong", reason, [*layout.scores(cell.name), file])


def _compare_scores(cell: CellConfig, scored: Path, reported: pl.DataFrame) -> None:
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

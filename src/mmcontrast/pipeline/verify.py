"""Is everything still what it was? Every artifact of a suite, one verdict each, whatever has happened to it.

First the checksums of plan, data, what training left, scores and evidence, and for the default suite what dvc.lock
lists. Then what no checksum answers: whether exported weights give the stored predictions and embeddings, these the
reported scores, and all parts the same numbers. Models and probes take most of the time: a part is drawn, or all run.
"""

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow.compute as pc
import yaml
from polars.testing import assert_frame_equal

from mmcontrast import paths
from mmcontrast.config import CellConfig, Grid
from mmcontrast.data.croissant import described
from mmcontrast.data.files import check_prepared, read_json, sha256_of
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.data.parquet import read_outline, read_parquet, write_parquet
from mmcontrast.errors import DataError, MMContrastError, first_line
from mmcontrast.evaluation.stored import read_frame
from mmcontrast.exported import sealed
from mmcontrast.paths import Layout
from mmcontrast.pipeline.plan import planned

# largest difference of a probability, and of an embedding relative to its largest number, that the machine, its thread
# count or the size of a chunk may make; weights of another epoch differ by far more
TOLERANCE = 1e-4
# of scores from the same stored numbers, absolute or relative, by another BLAS kernel or number of threads
SCORE_TOLERANCE = 1e-6
# how many cells' probes are fitted again where not all are, each for one seed
PROBES = 6
# what is there before anything has run: it is made from params/ or comes with the repository
RECORDS = ("plan", "files of dvc.lock", "objects in DVC's cache")


@dataclass(frozen=True)
class Finding:
    """The verdict on one artifact: what was asked of all of its kind, and its name, usually its path.

    `spoiled`: paths without which the next run makes it again, and what is made from it (a cell's scores, the page).
    `largest`: the largest difference that was accepted, of numbers computed again.
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
        which = f" ({', '.join(f.name for f in of_kind)})" if kind == "probes" and len(of_kind) <= PROBES else ""
        say(f"{kind}{which}: {len(of_kind) - absent} checked{not_here}, {wrong} wrong{accepted}")
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


def examine(grid: Grid, layout: Layout, every: bool = True) -> Iterator[Finding]:
    """One finding after another, cheap ones first; writes nothing. `every`: all models and probes, or a drawn part."""
    page = layout.report("index.html")
    for finding in _examined(grid, layout, every):
        goes = dict.fromkeys(finding.spoiled)
        for path in finding.spoiled:
            for name, cell in ((n, c) for n, c in grid.cells.items() if path.startswith(layout.run(n, ""))):
                # else what was finetuned from it would stand, and it would not be made again
                made = [layout.stage(name, s) for s in cell.stages if path == layout.stage(name, cell.stages[0])]
                goes |= dict.fromkeys([*made, *layout.scores(name), page])
            if path.startswith(f"{layout.report()}/"):
                goes[page] = None
        yield replace(finding, spoiled=list(goes))


def _examined(grid: Grid, layout: Layout, every: bool) -> Iterator[Finding]:
    root, seen = grid.root, list[Finding]()
    try:
        for file in planned(grid, layout)[1]:
            if file.endswith(".json"):
                yield judged("plan", root, file, read_json)
    except (MMContrastError, OSError) as e:  # what it reads from outside the pipeline
        yield Finding("plan", layout.plans, "wrong", str(e))
    used = {dataset for cell in grid.cells.values() for dataset, _ in cell.data}
    used |= {base for name in used if (base := grid.datasets[name].features_of) is not None}
    damaged: set[str] = set()
    for name in sorted(used):
        spec = grid.datasets[name]
        if spec.sources:
            # without its manifest it is fetched again; what a user has put beside it by hand stays
            check = partial(verified_manifest, name, spec)
            yield judged("raw data", root, paths.raw_dir(name), check, [paths.raw_manifest(name)])
        folder = str(Path(paths.datasheet(name)).parent)
        prepared = [judged("prepared data", root, f, _check_prepared, [folder]) for f in paths.prepared_files(name)]
        yield from prepared
        seen += prepared
        damaged |= {name for finding in prepared if finding.state != "right"}
    for finding in _outputs(grid, layout):
        yield finding
        seen.append(finding)
    if layout.is_default:
        yield from _locked(root, seen)
    yield from model_findings(grid, layout, damaged, every)
    yield from score_findings(grid, layout, every)


def _check_prepared(path: Path) -> None:
    """A split has its checksum in the datasheet beside it, and croissant.json says the same as that."""
    again = f"run `mmcontrast data prepare {path.parent.name}`"
    if path.suffix == ".parquet":
        check_prepared(path)
        _check_seal(again, path)
        return
    content, (sheet, croissant) = read_json(path), (Path(of("")).name for of in (paths.datasheet, paths.croissant))
    if path.name == croissant and content != described(path.parent, read_json(path.with_name(sheet))):
        raise DataError(f"{path}: not of the datasheet beside it; {again}")


def _check_seal(remedy: str, path: Path) -> None:
    if read_outline(path, remedy).digest == sha256_of(path):  # of all bytes where there is no seal to take it from
        raise DataError(f"{path}: without the checksum that it is written with; {remedy}")


def _outputs(grid: Grid, layout: Layout) -> Iterator[Finding]:
    root, select = grid.root, layout.select
    for cell in grid.cells.values():
        for stage in cell.stages:
            folder, seal = layout.stage(cell.name, stage), partial(_check_seal, _train(cell, stage, layout))
            for file in layout.outputs(cell.name, stage):
                check = read_json if file.endswith(".json") else seal
                yield judged("outputs of training", root, file, check, [folder])
            yield judged("outputs of training", root, f"{folder}/models", _check_models, [folder])
    for cell in grid.cells.values():
        seal = partial(_check_seal, f"run `mmcontrast evaluate {cell.name}{select}`")
        for file in layout.scores(cell.name):
            yield judged("scores of cells", root, file, seal, layout.scores(cell.name))
    seal, results = partial(_check_seal, f"run `mmcontrast report results{select}`"), layout.report("results.parquet")
    for file in (results, layout.report("intervals.parquet")):
        yield judged("report", root, file, seal)
    for part in (*grid.active_experiments, "page"):
        yield judged("report", root, layout.evidence(part), seal)
    if (root / results).exists():  # what comes with the repository is of the published run
        yield judged("report", root, layout.report("metrics.json"), partial(check_headlines, select))
    for kept in sorted((root / layout.kept).glob("*.parquet")):
        yield judged("earlier results", root, str(kept.relative_to(root)), _check_named)


def _train(cell: CellConfig, stage: str, layout: Layout) -> str:
    return f"run `mmcontrast {stage} {cell.name}{layout.select}`"


def _check_models(folder: Path) -> None:
    for name in read_json(folder / paths.CHECKSUMS):
        sealed(folder / name)


def check_headlines(select: str, file: Path) -> None:
    """Raise DataError where metrics.json does not say what the results table beside it does."""
    from mmcontrast.report.results import headline_metrics, headlines

    remedy = f"run `mmcontrast report results{select}`"
    results = read_frame(file.with_name("results.parquet"), {}, remedy)
    if read_json(file) != json.loads(json.dumps(headline_metrics(headlines(results)))):
        raise DataError(f"{file}: other numbers than in results.parquet; {remedy}")


def _check_named(file: Path) -> None:
    if sha256_of(file) != file.stem:
        raise DataError(f"{file}: its name is the sha256 it should have, and it has another; remove it")


def _locked(root: Path, seen: list[Finding]) -> Iterator[Finding]:
    """What stages have made, and cache objects, against dvc.lock; what stages are given is the user's to edit.

    Where a file's own checksum (`seen`) is right and that in dvc.lock is another, the file is of another run, and
    nothing of such a run is removed; raw data have their manifest, and the plan was looked at.
    """
    if not (root / "dvc.lock").exists():
        yield Finding("files of dvc.lock", "dvc.lock", "missing")
        return
    locked, compared, others = dict[str, str](), dict[str, str](), list[str]()
    try:
        for stage in yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"].values():
            outs = {str(entry["path"]): str(entry["md5"]) for entry in stage.get("outs", [])}
            plans = {root / entry["path"]: entry["md5"] for entry in stage.get("deps", [])}
            plans = {file: md5 for file, md5 in plans.items() if file.is_relative_to(root / "plan") and file.is_file()}
            locked |= outs
            if any(_md5(file) != md5 for file, md5 in plans.items()):
                others += outs
            else:
                compared |= {path: md5 for path, md5 in outs.items() if path != "plan" and "data/raw/" not in path}
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as e:
        reason = f"dvc.lock: damaged ({str(e).splitlines()[0]}); run `git checkout dvc.lock`"
        yield Finding("files of dvc.lock", "dvc.lock", "wrong", reason)
        return
    found = [judged("files of dvc.lock", root, path, partial(_check_md5, path, compared[path])) for path in compared]
    different = {finding.name for finding in found if finding.state == "wrong"}
    others += sorted(path for path in different if _vouched(path, seen))
    for finding in found:
        if finding.name not in others:
            ours = finding.name.startswith("reports/") and not others
            yield replace(finding, spoiled=finding.spoiled if ours else [])
    if others:
        reason = (
            f"dvc.lock: of another run than what is here: {len(others)} files or folders differ, such as {others[0]}; "
            "run `mmcontrast sync dvc` to record what is here, or `dvc checkout` to bring back what is recorded"
        )
        yield Finding("files of dvc.lock", "dvc.lock", "wrong", reason)
    store = _cache_folder(root)
    for md5 in sorted(set(locked.values())):
        blob = store / md5[:2] / md5[2:]
        if os.path.exists(blob):
            shown = str(blob.relative_to(root) if blob.is_relative_to(root) else blob)
            check = partial(_check_object, shown, md5, [path for path, of in locked.items() if of == md5])
            yield judged("objects in DVC's cache", root, shown, check)


def _vouched(path: str, seen: list[Finding]) -> bool:
    """Whether all that has a checksum of its own at a path or below it is right, and there is such."""
    return {finding.state for finding in seen if f"{finding.name}/".startswith(f"{path}/")} == {"right"}


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


def model_findings(
    grid: Grid, layout: Layout, damaged: Set[str] = frozenset(), every: bool = True
) -> Iterator[Finding]:
    """Exported models run again, against what training stored. `every`: else of each stage the model of one seed.
    `damaged`: datasets on which no failure spoils a model.
    """
    for cell in grid.cells.values():
        for stage in cell.stages:
            for seed in cell.seeds if every else random.Random(f"{cell.name} {stage}").sample(cell.seeds, 1):
                file = layout.stage(cell.name, stage, f"models/seed{seed}.safetensors")
                check = partial(_largest_difference, cell, stage, seed, grid.root, _train(cell, stage, layout))
                goes = [] if any(name in damaged for name, _ in cell.data) else [layout.stage(cell.name, stage)]
                yield judged("models", grid.root, file, check, goes)


def _largest_difference(cell: CellConfig, stage: str, seed: int, root: Path, again: str, file: Path) -> float:
    """Of all embeddings and predictions of a model. Raises DataError where one is too large; `again` is its remedy."""
    import torch

    from mmcontrast.data.loading import load_dataset
    from mmcontrast.evaluation.columns import column, output_column
    from mmcontrast.trained import exported_epoch, load_method
    from mmcontrast.training.outputs import embed, predict

    def stored(table: str, rows: dict[str, Any]) -> pl.DataFrame:
        path = file.parents[1] / table
        return read_frame(path, {"seed": pl.Int64, "split": pl.String, "id": pl.String}, again).filter(**rows)

    largest = 0.0
    method, device = load_method(file), torch.device("cpu")
    if method.cell.model_dump(exclude={"engine"}) != cell.of_stage(stage).model_dump(exclude={"engine"}):
        raise DataError(f"{file}: trained with other parameters than params/ now says; {again}")
    tables = load_dataset(cell, root, seed)
    embedded = tables | ({"train": tables["probe"]} if "probe" in tables else {})
    for split in ("train", "val", "test"):
        if len(embedded[split]) and not embedded[split].observations:
            before = stored("embeddings.parquet", {"seed": seed, "split": split})
            for readout, z in embed(method, embedded[split], device).items():
                rows = _rows(before, embedded[split].ids, column(readout), again)
                found = _difference(f"{file}: {column(readout)} of {split}", rows, z.numpy(), again)
                largest = max(largest, found)
    # a probe scores embeddings: such a cell stores no predictions of its classifier
    if stage == "finetune" and cell.scored_by == "classifier":
        epoch = exported_epoch(file)
        for split in ("val", "test"):
            if len(tables[split]):
                before = stored("predictions.parquet", {"seed": seed, "split": split, "epoch": epoch})
                rows = _rows(before, tables[split].ids, output_column(cell.target), again)
                predicted = predict(method, tables[split], device).numpy()
                largest = max(largest, _difference(f"{file}: predictions of {split}", rows, predicted, again))
    return largest


def _rows(frame: pl.DataFrame, ids: list[str], column: str, again: str) -> np.ndarray[Any, Any]:
    joined = pl.DataFrame({"id": ids}).join(frame.select("id", column), on="id", how="left", maintain_order="left")
    if joined[column].null_count() or len(joined) != len(frame):
        raise DataError(f"{column}: the stored rows are not those of the prepared data; {again}")
    return joined[column].to_numpy()


def _difference(what: str, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any], again: str) -> float:
    same_shape = before.shape == after.shape
    difference = float(np.abs(before - after).max() / max(1.0, np.abs(before).max())) if same_shape else float("inf")
    if not difference <= TOLERANCE:
        raise DataError(f"{what} differ by {difference:.2g}; {again}")
    return difference


def score_findings(grid: Grid, layout: Layout, every: bool = True) -> Iterator[Finding]:
    """results.parquet against each cell's scores, and against those computed again from what is stored. `every`: else
    the probes of PROBES cells alone, each for one seed; the same of equal results.
    """
    columns, results = dict.fromkeys(("dataset", "method", "variant"), pl.String), list[pl.DataFrame]()
    file, select = layout.report("results.parquet"), layout.select
    remedy = f"run `mmcontrast report results{select}`"
    read = judged("scores", grid.root, file, lambda path: results.append(read_frame(path, columns, remedy)))
    if read.state != "right":
        yield read
        return

    def finding(kind: str, cell: CellConfig, seed: int | None = None) -> Finding:
        name = cell.name if seed is None else f"{cell.name} seed {seed}"
        scored = grid.root / layout.scored(cell.name, cell.last_stage, cell.scored_by)
        reported = results[0].filter(dataset=cell.dataset, method=cell.method, variant=cell.variant)
        if not scored.exists() or reported.is_empty():
            return Finding(kind, name, "missing")
        try:
            if kind == "scores":
                _same_scores(pl.read_parquet(grid.root / layout.metrics(cell.name)), reported)
            if kind == "probes" or cell.scored_by != "probe":
                _compare_scores(cell, scored, reported, seed)
        except Exception as e:
            again = f"run `mmcontrast evaluate {cell.name}{select}`, then `mmcontrast report results{select}`"
            return Finding(kind, name, "wrong", f"{name}: {first_line(e)}; {again}", [*layout.scores(cell.name), file])
        return Finding(kind, name, "right")

    yield from (finding("scores", cell) for cell in grid.cells.values())
    probed = [cell for cell in grid.cells.values() if cell.scored_by == "probe"]
    if every:
        yield from (finding("probes", cell) for cell in probed)
        return
    draw = random.Random(sha256_of(grid.root / file))
    for cell in draw.sample(probed, min(PROBES, len(probed))):
        yield finding("probes", cell, draw.choice(cell.seeds))


def _compare_scores(cell: CellConfig, scored: Path, reported: pl.DataFrame, seed: int | None) -> None:
    """Raise AssertionError where the scores of all seeds, or of one, are not as reported."""
    from threadpoolctl import threadpool_limits

    from mmcontrast.evaluation.evaluate import evaluate_cell

    # many small matrices: more threads only get in each other's way
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        again = [Path(folder) / f"{name}.parquet" for name in ("metrics", "curves", "intervals", "scored")]
        if seed is not None:
            cell, stored = cell.model_copy(update={"seeds": [seed]}), read_parquet(scored, "train it again")
            write_parquet(stored.filter(pc.field("seed") == seed), scored := again[-1])
            reported = reported.filter(seed=seed)
        evaluate_cell(cell, scored, *again[:3])
        _same_scores(pl.read_parquet(again[0]), reported)


def _same_scores(metrics: pl.DataFrame, reported: pl.DataFrame) -> None:
    columns = [c for c in metrics.columns if c in reported.columns]
    order = [c for c in columns if c != "value"]
    # a cell of two experiments is in the table twice
    one, other = metrics.select(columns).sort(order), reported.select(columns).unique().sort(order)
    assert_frame_equal(one, other, rel_tol=SCORE_TOLERANCE, abs_tol=SCORE_TOLERANCE)

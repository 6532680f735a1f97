"""Is everything still what it was? Every artifact of a suite, one verdict each, whatever has happened to it.

Checksums first: of the plan, raw and prepared data, what training left behind, scores, evidence, and for the default
suite what dvc.lock lists. Then the two questions that no checksum answers (`pipeline.verify_runs`): do the exported
weights give the stored predictions and embeddings, and do these give the reported scores?
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import yaml

from mmcontrast import paths
from mmcontrast.config import Grid
from mmcontrast.data.checksums import check_prepared
from mmcontrast.data.files import sha256_of
from mmcontrast.data.json_text import read_json
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.data.parquet import read_outline
from mmcontrast.errors import DataError, MMContrastError
from mmcontrast.exported import sealed
from mmcontrast.paths import Layout
from mmcontrast.pipeline.findings import Finding, judged
from mmcontrast.pipeline.plan import planned
from mmcontrast.pipeline.verify_runs import model_findings, score_findings


def examine(grid: Grid, layout: Layout) -> Iterator[Finding]:
    """One finding after another; the cheap ones first. Nothing is written."""
    root = grid.root
    try:
        for file in planned(grid, layout)[1]:
            if file.endswith(".json"):
                yield judged("plan", root, file, read_json)
    except (MMContrastError, OSError) as e:  # what it reads from outside the pipeline
        yield Finding("plan", layout.plans, "wrong", str(e))
    used = sorted({dataset for cell in grid.cells.values() for dataset, _ in cell.data})
    unread: set[str] = set()
    for name in used:
        spec = grid.datasets[name]
        if spec.sources:
            # without its manifest it is fetched again; what a user has put beside it by hand stays
            check = partial(verified_manifest, name, spec)
            yield judged("raw data", root, paths.raw_dir(name), check, [paths.raw_manifest(name)])
        folder = str(Path(paths.datasheet(name)).parent)
        checks: list[tuple[str, Callable[[Path], object]]] = [(paths.datasheet(name), read_json)]
        checks += [(paths.fitted(name), read_json), *((paths.prepared(name, s), _check_split) for s in paths.SPLITS)]
        for file, check_file in checks:
            finding = judged("prepared data", root, file, check_file, [folder])
            unread |= set() if finding.state == "right" else {name}
            yield finding
    yield from _outputs(grid, layout)
    if layout.is_default:
        yield from _locked(root)
    yield from model_findings(grid, layout, unread)
    yield from score_findings(grid, layout)


def _check_split(path: Path) -> None:
    check_prepared(path)
    _check_seal(path)


def _check_seal(path: Path) -> None:
    read_outline(path, "remove it and run the pipeline again")


def _outputs(grid: Grid, layout: Layout) -> Iterator[Finding]:
    """Everything that training, evaluation and the report leave for a later stage."""
    root = grid.root
    for cell in grid.cells.values():
        for stage in cell.stages:
            folder = layout.stage(cell.name, stage)
            # else what was finetuned from it would stand, and it would not be made again
            goes = [layout.stage(cell.name, s) for s in cell.stages[cell.stages.index(stage) :]]
            tables = ["history.parquet", "embeddings.parquet"]
            tables += ["predictions.parquet"] if stage == "finetune" else []
            for name in tables:
                yield judged("outputs of training", root, f"{folder}/{name}", _check_seal, goes)
            yield judged("outputs of training", root, f"{folder}/cost.json", read_json, goes)
            yield judged("outputs of training", root, f"{folder}/models", _check_models, goes)
    for cell in grid.cells.values():
        scores = [layout.metrics(cell.name), layout.curves(cell.name), layout.intervals(cell.name)]
        for file in scores:
            yield judged("scores of cells", root, file, _check_seal, scores)
    for part in ("results.parquet", "intervals.parquet"):
        yield judged("report", root, layout.report(part), _check_seal)
    for part in (*grid.active_experiments, "page"):
        yield judged("report", root, layout.evidence(part), _check_seal)
    for kept in sorted((root / layout.kept).glob("*.parquet")):
        yield judged("earlier results", root, str(kept.relative_to(root)), _check_named)


def _check_models(folder: Path) -> None:
    for name in read_json(folder / paths.CHECKSUMS):
        sealed(folder / name)


def _check_named(file: Path) -> None:
    if sha256_of(file) != file.stem:
        raise DataError(f"{file}: its name is the sha256 it should have, and it has another; remove it")


def _locked(root: Path) -> Iterator[Finding]:
    """What stages have made, and cache objects, against the checksums in dvc.lock.

    What stages are given is left out: params/ and the code are the user's, an edit there is no damage, and repairing
    removes what is wrong.
    """
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
    """DVC trusts its cache: it would hand a spoiled object out again."""
    if (found := _md5(blob)) != md5.removesuffix(".dir"):
        raise DataError(
            f"{shown}: md5 {found}, the copy of {', '.join(names)}; delete it, then run `dvc commit -f` if "
            f"{', '.join(names)} is right; otherwise delete that too and run `dvc repro`"
        )


def _cache_folder(root: Path) -> Path:
    """Where DVC keeps its objects, which a user may have moved."""
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

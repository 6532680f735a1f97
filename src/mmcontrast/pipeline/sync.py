"""Tell one engine what the other has done, without running anything again. Never records what is out of date.

Before it writes to DVC it asks `snakemake -n`, before it writes to Snakemake `dvc status`; and in both cases
whether the plan that was run is still what params/ and the code say. A mark says which plan DVC has recorded, so that a
run that was killed in between is made good by the next one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mmcontrast.data.files import read_json, write_json
from mmcontrast.errors import MMContrastError
from mmcontrast.paths import DVC_MARK, SPLITS, Layout, prepared, raw_manifest
from mmcontrast.pipeline.plan import Plan, outdated, planned
from mmcontrast.pipeline.selection import selection

# times of all files from before DVC has laid copies in their place; there while it does so
TIMES = ".state/dvc_times.json"
EDITED = "params/ or the code have changed since this run was planned"
PIPELINE = ("data", "plan", "runs", "reports")


class SyncError(MMContrastError):
    """One engine's records do not allow the other's to be brought up to date."""


def run_module(*command: str, cwd: Path = Path(".")) -> subprocess.CompletedProcess[str]:
    """Run a program that is a module of this environment, and keep what it prints."""
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, text=True, capture_output=True, check=False)


def _done(what: str, *command: str) -> str:
    """What a program prints that has to end well."""
    result = run_module(*command)
    if result.returncode:
        raise SyncError(f"{what} failed:\n{result.stdout}{result.stderr}")
    return result.stdout + result.stderr


def to_dvc() -> str:
    """After Snakemake: record the files in dvc.lock and the cache, if Snakemake has nothing left to do."""
    if "DVC_STAGE" in os.environ:
        return "inside a DVC stage, which keeps its own records"
    page = Layout().report("index.html")
    if "Nothing to be done" not in _done("snakemake -n", "snakemake", "-n", "--cores", "1", "--nolock", page):
        return f"Snakemake still has jobs for {page}; dvc.lock left as it is"
    plan, wanted = planned(*selection())
    if stale := outdated(Path("."), wanted):
        _mark("")
        return f"{EDITED} ({stale[0]}); dvc.lock left as it is; the next run makes what has changed"
    if Path(".dvc").is_dir():
        times = {str(f): f.stat().st_mtime_ns for d in PIPELINE for f in Path(d).rglob("*")}
        write_json(Path(TIMES), times, seal=True)
        _done("dvc commit", "dvc", "commit", "-f", "-q")
        _restore_times(Path("."))
    _mark(plan.digest)
    return "dvc.lock and the DVC cache hold what Snakemake made"


def _mark(digest: str) -> None:
    write_json(Path(DVC_MARK), {"plan": digest})


def make_good(root: Path, digest: str) -> None:
    """Before a run of the plan of this digest: undo what a kill left half done, and take away another plan's mark."""
    _restore_times(root)
    mark = root / DVC_MARK
    try:
        ours = read_json(mark)["plan"] == digest
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        ours = False
    if not ours:
        mark.unlink(missing_ok=True)


def _restore_times(root: Path) -> None:
    """DVC puts copies in the place of files, and Snakemake goes by the time of those too large for a checksum.

    Where the times are damaged, what is that large is made again.
    """
    file = root / TIMES
    if not file.exists():
        return
    try:
        times = dict(read_json(file))
    except (ValueError, TypeError):
        times = {}
    for name, nanoseconds in times.items():
        if (root / name).exists():
            os.utime(root / name, ns=(nanoseconds, nanoseconds))
    file.unlink()


def to_snakemake() -> str:
    """After `dvc repro`, `dvc pull` or `dvc checkout`: refresh Snakemake's records, if DVC says all is clean.

    Data whose licence forbids redistribution never travel through a remote; they are fetched and prepared here first.
    Raises SyncError where DVC has stages to run, or params/ or the code were edited while it ran them.
    """
    plan, wanted = planned(*selection())
    if "DVC_STAGE" in os.environ:
        if stale := outdated(Path("."), wanted):
            raise SyncError(f"{EDITED} ({stale[0]}); run `dvc repro` again")
    else:
        _make_private(plan)
        if run_module("dvc", "status", "-q").returncode:
            raise SyncError("`dvc status` is not clean; run `dvc repro` (or `dvc pull`) first")
    _mark(plan.digest)
    options = ("--quiet", "all", "--touch", "--cores", "1", "--nolock", "--no-hooks")
    _done("snakemake --touch", "snakemake", *options, "reproduce")
    return "Snakemake's records hold what DVC made"


def _make_private(plan: Plan) -> None:
    """Fetch and prepare what no remote holds."""
    for name in plan.private:
        files = [prepared(name, split) for split in SPLITS]
        if name in plan.fetched:
            files.append(raw_manifest(name))
        if not all(map(os.path.exists, files)):
            private = "prepare-private" if name in plan.fetched else "generate-private"
            stage = "features" if name in plan.features else private
            _done(f"preparing {name}", "dvc", "repro", "-q", f"{stage}@{name}")

"""What a run covers, its plan when Snakemake starts, and the records of the two engines.

Each engine is told what the other has done, without running anything again, and never records what is out of date:
`snakemake -n` is asked before DVC's records are written, `dvc status` before Snakemake's, and always whether the plan
that was run still holds. A mark says which plan DVC has recorded, so that the next run makes good a killed one.
"""

import argparse
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from mmcontrast.config import Grid
from mmcontrast.data.files import read_json, write_json
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.paths import DVC_MARK, SPLITS, Layout, prepared, raw_manifest
from mmcontrast.pipeline.plan import Plan, PlanError, outdated, planned, write_plan

ACCEPTED = ("suite", "datasets")
# times of all files from before DVC has laid copies in their place; there while it does so
TIMES = ".state/dvc_times.json"
EDITED = "params/ or the code have changed since this run was planned"
PIPELINE = ("data", "plan", "runs", "reports")
# open for the life of the process, and so is the lock
_held: dict[Path, IO[str]] = {}


def selection(suite: str = "default", datasets: list[str] | None = None) -> tuple[Grid, Layout]:
    """The grid, and its paths. Raises ConfigError where anything in params/ is wrong, or nothing would be run."""
    grid = Grid(suite=suite, datasets=datasets)
    if not grid.cells:
        usable = sorted({d for e in grid.suite.experiments for d in grid.experiments[e].datasets})
        raise ConfigError(
            f"suite '{suite}' with datasets {grid.dataset_names}: none of the suite's experiments has a cell on "
            f"them; its experiments use {usable}"
        )
    return grid, Layout(suite, datasets)


def named_selection(config: dict[str, Any]) -> tuple[str, list[str] | None]:
    """Suite and datasets of Snakemake's `--config suite=NAME datasets=[A,B]`. Raises ConfigError: another key, type."""
    for key in config:
        if key not in ACCEPTED:
            raise ConfigError(f"--config {key}=...: unknown key; {nearest(key, ACCEPTED)}; all else is set in params/")
    suite, datasets = config.get("suite", "default"), config.get("datasets")
    if isinstance(datasets, str):
        datasets = [datasets]
    if not isinstance(suite, str):
        raise ConfigError(f"--config suite={suite!r}: the name of a file in params/suites/ is accepted")
    if datasets is not None and not (isinstance(datasets, list) and all(isinstance(d, str) for d in datasets)):
        raise ConfigError(f"--config datasets={datasets!r}: a list of names is accepted, e.g. 'datasets=[rosmap]'")
    return suite, datasets


def run_module(*command: str, cwd: Path = Path(".")) -> subprocess.CompletedProcess[str]:
    """Run a program that is a module of this environment, and keep what it prints."""
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, text=True, capture_output=True, check=False)


def _done(what: str, *command: str) -> str:
    result = run_module(*command)
    if result.returncode:
        raise PlanError(f"{what} failed:\n{result.stdout}{result.stderr}")
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
    """DVC puts copies in the place of files, and Snakemake goes by the time of those too large for a checksum."""
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
    """After `dvc repro`, `dvc pull` or `dvc checkout`: refresh Snakemake's records. Raises PlanError: DVC has stages to
    run, or params/ or the code were edited while it ran them.

    Data that may not be redistributed are in no remote: they are fetched and prepared here first.
    """
    plan, wanted = planned(*selection())
    if "DVC_STAGE" in os.environ:
        if stale := outdated(Path("."), wanted):
            raise PlanError(f"{EDITED} ({stale[0]}); run `dvc repro` again")
    else:
        _make_private(plan)
        if run_module("dvc", "status", "-q").returncode:
            raise PlanError("`dvc status` is not clean; run `dvc repro` (or `dvc pull`) first")
    _mark(plan.digest)
    options = ("--quiet", "all", "--touch", "--cores", "1", "--nolock", "--no-hooks")
    _done("snakemake --touch", "snakemake", *options, "reproduce")
    return "Snakemake's records hold what DVC made"


def _make_private(plan: Plan) -> None:
    for name in plan.private:
        files = [prepared(name, split) for split in SPLITS]
        if name in plan.fetched:
            files.append(raw_manifest(name))
        if not all(map(os.path.exists, files)):
            private = "prepare-private" if name in plan.fetched else "generate-private"
            stage = "features" if name in plan.features else private
            _done(f"preparing {name}", "dvc", "repro", "-q", f"{stage}@{name}")


def plan_suite(suite: str, datasets: list[str] | None, root: Path = Path(".")) -> tuple[Plan, Layout, list[str]]:
    """Plan a suite, its paths, and the plan files that changed; locked till this process ends, else PlanError."""
    grid, layout = selection(suite, datasets)
    if not _hold(root / layout.run_lock):
        raise PlanError(
            f"{layout.run_lock}: a run of suite '{suite}' is going on in this folder, and its plan is left alone; wait "
            "for it to end, or stop it"
        )
    plan, changed = write_plan(grid, layout)
    if layout.is_default:
        make_good(root, plan.digest)
    return plan, layout, changed


def planned_selection(config: dict[str, Any], write: bool) -> tuple[Plan, Layout]:
    """The plan (with `write` made anew, unless the suite is running) and its paths. Raises PlanError: there is none."""
    suite, datasets = named_selection(config)
    layout = Layout(suite, datasets)
    fresh = write and _hold(layout.run_lock)
    return plan_suite(suite, datasets)[0] if fresh else Plan.read(Path("."), layout), layout


def refuse_unknown_profile(arguments: list[str], beside: Path) -> None:
    """Raise PlanError for a `--workflow-profile` that is nowhere, as Snakemake would silently run without any.
    `beside`: the folder of the Snakefile.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workflow-profile", default="none")
    given = parser.parse_known_args(arguments)[0].workflow_profile
    places = [Path(given), Path("profiles", given), beside / "profiles" / given]
    if given != "none" and not any(place.exists() for place in places):
        known = [config.parent.name for config in (beside / "profiles").glob("*/config*.yaml")]
        near = nearest(Path(given).name, known)
        raise PlanError(f"--workflow-profile {given}: no such folder, here or in profiles/; {near}")


def _hold(file: Path) -> bool:
    """Take the lock for as long as this process lives; whether it was free or is ours."""
    if file in _held:
        return True
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = file.open("a", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return False
    _held[file] = handle
    return True

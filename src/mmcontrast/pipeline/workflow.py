"""What the Snakefile asks for when it is read: the plan of the suite that it was started with."""

from __future__ import annotations

import argparse
import fcntl
from pathlib import Path
from typing import IO, Any

from mmcontrast.errors import nearest
from mmcontrast.paths import Layout
from mmcontrast.pipeline.plan import Plan, PlanError, write_plan
from mmcontrast.pipeline.selection import named_selection, selection
from mmcontrast.pipeline.sync import make_good

# open for the life of the process, and so is the lock
_held: dict[Path, IO[str]] = {}


def plan_suite(suite: str, datasets: list[str] | None, root: Path = Path(".")) -> tuple[Plan, Layout, list[str]]:
    """Plan a suite, its paths, and the plan files that changed; the lock is held until this process ends.

    Raises PlanError if a run of this suite is going on; its plan is left alone.
    """
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
    """The plan for `--config suite=NAME datasets=[A,B]`, and its paths.

    With `write` it is planned anew, unless a run of the suite is going on; else the plan is taken as it is, and
    PlanError is raised where there is none.
    """
    suite, datasets = named_selection(config)
    layout = Layout(suite, datasets)
    fresh = write and _hold(layout.run_lock)
    return plan_suite(suite, datasets)[0] if fresh else Plan.read(Path("."), layout), layout


def refuse_unknown_profile(arguments: list[str], beside: Path) -> None:
    """Raise PlanError for a `--workflow-profile` that is nowhere: Snakemake would silently run without any.

    Args:
        arguments: of the command line. beside: folder of the Snakefile.
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

"""Tell one engine what the other has done, without running anything again. Never marks anything that is out of date.

Towards DVC it asks `snakemake -n` first, towards Snakemake `dvc status`.
"""

from __future__ import annotations

import os
import subprocess
import sys

from mmcontrast.errors import MMContrastError
from mmcontrast.paths import prepared, raw_dir
from mmcontrast.pipeline.selection import selection


class SyncError(MMContrastError):
    """One engine's records do not allow the other's to be brought up to date."""


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], text=True, capture_output=True, check=False)


def _check(result: subprocess.CompletedProcess[str], what: str) -> None:
    if result.returncode:
        raise SyncError(f"{what} failed:\n{result.stdout}{result.stderr}")


def to_dvc() -> str:
    """After Snakemake: record the files in dvc.lock and the cache, if Snakemake has nothing left to do."""
    if "DVC_STAGE" in os.environ:
        return "inside a DVC stage, which keeps its own records"
    dry = _run("snakemake", "-n", "--cores", "1", "--nolock", "reproduce")
    _check(dry, "snakemake -n")
    if "Nothing to be done" not in dry.stdout + dry.stderr:
        return "Snakemake still has jobs for `reproduce`; dvc.lock left as it is"
    _check(_run("dvc", "commit", "-f", "-q"), "dvc commit")
    # committing may put a file's copy in its place, and Snakemake goes by the time of files too large for a checksum
    _touch()
    return "dvc.lock and the DVC cache hold what Snakemake made"


def to_snakemake() -> str:
    """After `dvc repro`, `dvc pull` or `dvc checkout`: refresh Snakemake's records, if DVC says all is clean.

    Data whose licence forbids redistribution never travel through a remote; they are fetched and prepared here first.

    Raises:
        SyncError: DVC has stages to run.
    """
    if "DVC_STAGE" not in os.environ:
        grid, _, _ = selection()
        for name in grid.dataset_names:
            files = [raw_dir(name), *(prepared(name, s) for s in ("train", "val", "test"))]
            if not grid.datasets[name].redistribute and not all(os.path.exists(f) for f in files):
                _check(_run("dvc", "repro", "-q", f"pipelines/{name}/dvc.yaml:prepare-{name}"), f"preparing {name}")
        if _run("dvc", "status", "-q").returncode:
            raise SyncError("`dvc status` is not clean; run `dvc repro` (or `dvc pull`) first")
    _touch()
    return "Snakemake's records hold what DVC made"


def _touch() -> None:
    touched = _run("snakemake", "--quiet", "all", "--touch", "--cores", "1", "--nolock", "--no-hooks", "reproduce")
    _check(touched, "snakemake --touch")

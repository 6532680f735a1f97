"""dvc.yaml is GENERATED from Snakemake's DAG, the only place where the pipeline is written down.

One file per dataset and one per method on it besides the top one, because DVC re-parses and rewrites a file's whole
dvc.lock after every stage. Each stage's command is the very command Snakemake runs; Snakemake's rules carry what DVC
needs to know in `params.dvc` (tracked "file:key" pairs). The last stage, `sync`, tells Snakemake what DVC has done.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from mmcontrast.config import Grid
from mmcontrast.data.files import replacing
from mmcontrast.paths import Layout

TARGET = "reproduce"
SYNC = "python -m mmcontrast sync snakemake"
HEAD = "# Generated from the Snakefile by `mmcontrast dvc export`. Do not edit.\n"
LOG_REDIRECT = re.compile(r" > \S+ 2>&1$")


def snakemake_jobs(root: Path) -> list[Any]:
    """All jobs of the default selection, whether they are up to date or not."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    cwd = Path.cwd()
    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            workflow_api = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(),
                snakefile=root / "Snakefile",
                workdir=root,
            )
            workflow = workflow_api.dag(DAGSettings(targets={TARGET}, forceall=True)).workflow_api._workflow
            # no public call returns the job list; these two are what `snakemake --summary` does (9.27.1)
            workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
            workflow._build_dag()
            return [job for job in workflow.dag.jobs if job.rule.output]
    finally:
        os.chdir(cwd)


def _dataset(job: Any) -> str | None:
    wildcards = job.wildcards_dict
    name = wildcards.get("dataset") or wildcards.get("cell", "").split("/")[0]
    return name or None


def _file(job: Any) -> Path:
    """The dvc.yaml that a job's stage stands in, relative to the checkout."""
    dataset = _dataset(job)
    if dataset is None:
        return Path("dvc.yaml")
    cell = job.wildcards_dict.get("cell")
    return Path("pipelines", dataset, *([cell.split("/")[1]] if cell else []), "dvc.yaml")


def _stage(job: Any, grid: Grid) -> dict[str, Any]:
    depth = len(_file(job).parent.parts)
    stage: dict[str, Any] = {"wdir": "/".join([".."] * depth)} if depth else {}
    stage["desc"] = f"Snakemake rule {job.rule.name}"
    stage["cmd"] = LOG_REDIRECT.sub("", job.shellcmd.strip())
    stage["deps"] = sorted(set(map(str, job.input)))
    tracked = getattr(job.params, "dvc", None)
    if tracked:
        tracked = [tracked] if isinstance(tracked, str) else list(tracked)
        by_file: dict[str, list[str]] = {}
        for pair in tracked:
            file, _, key = pair.partition(":")
            by_file.setdefault(file, []).append(key)
        stage["params"] = [{file: keys} for file, keys in sorted(by_file.items())]
    outs, metrics = [], []
    dataset = _dataset(job)
    private = job.rule.name in ("fetch", "prepare") and not grid.datasets[str(dataset)].redistribute
    for out in sorted(map(str, job.output)):
        if out.endswith("metrics.json"):
            metrics.append({out: {"cache": False}})
        else:
            # a licence that forbids redistribution also forbids pushing to a remote; `sync` remakes the files
            outs.append({out: {"push": False}} if private else out)
    if outs:
        stage["outs"] = outs
    if metrics:
        stage["metrics"] = metrics
    return stage


def dvc_files(root: Path) -> dict[str, str]:
    """Text of every dvc.yaml, by path relative to the checkout."""
    grid, layout = Grid(root), Layout()
    by_file: dict[str, dict[str, Any]] = {}
    made: set[str] = set()
    used: set[str] = set()
    for job in snakemake_jobs(root):
        file = _file(job).as_posix()
        stage = _stage(job, grid)
        made |= set(map(str, job.output))
        used |= set(stage["deps"])
        parts = [job.rule.name, *(str(w).replace("/", "-") for w in job.wildcards)]
        by_file.setdefault(file, {})["-".join(parts)] = stage
    final = sorted(made - used - {layout.report("metrics.json")})
    by_file.setdefault("dvc.yaml", {})["sync"] = {
        "desc": "tell Snakemake that these files are up to date",
        "cmd": SYNC,
        "deps": final,
    }
    documents: dict[str, dict[str, Any]] = {f: {"stages": dict(sorted(s.items()))} for f, s in sorted(by_file.items())}
    scores, curves = layout.report("plots/scores.csv"), layout.report("plots/curves.csv")
    documents["dvc.yaml"]["plots"] = [
        {
            scores: {
                "template": "scores",
                "x": "value",
                "x_label": "percent, with the 95 % interval over seeds",
                "y": "cell",
                "title": "Test score, selected epoch",
            }
        },
        {
            curves: {
                "template": "curves",
                "x": "epoch",
                "y": "value",
                "y_label": "percent, mean over seeds",
                "title": "Validation score by epoch",
            }
        },
    ]
    return {f: HEAD + yaml.safe_dump(d, sort_keys=False, width=200) for f, d in documents.items()}


def _present(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in [root / "dvc.yaml", *root.glob("pipelines/**/dvc.yaml")] if p.exists()}


def disagreements(root: Path) -> list[str]:
    """dvc.yaml files that are not what the DAG says: changed, missing or left over."""
    wanted = dvc_files(root)
    stale = [f for f, text in wanted.items() if not (root / f).exists() or (root / f).read_text() != text]
    return sorted([*stale, *(_present(root) - set(wanted))])


def export(root: Path) -> list[str]:
    """Write every dvc.yaml, and take out what the DAG no longer has, from each dvc.lock too.

    Returns:
        The dvc.yaml files that changed.
    """
    wanted = dvc_files(root)
    changed = disagreements(root)
    for file in changed:
        if file in wanted:
            with replacing(root / file) as temporary:
                temporary.write_text(wanted[file], encoding="utf-8")
        else:
            (root / file).unlink()
        _forget(root / file)
    return changed


def _forget(file: Path) -> None:
    """Remove from the dvc.lock beside `file` the stages that it no longer has."""
    lock = file.with_suffix(".lock")
    if not lock.exists():
        return
    locked = yaml.safe_load(lock.read_text(encoding="utf-8"))
    stages = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"] if file.exists() else {}
    kept = {name: stage for name, stage in locked["stages"].items() if name in stages}
    if not kept:
        lock.unlink()
    elif len(kept) < len(locked["stages"]):
        with replacing(lock) as temporary:
            temporary.write_text(yaml.safe_dump(locked | {"stages": kept}, sort_keys=False), encoding="utf-8")

"""A report on the finished cells after a run in which a cell failed, with nothing left that looks like a result.

Snakemake removes a failed job's outputs, but takes what older runs made of them to be up to date: its next run would
call the old report finished. So everything downstream of a missing file goes, and the partial report stands in a folder
of its own that neither engine knows.
"""

import shutil
from collections.abc import Iterator, Mapping
from itertools import dropwhile
from pathlib import Path

from mmcontrast import paths
from mmcontrast.config import CellConfig, Grid
from mmcontrast.paths import Layout
from mmcontrast.pipeline.plan import PlanError
from mmcontrast.pipeline.workflow import run_module
from mmcontrast.report.experiment import write_experiment
from mmcontrast.report.outputs import experiment_outputs, results_outputs
from mmcontrast.report.page import write_page
from mmcontrast.report.results import write_results

FAILED, NOT_RUN = "failed", "not run"
LONGEST_REASON = 400

Step = tuple[str, list[str], str]  # name, output files, log


def write_partial(grid: Grid, layout: Layout) -> dict[str, str]:
    """Name of a cell without results -> "failed: why" or "not run: why"; empty, and nothing is done, if there is none.

    Removes what is out of date, and writes reports/partial/ from the cells that are whole, unless the run was stopped
    and no cell failed. Raises PlanError: no cell has results.
    """
    lost = unfinished(grid, layout)
    if not lost:
        return {}
    discard(grid, layout, list(lost))
    shutil.rmtree(grid.root / layout.partial().report(), ignore_errors=True)
    if not any(why.startswith(FAILED) for why in lost.values()):
        return lost
    for name in outdated(grid, layout, lost):
        lost[name] = f"{NOT_RUN}: the run ended before it; what an older run left is not shown"
    if len(lost) == len(grid.cells):
        raise PlanError("\n  ".join(["no report was made, since no cell has results:", *by_reason(lost)]))
    rest, folder = grid.without(lost), layout.partial()
    write_results(rest, folder)
    for experiment in rest.active_experiments:
        write_experiment(rest, folder, experiment)
    write_page(rest, folder)
    return lost


def by_reason(lost: Mapping[str, str]) -> list[str]:
    """What `write_partial` returns, a line per reason: all cells of a dataset that is not fetched have the same."""
    cells: dict[str, list[str]] = {}
    for name, why in lost.items():
        cells.setdefault(why, []).append(name)
    more = {why: f" and {len(names) - 1} more" if len(names) > 1 else "" for why, names in cells.items()}
    return [f"{names[0]}{more[why]}: {why}" for why, names in cells.items()]


def unfinished(grid: Grid, layout: Layout) -> dict[str, str]:
    """Every cell of which a file is missing -> the first step that left none, and why."""
    lost = {}
    for name, cell in grid.cells.items():
        for step, _, log in _left(grid, layout, cell)[:1]:
            lost[name] = _why(step, grid.root / log)
    return lost


def _left(grid: Grid, layout: Layout, cell: CellConfig) -> list[Step]:
    """The first step of a cell that has not left all its files, and those after it."""
    steps = _steps(grid, layout, cell)
    return list(dropwhile(lambda step: all((grid.root / file).exists() for file in step[1]), steps))


def _steps(grid: Grid, layout: Layout, cell: CellConfig) -> Iterator[Step]:
    """What a cell depends on, in order."""
    for dataset in dict.fromkeys(d for d, _ in cell.data):
        if grid.datasets[dataset].sources:
            yield "fetch", [paths.raw_manifest(dataset)], layout.log("fetch", dataset)
        yield "prepare", paths.prepared_files(dataset), layout.log("prepare", dataset)
    for stage in cell.stages:
        models = layout.stage(cell.name, stage, f"models/{paths.CHECKSUMS}")
        yield stage, [*layout.outputs(cell.name, stage), models], layout.log(stage, cell.name)
    yield "evaluate", layout.scores(cell.name), layout.log("evaluate", cell.name)


def _why(step: str, log: Path) -> str:
    if not log.is_file():
        return f"{NOT_RUN}: the run ended before its {step}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
    told = [i for i, line in enumerate(lines) if line.startswith(("error: ", "stopped: "))]
    said = " ".join(lines[told[-1] :]) if told else lines[-1]
    if said.startswith(("stopped: ", "KeyboardInterrupt")):
        return f"{NOT_RUN}: its {step} was stopped"
    short = said.removeprefix("error: ")
    if len(short) > LONGEST_REASON:
        short = short[:LONGEST_REASON] + " ..."
    return f"{FAILED}: {short or 'it ended without a message'} ({log.name} of {step})"


def discard(grid: Grid, layout: Layout, lost: list[str]) -> None:
    """Remove what depends on something that is missing: the later files of these cells, and the whole report."""
    stale = [*results_outputs(layout).values(), *map(layout.report, ("index.html", "pages", "models", "evidence"))]
    for experiment in grid.active_experiments:
        stale += experiment_outputs(layout, experiment)
    for name in lost:
        later = _left(grid, layout, grid.cells[name])[1:]
        stale += [file for step, files, _ in later if step not in ("fetch", "prepare") for file in files]
    for file in stale:
        path = grid.root / file
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def outdated(grid: Grid, layout: Layout, lost: dict[str, str]) -> list[str]:
    """Cells that have all their files, some of which Snakemake would make again; PlanError where it cannot say."""
    given = [f"suite={grid.suite_name}"]
    if layout.datasets is not None:
        given.append(f"datasets=[{','.join(layout.datasets)}]")
    command = ["snakemake", "--summary", "--cores", "1", "--nolock", "reproduce"]
    asked = run_module(*command, *([] if layout.is_default else ["--config", *given]), cwd=grid.root)
    if asked.returncode:
        raise PlanError(f"`{' '.join(command)}` failed:\n{asked.stdout}{asked.stderr}")
    rows = [line.split("\t") for line in asked.stdout.splitlines()]
    pending = {row[0] for row in rows if row[-1].strip() == "update pending"}
    return [
        name
        for name, cell in grid.cells.items()
        if name not in lost and any(file in pending for _, files, _ in _steps(grid, layout, cell) for file in files)
    ]

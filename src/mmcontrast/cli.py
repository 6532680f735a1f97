"""The command line: parse, call, print. Heavy modules are imported only by the command that needs them."""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from mmcontrast import __version__, paths, progress
from mmcontrast.config import CellConfig, Grid
from mmcontrast.config.base import known
from mmcontrast.data.files import sha256_of
from mmcontrast.errors import ConfigError, MMContrastError, StoppedError, disk_problem, nearest
from mmcontrast.pipeline import documents, workflow
from mmcontrast.pipeline import plan as plans
from mmcontrast.pipeline.workflow import selection


def _enter_checkout() -> None:
    """Go to the folder that holds params/, this one or one above it; its package must be the one that is running."""
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / "params/suites").is_dir()), None)
    if root is None:
        raise ConfigError(
            f"{here}: not in a checkout: neither this folder nor one above it holds params/suites/; go to one that "
            "does, or make one with `mmcontrast init DIR`"
        )
    os.chdir(root)
    own = root / "src/mmcontrast"
    if own.is_dir() and own.resolve() != Path(__file__).resolve().parent:
        raise ConfigError(
            f"the running package is {Path(__file__).resolve().parent}, and this checkout's is {own.resolve()}; "
            "run the latter with `PYTHONPATH=src python -m mmcontrast`, or create its own environment with `make env`"
        )


def _journal(args: argparse.Namespace, layout: paths.Layout) -> None:
    """One line for a command that really ran a stage; tests and people count them."""
    layout.journal.parent.mkdir(parents=True, exist_ok=True)
    seconds = round(time.perf_counter() - args.started, 3)
    line = json.dumps({"command": args.words, "finished": time.time(), "seconds": seconds})
    with layout.journal.open("a", encoding="utf-8") as f:
        f.write(line + "\n")


def _answer(args: argparse.Namespace, counts: dict[str, int], rows: list[dict[str, Any]], error: str = "") -> int:
    """Print what `--json` gives, of every command in one shape (docs/guides/tools.md); the exit status."""
    rows = [{k: None if v != v else v for k, v in row.items()} for row in rows]  # JSON has no NaN
    print(json.dumps({"command": args.words, "error": error or None, "counts": counts, "rows": rows}, indent=2))
    return int(bool(error))


class EpochPrinter:
    """Training progress: a living line on a terminal, else one every few seconds; under DVC, which says nothing of how
    far it is, also with the number of training stages and the time left.
    """

    def __init__(self, stage: str, cell: CellConfig, layout: paths.Layout) -> None:
        self.cell, self.last = cell, 0.0
        self.screen, self.started = progress.Screen(sys.stderr), time.monotonic()
        self.ahead = progress.Ahead(layout, (stage, cell.name)) if "DVC_STAGE" in os.environ else None

    def __call__(self, seed: int, epoch: int, epochs: int, terms: dict[str, float]) -> None:
        number, seeds = self.cell.seeds.index(seed) + 1, len(self.cell.seeds)
        done, total = (number - 1) * epochs + epoch + 1, seeds * epochs
        if self.screen.living:
            ahead = self.ahead.line(time.monotonic() - self.started, done / total) if self.ahead else ""
            name = progress.shown(("finetune", self.cell.name))
            where = f"seed {number}/{seeds} epoch {epoch + 1}/{epochs}"
            line = progress.joined([ahead, f"{name} {where}", f"loss {terms.get('loss', float('nan')):.4f}"])
            self.screen.show(line if done < total else "")
        elif done == total or epoch == epochs - 1 or time.monotonic() - self.last > 5:
            self.last = time.monotonic()
            values = " ".join(f"{k}={v:.4f}" for k, v in terms.items())
            text = f"{self.cell.name}: seed {seed} ({number} of {seeds}) epoch {epoch + 1}/{epochs} {values}"
            print(text, flush=True)


def _train(args: argparse.Namespace) -> None:
    layout, plan = _planned(args, args.command)
    cell = plans.planned_cell(plan)
    os.environ.setdefault("DS_ACCELERATOR", cell.engine.device)
    from mmcontrast.training.cell import launch_ranks, run_stage

    launch_ranks(cell, args.words)
    report: Callable[[int, int, int, dict[str, float]], None] = EpochPrinter(args.command, cell, layout)
    if named := os.environ.get("MMCONTRAST_TRACKERS"):
        from mmcontrast.trackers import tracked

        report = tracked(report, named, layout.tracked(cell.name, args.command))
    cost = run_stage(cell, args.command, layout, report, plan=sha256_of(plan))
    if cost:
        print(
            f"{cell.name} {args.command}: {cost['seconds']:.1f} s, of which training {cost['training_seconds']:.1f} s; "
            f"peak memory {cost['peak_memory_bytes'] / 2**20:.0f} MiB"
        )
        _journal(args, layout)


def _planned(args: argparse.Namespace, stage: str) -> tuple[paths.Layout, Path]:
    """The plan of a stage of a cell; made now if no run has planned the cell."""
    layout, name = paths.Layout(args.suite, args.datasets), plans.cell_name(args.cell)
    plan = Path(layout.cell_plan(name, stage))
    if not plan.exists():
        return layout, plans.plan_by_hand(args.suite, args.datasets, name, stage)
    plans.warn_of_edits(layout)
    return layout, plan


def _evaluate(args: argparse.Namespace) -> None:
    layout, plan = _planned(args, "evaluate")
    from mmcontrast.evaluation.evaluate import evaluate_cell

    cell = plans.planned_cell(plan)
    scored = Path(layout.scored(cell.name, cell.last_stage, cell.scored_by))
    plans.refuse_another_plan(cell.name, scored, layout, plan.parent)
    evaluate_cell(cell, scored, *map(Path, layout.scores(cell.name)))
    _journal(args, layout)


def _report(args: argparse.Namespace) -> int:
    layout = paths.Layout(args.suite, args.datasets)
    page = Path(layout.report_plan("page"))
    if args.part == "single":
        from mmcontrast.report.page import write_single

        print(f"{write_single(plans.planned_grid(page), layout)}: written")
        return 0
    if args.part == "partial":
        return _partial(plans.planned_grid(page), layout)
    planned = plans.Plan.read(Path("."), layout)
    known = ["results", "page", "single", "partial", *planned.experiments]
    if args.part not in known:
        raise ConfigError(f"report {args.part}: no such part in this suite; {nearest(args.part, known)}")
    plan = Path(layout.report_plan(args.part))
    if args.part == "results":
        from mmcontrast.pipeline.compare import keep_results
        from mmcontrast.report.results import write_covered

        for name, cell in planned.cells.items():
            if (scored := Path(layout.run(name, cell.scored))).exists():
                plans.refuse_another_plan(name, scored, layout, Path(layout.cell_plan(name, "evaluate")).parent)
        write_covered(plans.carried_out(plan)["covered"], layout, Path("."))
        keep_results(layout, Path("."))
    elif args.part == "page":
        from mmcontrast.report.page import write_page

        write_page(plans.planned_grid(plan), layout)
    else:
        from mmcontrast.report.experiment import write_experiment

        write_experiment(plans.planned_grid(plan), layout, args.part)
    _journal(args, layout)
    return 0


def _partial(grid: Grid, layout: paths.Layout) -> int:
    """Report the cells that a failed run has finished; exit status 1 if a cell has no result."""
    from mmcontrast.pipeline.partial import by_reason, write_partial

    lost = write_partial(grid, layout)
    if not lost:
        # the terminal is quiet about jobs, so a failed job of the report is named here
        for log in sorted(Path(layout.log("report", "results")).parent.glob("*.log")):
            words = log.read_text(encoding="utf-8", errors="replace").strip()
            if "error: " in words or "Traceback" in words:
                print(f"{log}: {words.splitlines()[-1]}")
        print("every cell has its results; if the run failed, the logs of the report say why")
        return 0
    print(f"{len(lost)} of {len(grid.cells)} cells have no result:")
    print("".join(f"  {line}\n" for line in by_reason(lost)), end="")
    page = layout.partial().report("index.html")
    made = f"The other cells are reported in {page}. " if Path(page).exists() else ""
    print(f"{made}Run the same command again to continue.")
    return 1


def _plan(args: argparse.Namespace) -> None:
    plan, layout, changed = workflow.plan_suite(args.suite, args.datasets)
    for file in changed:
        print(file)
    print(f"{layout.plans}: {len(plan.cells)} cells; {len(changed)} files of the plan have changed")
    if plans.GRID in changed and "DVC_STAGE" in os.environ:
        raise ConfigError(
            f"{plans.GRID}: the cells, datasets or experiments are no longer those that DVC has read; run `dvc repro` "
            "again"
        )


def _data(args: argparse.Namespace) -> None:
    from mmcontrast.data.croissant import write_croissant
    from mmcontrast.data.fetch import fetch
    from mmcontrast.data.prepare import prepare

    for name in args.names:
        plan, raw = Path(paths.data_plan(name, args.action)), Path(paths.raw_dir(name))
        if not plan.exists():
            plans.plan_data(name)
        if args.action == "fetch":
            manifest = fetch(name, plans.planned_sources(plan), raw)
            print(f"{name}: {len(manifest['files'])} files in {raw}")
        else:
            folder = Path(paths.datasheet(name)).parent
            sheet = prepare(name, plans.planned_dataset(plan), raw, folder)
            write_croissant(folder, sheet)
            rows = ", ".join(f"{split} {s['rows']}" for split, s in sheet["splits"].items())
            print(f"{name}: {rows} rows in {folder}")
            for warning in sheet["warnings"]:
                print(f"{name}: warning: {warning}")
    _journal(args, paths.Layout())


def _encoders(args: argparse.Namespace) -> None:
    from mmcontrast.data.pretrained import download

    grid, _ = selection(args.suite)
    of_cells = [spec for cell in grid.cells.values() for spec in cell.model.pretrained.values()]
    of_features = [spec for dataset in grid.datasets.values() for spec in dataset.encoders.values()]
    for folder in download([*of_cells, *of_features]):
        print(folder)


def _status(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from mmcontrast.data.manifest import described, status

    grid = selection(args.suite)[0]
    rows = {row.name: row for row in status(grid)}
    known("mmcontrast data status", "dataset", args.names, rows)
    found = [rows[name] for name in args.names or rows]
    if args.json:
        counts = {"datasets": len(found), "ready": sum(row.next_step == "ready" for row in found)}
        return _answer(args, counts, [asdict(row) for row in found])
    for row in found if args.names else []:
        print("\n".join(described(row, grid.datasets[row.name])))
    table = Table("dataset", "rows", "fetched", "prepared", "terms", "next")
    for row in found:
        table.add_row(row.name, str(row.rows), row.fetched, row.prepared, row.licence, row.next_step)
    if not args.names:
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    return 0


def _sync(args: argparse.Namespace) -> None:
    print("sync:", workflow.to_dvc() if args.engine == "dvc" else workflow.to_snakemake())


def _compare(args: argparse.Namespace) -> int:
    from mmcontrast.pipeline.compare import as_rows, compare, comparison_table, results_of
    from mmcontrast.report.tables.formats import to_markdown

    root, layout = Path.cwd(), paths.Layout(args.suite, args.datasets)
    found = compare(results_of(args.before, root, layout), results_of(args.after, root, layout))
    if args.json:
        return _answer(args, {"moved": len(found.moved), "unmoved": found.unmoved}, as_rows(found))
    print(to_markdown(comparison_table(found, args.before, args.after)), end="")
    return 0


def _verify(args: argparse.Namespace) -> int:
    grid, layout = selection(args.suite, args.datasets)
    from mmcontrast.pipeline.verify import PROBES, RECORDS, examine, repair, told
    from mmcontrast.report.outputs import reproduce

    say = (lambda line: None) if args.json else (lambda line: print(line, flush=True))
    if not args.all:
        say(f"computed again: per stage the model of one seed, and the probes of {PROBES} cells; all of them by --all")
    findings = told(examine(grid, layout, args.all), say)
    if args.repair:
        spoiled = repair(findings, grid.root, say)
        # now, as no run would make data again while what was trained on them stands
        with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):
            for name in grid.datasets:
                args.names, made = [name], Path(paths.datasheet(name)).parent
                for args.action, part in (("fetch", paths.raw_manifest(name)), ("prepare", made)):
                    if any(f"{path}/".startswith(f"{part}/") for path in spoiled):
                        try:
                            _data(args)
                        except MMContrastError as e:  # the other datasets can be made all the same
                            print(f"error: {e}", file=sys.stderr)
    counts = {state: sum(f.state == state for f in findings) for state in ("right", "wrong", "missing")}
    problem = f"{counts['wrong']} wrong" if counts["wrong"] else ""
    if all(f.state == "missing" or f.kind in RECORDS for f in findings):
        say(problem := f"nothing of this suite is here; run `{reproduce(layout)}` first")
    if args.json:
        return _answer(args, counts, [asdict(f) for f in findings if f.state != "right"], problem)
    return int(bool(problem))


def _write(args: argparse.Namespace) -> None:
    for file in documents.write_schemas(Path.cwd()):
        print(f"{file}: written")


def _tune(args: argparse.Namespace) -> None:
    from mmcontrast.pipeline.tune import tune

    file = tune(Grid(Path.cwd(), args.suite, untuned=True), args.recipe, args.datasets, args.methods)
    print(f"{file.relative_to(Path.cwd())}: written")


def _apply(args: argparse.Namespace) -> None:
    from mmcontrast.trained import embed_files, load, predict_files

    where = Path(args.cell)
    if not where.is_absolute():
        where = Path(paths.Layout(args.suite).run(plans.cell_name(args.cell), ""))
    model = load(where, args.device, args.seed)
    n = (embed_files if args.command == "embed" else predict_files)(model, args.files, args.out, names=args.id)
    print(f"{args.out}: {n} rows written")


def _push(args: argparse.Namespace) -> None:
    from mmcontrast.pipeline.push import push

    grid, layout = selection(args.suite)
    print(push(grid, layout, plans.cell_name(args.cell), args.repository, args.public))


def _check(args: argparse.Namespace) -> int:
    grid, layout = selection(args.suite, args.datasets)
    plans.planned(grid, layout)  # what it refuses, no run would pass
    if args.json:
        counts = {"cells": len(grid.cells), "experiments": len(grid.active_experiments)}
        return _answer(args, counts, [{"cell": name, "seeds": cell.seeds} for name, cell in grid.cells.items()])
    print(f"params/ is in order: {len(grid.cells)} cells in {len(grid.active_experiments)} experiments")
    return 0


def _init(args: argparse.Namespace) -> None:
    from mmcontrast.pipeline.starting import new_workspace

    print("\n".join(new_workspace(Path(args.folder))))


def _new(args: argparse.Namespace) -> None:
    from mmcontrast.pipeline import starting

    args.suite, args.datasets, args.json = args.name if args.kind == "dataset" else "default", None, False
    if args.kind == "method":
        print("\n".join(starting.new_method(args.name, args.experiment)))
        _check(args)
        return
    files = [starting.as_source(file, args.here) for file in args.files]
    told = {role: given for role in ("id", "label", "group", "split") if (given := getattr(args, role)) is not None}
    with starting.all_or_nothing(args.name):
        print("\n".join(starting.new_dataset(args.name, files, told)))
        _check(args)
    print(f"Next: snakemake --cores all --config suite={args.name}")


def _completion(args: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(_parser(), args.shell))


# the command goes into the checkout; files are named from where it was typed
TYPES: dict[str, Callable[[str], Any]] = {
    "int": int,
    "from_here": lambda given: Path(given).absolute(),
    "cell_or_path": lambda given: str(Path(given).absolute()) if Path(given).exists() else given,
}


def _parser() -> argparse.ArgumentParser:
    table = yaml.safe_load(Path(__file__).with_name("commands.yaml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(prog="mmcontrast", description="Reproducible multimodal contrastive learning.")
    parser.add_argument("--version", action="version", version=f"mmcontrast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    groups = {}
    for word, (called, text) in table["groups"].items():
        group = commands.add_parser(word, help=text, description=text)
        groups[word] = group.add_subparsers(dest=called.lower(), required=True, metavar=called)
    for words, command in table["commands"].items():
        first, _, second = words.partition(" ")
        text, shared = command.pop("help"), command.pop("shared", ())
        sub = groups.get(first, commands).add_parser(second or first, help=text, description=text)
        sub.set_defaults(call=globals()[f"_{command.pop('call', first)}"])
        for name, options in [*((name, table["arguments"][name]) for name in shared), *command.items()]:
            given: dict[str, Any] = {k: TYPES[v] if k == "type" else v for k, v in options.items() if k != "names"}
            sub.add_argument(*options.get("names", [name]), **given)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point. A user error is one message on stderr and exit status 1."""
    words = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(words)
    args.words, args.started, args.here = words, time.perf_counter(), Path.cwd()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mmcontrast").setLevel(logging.INFO)
    try:
        if args.command not in ("init", "completion"):
            _enter_checkout()
        return args.call(args) or 0
    except StoppedError as e:
        print(f"stopped: {e}", file=sys.stderr)
        return 128 + signal.SIGTERM
    except (MMContrastError, OSError) as e:
        problem = disk_problem(e) if isinstance(e, OSError) else str(e)
        if problem is None:
            raise
        print(f"error: {problem}", file=sys.stderr)
        return _answer(args, {}, [], problem) if getattr(args, "json", False) else 1

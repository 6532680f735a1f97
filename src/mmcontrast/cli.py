"""The command line: parse, call, print. Heavy modules are imported only by the command that needs them."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mmcontrast import __version__, paths, progress
from mmcontrast.config import CellConfig, Grid
from mmcontrast.data.files import sha256_of
from mmcontrast.errors import ConfigError, MMContrastError, StoppedError, disk_problem, nearest
from mmcontrast.pipeline import licences, schemas, sync
from mmcontrast.pipeline import plan as plans
from mmcontrast.pipeline.kept import keep_results
from mmcontrast.pipeline.selection import selection
from mmcontrast.pipeline.workflow import plan_suite

PROGRESS_SECONDS = 5.0


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


class EpochPrinter:
    """Training progress: a living line on a terminal, else a line every few seconds.

    Under DVC, which says nothing of how far it is, the line also has the number of training stages and the time left.
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
        elif done == total or epoch == epochs - 1 or time.monotonic() - self.last > PROGRESS_SECONDS:
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
    cost = run_stage(cell, args.command, layout, EpochPrinter(args.command, cell, layout), plan=sha256_of(plan))
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
    scores = (layout.metrics(cell.name), layout.curves(cell.name), layout.intervals(cell.name))
    evaluate_cell(cell, scored, *map(Path, scores))
    _journal(args, layout)


def _report(args: argparse.Namespace) -> int:
    layout = paths.Layout(args.suite, args.datasets)
    if args.part == "publish":
        from mmcontrast.report.publish import publish

        grid, layout = selection(args.suite, args.datasets)
        for file in publish(grid, layout):
            print(f"{file}: written")
        return 0
    if args.part == "single":
        from mmcontrast.report.page import write_single

        print(f"{write_single(plans.planned_grid(Path(layout.report_plan('page'))), layout)}: written")
        return 0
    if args.part == "partial":
        return _partial(plans.planned_grid(Path(layout.report_plan("page"))), layout)
    planned = plans.Plan.read(Path("."), layout)
    known = ["results", "page", "single", "partial", "publish", *planned.experiments]
    if args.part not in known:
        raise ConfigError(f"report {args.part}: no such part in this suite; {nearest(args.part, known)}")
    plan = Path(layout.report_plan(args.part))
    if args.part == "results":
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
    from mmcontrast.pipeline.partial import write_partial

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
    for name, why in lost.items():
        print(f"  {name}: {why}")
    page = layout.partial().report("index.html")
    made = f"The other cells are reported in {page}. " if Path(page).exists() else ""
    print(f"{made}Run the same command again to continue.")
    return 1


def _plan(args: argparse.Namespace) -> None:
    plan, layout, changed = plan_suite(args.suite, args.datasets)
    for file in changed:
        print(file)
    print(f"{layout.plans}: {len(plan.cells)} cells; {len(changed)} files of the plan have changed")
    if plans.GRID in changed and "DVC_STAGE" in os.environ:
        raise ConfigError(
            f"{plans.GRID}: the cells, datasets or experiments are no longer those that DVC has read; run `dvc repro` "
            "again"
        )


def _data(args: argparse.Namespace) -> None:
    if args.action == "status":
        _print_status(selection(args.suite)[0])
        return
    if args.action == "encoders":
        _download_encoders(selection(args.suite)[0])
        return
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
            sheet = prepare(name, plans.planned_dataset(plan), raw, Path(paths.datasheet(name)).parent)
            rows = ", ".join(f"{split} {s['rows']}" for split, s in sheet["splits"].items())
            print(f"{name}: {rows} rows in {Path(paths.datasheet(name)).parent}")
            for warning in sheet["warnings"]:
                print(f"{name}: warning: {warning}")
    _journal(args, paths.Layout())


def _download_encoders(grid: Grid) -> None:
    from mmcontrast.data.pretrained import download

    of_cells = [spec for cell in grid.cells.values() for spec in cell.model.pretrained.values()]
    of_features = [spec for dataset in grid.datasets.values() for spec in dataset.encoders.values()]
    for folder in download([*of_cells, *of_features]):
        print(folder)


def _print_status(grid: Grid) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmcontrast.data.status import status

    table = Table("dataset", "rows", "fetched", "prepared", "source", "licence", "next")
    for row in status(grid):
        table.add_row(row.name, str(row.rows), row.fetched, row.prepared, row.source, row.licence, row.next_step)
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _sync(args: argparse.Namespace) -> None:
    print("sync:", sync.to_dvc() if args.engine == "dvc" else sync.to_snakemake())


def _compare(args: argparse.Namespace) -> None:
    from mmcontrast.pipeline.compare import compare, comparison_table, results_of
    from mmcontrast.report.tables.formats import to_markdown

    root, layout = Path.cwd(), paths.Layout(args.suite, args.datasets)
    found = compare(results_of(args.before, root, layout), results_of(args.after, root, layout))
    print(to_markdown(comparison_table(found, args.before, args.after)), end="")


def _verify(args: argparse.Namespace) -> int:
    grid, layout = selection(args.suite, args.datasets)
    from mmcontrast.pipeline.findings import as_json, repair, told
    from mmcontrast.pipeline.verify import examine
    from mmcontrast.report.outputs import reproduce

    say = (lambda line: None) if args.json else (lambda line: print(line, flush=True))
    findings = told(examine(grid, layout), say)
    if args.json:
        print(json.dumps(as_json(findings), indent=2))
    if args.repair:
        repair(findings, grid.root, say)
        # now, as no run would make data again while what was trained on them stands
        spoiled = {path for f in findings if f.state == "wrong" for path in f.spoiled}
        with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):
            for name in grid.datasets:
                parts = {"fetch": paths.raw_manifest(name), "prepare": str(Path(paths.datasheet(name)).parent)}
                for args.action, part in parts.items():
                    if any(f"{path}/".startswith(f"{part}/") for path in spoiled):
                        args.names = [name]
                        _data(args)
    checked = [f for f in findings if f.state != "missing" and f.kind != "plan"]
    if not checked:
        say(f"nothing of this suite is here; run `{reproduce(layout)}` first")
    return int(not checked or any(f.state == "wrong" for f in findings))


def _write(args: argparse.Namespace) -> None:
    for file in schemas.write_schemas(Path.cwd()) if args.command == "schemas" else [licences.write(Path.cwd())]:
        print(f"{file}: written")


def _tune(args: argparse.Namespace) -> None:
    from mmcontrast.pipeline.tune import tune

    file = tune(Grid(Path.cwd(), args.suite, untuned=True), args.recipe, args.datasets, args.methods)
    print(f"{file.relative_to(Path.cwd())}: written")


def _apply(args: argparse.Namespace) -> None:
    from mmcontrast.applied import embed_files, predict_files
    from mmcontrast.trained import load

    where = Path(args.cell)
    if not where.is_absolute():
        where = Path(paths.Layout(args.suite).run(plans.cell_name(args.cell), ""))
    model = load(where, args.device, args.seed)
    n = (embed_files if args.command == "embed" else predict_files)(model, args.files, args.out)
    print(f"{args.out}: {n} rows written")


def _check(args: argparse.Namespace) -> None:
    grid, layout = selection(args.suite, args.datasets)
    plans.planned(grid, layout)  # what it refuses, no run would pass
    print(f"params/ is in order: {len(grid.cells)} cells in {len(grid.active_experiments)} experiments")


def _new(args: argparse.Namespace) -> None:
    from mmcontrast.pipeline import starting

    if args.command == "init":
        said = starting.new_workspace(Path(args.folder))
    elif args.kind == "method":
        said = starting.new_method(args.name, args.experiment)
    else:
        files = [starting.as_source(file, args.here) for file in args.files]
        told = {role: given for role in ("id", "label", "group", "split") if (given := getattr(args, role)) is not None}
        said = starting.new_dataset(args.name, files, told)
    print("\n".join(said))
    if args.command == "new":
        args.suite, args.datasets = args.name if args.kind == "dataset" else "default", None
        _check(args)
    if args.command == "new" and args.kind == "dataset":
        print(f"Next: snakemake --cores all --config suite={args.name}")


def _completion(args: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(_parser(), args.shell))


def _from_here(given: str) -> Path:
    return Path(given).absolute()


def _cell_or_path(given: str) -> str:
    return str(_from_here(given)) if Path(given).exists() else given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mmcontrast", description="Reproducible multimodal contrastive learning.")
    parser.add_argument("--version", action="version", version=f"mmcontrast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def of_a_suite(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--suite", default="default", help="name of a file in params/suites/ (default: %(default)s)")

    def add(
        name: str,
        call: Callable[[argparse.Namespace], int | None],
        text: str,
        datasets: str = "",
        suite: bool = True,
        **words: str,
    ) -> argparse.ArgumentParser:
        """A command that takes `words`, a suite unless it is of none, and datasets where there is a help text."""
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(call=call)
        if suite:
            of_a_suite(sub)
        for word, meaning in words.items():
            sub.add_argument(word, help=meaning)
        if datasets:
            sub.add_argument("--datasets", nargs="+", metavar="NAME", help=datasets)
        return sub

    others, cell = "run these datasets instead of the suite's", "dataset/method/variant"
    data = add("data", _data, "Show, fetch or prepare datasets.", suite=False)
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "list every dataset: its licence, what is there, how to get the rest"
    of_a_suite(actions.add_parser("status", help=text))
    text = "download the pretrained encoders that are named by a hub id and commit"
    of_a_suite(actions.add_parser("encoders", help=text))
    for action, text in (
        ("fetch", "download, verify checksums"),
        ("prepare", "convert to Parquet, split and scale"),
    ):
        actions.add_parser(action, help=text).add_argument("names", nargs="+", metavar="NAME")
    add("pretrain", _train, "Train a cell's encoders with its contrastive objective alone.", others, cell=cell)
    add("finetune", _train, "Train a cell with its joint or supervised objective.", others, cell=cell)
    text = "Score a cell from its stored predictions, or by a linear probe on its embeddings."
    add("evaluate", _evaluate, text, others, cell=cell)
    parts = (
        "results, page, single (the whole report as one file), partial (the finished cells, after a failure), or "
        "publish (to docs/results/ and README.md)"
    )
    add("report", _report, "Write one part of the report.", others, part=f"name of an experiment, {parts}")
    add("check", _check, "Check all of params/ and count what would be run.", others)
    add("plan", _plan, "Write everything that determines each stage's result, for both engines.", others)
    engine = add("sync", _sync, "Update the records of one engine with what the other has run.", suite=False)
    engine.add_argument("engine", choices=["dvc", "snakemake"])
    text = "List the scores that differ between two versions of a suite's results, with intervals."
    revision = "a git revision such as HEAD~1 or v1.0, `previous` (the last results that differ), or `workspace`"
    compare = add("compare", _compare, text, others, before=revision)
    compare.add_argument("after", nargs="?", default="workspace", help="likewise (default: %(default)s)")
    text = "Recompute checksums, predictions and scores, and compare them with what is stored."
    verify = add("verify", _verify, text, others)
    verify.add_argument(
        "--repair", action="store_true", help="make wrong data again, and remove the rest for the next run"
    )
    verify.add_argument("--json", action="store_true", help="print what is wrong or missing as JSON")
    text = "Choose the learning rate of every method that shares a recipe by its validation score."
    recipe = "name of a file in params/recipes/"
    tuned = add("tune", _tune, text, "tune on these of the recipe's datasets alone", recipe=recipe)
    tuned.add_argument("--methods", nargs="+", metavar="NAME", help="tune these methods alone")
    new = commands.add_parser("new", help="Start a dataset of your own, from its files, or a method.")
    new.set_defaults(call=_new)
    kinds = new.add_subparsers(dest="kind", required=True, metavar="KIND")
    text = "Look at tables, and a folder of pictures; write params/ of a dataset, an experiment and a suite."
    dataset = kinds.add_parser("dataset", help=text, description=text)
    dataset.add_argument("name", metavar="NAME", help="of the dataset, its experiment and its suite")
    dataset.add_argument("files", nargs="+", metavar="FILE", help="csv, xlsx, JSON, Parquet, Feather, npz; one folder")
    for role in ("id", "label", "group", "split"):
        dataset.add_argument(
            f"--{role}", metavar="COLUMN", help=f"column of the {role}; default: the one that looks so"
        )
    text = "Write the code, params and test of a method that trains as it is, to change."
    method = kinds.add_parser("method", help=text, description=text)
    method.add_argument("name", metavar="NAME", help="of the method, and of its folder in methods/")
    method.add_argument("--experiment", metavar="NAME", help="also a row of this experiment, in params/experiments/")
    init = commands.add_parser("init", help="Make a folder to work in, without a checkout: params/ and the workflow.")
    init.set_defaults(call=_new)
    init.add_argument("folder", metavar="DIR")
    of = "dataset/method/variant, or a model's path"
    for name, text in {
        "embed": "Write the embeddings that a trained model gives new rows.",
        "predict": "Write what a trained model predicts of new rows.",
    }.items():
        apply = add(name, _apply, text)
        # the command goes into the checkout; these are named from where it was typed
        apply.add_argument("cell", type=_cell_or_path, help=of)
        apply.add_argument("files", nargs="+", type=_from_here, metavar="FILE", help="csv or Parquet, joined by `id`")
        apply.add_argument("-o", "--out", required=True, type=_from_here, metavar="FILE", help="csv or Parquet")
        apply.add_argument("--seed", type=int, help="of the model (default: the first)")
        apply.add_argument("--device", default="cpu", help="where it computes (default: %(default)s)")
    completion = commands.add_parser("completion", help="Print what lets a shell complete commands and options.")
    completion.set_defaults(call=_completion)
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    add("licences", _write, "Write docs/licences.md from params/ and the installed packages.", suite=False)
    add("schemas", _write, "Write the JSON Schemas of params/ to build/schemas/.", suite=False)
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
        return 1

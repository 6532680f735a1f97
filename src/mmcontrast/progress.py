"""How far a run is, as one line for people: `37/242 steps · about 21 min left · trifeature/comm seed 2/3 epoch 14/30`.

For training jobs, and for Snakemake's terminal: one living line, cells by their names, and at once why a job failed.
Dry runs, `--verbose` and `--printshellcmds` get Snakemake's own lines. Light imports only: every snakemake has it.
"""

import json
import logging
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from snakemake_interface_logger_plugins.common import LogEvent

from mmcontrast.data.files import read_json, sha256_of
from mmcontrast.paths import Layout

TRAINING = ("pretrain", "finetune")
# a line that a training job prints, see `mmcontrast.cli.EpochPrinter`
EPOCH = re.compile(r"seed \d+ \((\d+) of (\d+)\) epoch (\d+)/(\d+)")
TAIL = 4096
TARGET = "reproduce"  # the rule that asks for the rest
# between two looks at the running jobs; where nothing lives, a line as seldom as this shows that all is well
LIVING, PLAIN = 1.0, 60.0
# what Snakemake says to everyone at every start, and what the living line says better
CHATTER = (
    "Using workflow specific profile",
    "Assuming unrestricted",
    "Building DAG",
    "Using shell",
    "Rules claiming more threads",
    "Conda environments: ignored",
    "Select jobs to execute",
    "Execute ",
    "Elapsed time",
    "host:",
)

Job = tuple[str, str]  # ("finetune", "handwritten/m3col/base"), ("fetch", "emoji"), ("report", "page")


class Costs:
    """Seconds of every kind of job, as measured by earlier runs of a suite and by this one."""

    def __init__(self, journal: Path) -> None:
        self.seconds: dict[Job, float] = {}
        lines = journal.read_text(encoding="utf-8", errors="replace").splitlines() if journal.is_file() else []
        for line in lines:
            # a kill or a full disk cuts a line short, which says nothing then
            with suppress(ValueError, LookupError, TypeError):
                entry = json.loads(line)
                words = entry["command"][1:] if entry["command"][0] == "data" else entry["command"]
                self.seconds[words[0], words[1]] = float(entry["seconds"])

    def expected(self, job: Job) -> float | None:
        """Its last time, else the mean of its stage on its dataset, else the mean of its stage, else None."""
        if job in self.seconds:
            return self.seconds[job]
        stage, name = job
        alike = {other: s for (kind, other), s in self.seconds.items() if kind == stage}
        near = [s for other, s in alike.items() if other.split("/")[0] == name.split("/")[0]]
        known = near or list(alike.values())
        return sum(known) / len(known) if known else None


def untrained(layout: Layout) -> list[Job]:
    """Training stages of a suite's plan of which there is no result, or only that of another plan."""
    found = []
    plans = Path(layout.plans, "cells")
    for plan in sorted(plans.glob("*/*/*/*.json")):
        cell, stage = plan.parent.relative_to(plans).as_posix(), plan.stem
        if stage in TRAINING:
            try:
                trained_by = read_json(Path(layout.stage(cell, stage, "cost.json")))["plan"]
            except (OSError, ValueError, LookupError, TypeError):
                trained_by = None
            if trained_by != sha256_of(plan):
                found.append((stage, cell))
    return found


class Ahead:
    """What one training job knows of the others when nobody runs them side by side: their number and their time."""

    def __init__(self, layout: Layout, job: Job) -> None:
        self.number = sum(1 for plan in Path(layout.plans, "cells").glob("*/*/*/*.json") if plan.stem in TRAINING)
        others = [other for other in untrained(layout) if other != job]
        self.before = self.number - len(others) - 1
        known = [s for s in map(Costs(layout.journal).expected, others) if s is not None]
        self.seconds = sum(known) / max(1, len(known)) * len(others)

    def line(self, gone: float, share: float) -> str:
        """After `gone` seconds, with this share of the job done."""
        return joined([f"{self.before}/{self.number} cells", about(self.seconds + gone / share * (1 - share))])


def shown(job: Job) -> str:
    """A job as a person knows it; of a cell, the base variant is not said."""
    stage, name = job
    name = name.removesuffix("/base")
    return name if stage in TRAINING else f"{stage} {name}"


def standing(log: Path) -> tuple[str, float]:
    """Where a training job stands by the end of its log, and the share that is done; ("", 0.0) before an epoch."""
    try:
        with log.open("rb") as f:
            f.seek(max(0, log.stat().st_size - TAIL))
            lines = EPOCH.findall(f.read().decode("utf-8", "replace"))
    except FileNotFoundError:
        return "", 0.0
    if not lines:
        return "", 0.0
    seed, seeds, epoch, epochs = map(int, lines[-1])
    return f"seed {seed}/{seeds} epoch {epoch}/{epochs}", ((seed - 1) * epochs + epoch) / (seeds * epochs)


def cause(log: Path) -> str:
    """Why a job failed: the last error in its log, the first line and what its colon announces; else the last line."""
    text = log.read_text(encoding="utf-8", errors="replace").strip() if log.is_file() else ""
    _, marked, error = f"\n{text}".rpartition("\nerror: ")
    lines = error.strip().splitlines()
    if not lines:
        return "it left no message"
    if not marked:
        return lines[-1]
    return f"{lines[0]} {lines[1].strip(' -')}" if lines[0].endswith(":") and lines[1:] else lines[0]


def about(seconds: float) -> str:
    """Time left in words: no more digits than can be known."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute left"
    return f"about {minutes} min left" if minutes < 60 else f"about {minutes // 60} h {minutes % 60} min left"


def joined(parts: Iterable[str]) -> str:
    """Parts of a line, without those that are empty."""
    return " · ".join(part for part in parts if part)


class Screen:
    """A stream with at most one living line at its end; where it is no terminal there is none, only what is said."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.living, self.line = stream, stream.isatty(), ""

    def show(self, line: str) -> None:
        """Put this in place of the living line; an empty one takes it away."""
        if self.living:
            width = shutil.get_terminal_size().columns - 1
            self.line = line if len(line) <= width else line[: width - 1] + "…"
            self._write(self.line)

    def say(self, text: str) -> None:
        """Print a line that stays, above the living one."""
        self._write(f"{text}\n{self.line}")

    def _write(self, text: str) -> None:
        self.stream.write(f"\r\x1b[2K{text}" if self.living else text)
        self.stream.flush()


class Running(NamedTuple):
    """A job that has started: what it is, its log, and when (monotonic seconds)."""

    job: Job
    rule: str
    log: Path
    started: float


class Watch:
    """What is known of a run, from Snakemake's events; every method is called under one lock."""

    def __init__(self) -> None:
        self.waiting: dict[str, int] = {}  # rule -> jobs that have not started
        self.running: dict[int, Running] = {}
        self.seen: set[Job] = set()
        self.done, self.total, self.cores = 0, 0, 1
        self.layout: Layout | None = None
        self.costs, self.stale = Costs(Path()), list[Job]()

    def start(self, jobid: int, rule: str, wildcards: dict[str, str], logs: list[str]) -> None:
        log = Path(logs[0]) if logs else Path()
        if self.layout is None and logs:
            # the suite that is run, by where its logs are: build/<suite>/logs or logs
            suite, *datasets = log.parts[1].split("+") if log.parts[0] == "build" else ["default"]
            self.layout = Layout(suite, datasets or None)
            self.costs, self.stale = Costs(self.layout.journal), untrained(self.layout)
        job = job_of(rule, wildcards)
        self.running[jobid] = Running(job, rule, log, time.monotonic())
        if job not in self.seen:
            self.waiting[rule] = self.waiting.get(rule, 1) - 1
        self.seen.add(job)

    def left(self) -> float | None:
        """Seconds until the end, None while no training job has been measured."""
        now, rest, longest = time.monotonic(), 0.0, 0.0
        for run in self.running.values():
            gone, share = now - run.started, standing(run.log)[1] if run.rule in TRAINING else 0.0
            if share > 0.1:
                self.costs.seconds[run.job] = gone / share
            expected = self.costs.expected(run.job)
            if expected is None and run.rule in TRAINING:
                return None
            one = max(0.0, (expected or 0.0) - gone)
            rest, longest = rest + one, max(longest, one)
        for rule, number in self.waiting.items():
            ahead = [job for job in self.stale if job[0] == rule and job not in self.seen] or [job_of(rule, {})]
            known = [s for s in map(self.costs.expected, ahead) if s is not None]
            if number > 0 and not known and rule in TRAINING:
                return None
            rest += max(0, number) * sum(known) / max(1, len(known))
        return max(longest, rest / self.cores)

    def so_far(self) -> str:
        """Steps that are done, and the time left if it can be known."""
        left = self.left() if self.done < self.total else None
        return joined([f"{self.done}/{self.total} steps", "" if left is None else about(left)])

    def line(self) -> str:
        """The same, and what is running."""
        jobs = [" ".join(filter(None, [shown(run.job), standing(run.log)[0]])) for run in self.running.values()]
        more = f"and {len(jobs) - 2} more" if len(jobs) > 2 else ""
        return joined([self.so_far(), *jobs[:2], more])


def job_of(rule: str, wildcards: dict[str, str]) -> Job:
    """A job under the name that the journal has for it."""
    if wildcards:
        return rule, next(iter(wildcards.values()))
    return ("report", rule.removeprefix("experiment_")) if rule != "dvc" else ("sync", rule)


class Terminal:
    """Turns Snakemake's events into a living line, or one per job without a terminal. `own`: else Snakemake's come."""

    def __init__(self, asked: Any) -> None:
        self.own = not (asked.dryrun or asked.verbose or asked.printshellcmds or asked.debug_dag)
        self.screen = Screen(sys.stdout if asked.stdout else sys.stderr)
        self.watch, self.guard = Watch(), threading.Lock()
        self.told = time.monotonic()
        self.ended = threading.Event()
        if self.own:
            threading.Thread(target=self._look, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """One of Snakemake's records, of which those with an `event` are about jobs."""
        if self.own:
            with self.guard:
                event = getattr(record, "event", None)
                if event is None:
                    self._message(record)
                else:
                    self._event(event, record)

    def close(self) -> None:
        """Called when all has been said."""
        if self.own and not self.ended.is_set():
            self.ended.set()
            self.screen.show("")
            if self.screen.living and self.watch.total:
                self.screen.say(self.watch.so_far())

    def _look(self) -> None:
        """Redraw the line from time to time; where there is no terminal, say it if nothing else was said for long."""
        while not self.ended.wait(LIVING if self.screen.living else PLAIN / 4):
            with self.guard:
                if not self.watch.running:
                    self.screen.show("")
                elif self.screen.living:
                    self.screen.show(self.watch.line())
                elif time.monotonic() - self.told >= PLAIN:
                    self._say(self.watch.line())

    def _say(self, text: str) -> None:
        self.told = time.monotonic()
        self.screen.say(text)

    def _message(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING or (
            record.levelno >= logging.INFO and text not in ("", "None") and not text.startswith(CHATTER)
        ):
            self._say(text)

    def _event(self, event: str, record: logging.LogRecord) -> None:
        watch, of = self.watch, record.__dict__
        if event == LogEvent.RUN_INFO:
            watch.waiting = {str(rule): n for rule, n in of["stats"].items() if rule not in ("total", TARGET)}
            watch.total = sum(watch.waiting.values())
        elif event == LogEvent.RESOURCES_INFO:
            watch.cores = of.get("cores") or of.get("nodes") or watch.cores
        elif event == LogEvent.JOB_INFO and of["rule_name"] != TARGET:
            watch.start(of["jobid"], of["rule_name"], dict(of["wildcards"] or {}), list(of["log"] or []))
        elif event == LogEvent.JOB_FINISHED and (run := watch.running.pop(of["job_id"], None)):
            self._finished(run)
        elif event == LogEvent.JOB_ERROR and (run := watch.running.pop(of["jobid"], None)):
            self._say(f"{' '.join(run.job)} failed: {cause(run.log)} ({run.log})")
        # the command of a job that failed says less than the cause
        elif event == LogEvent.ERROR and "CalledProcessError" not in record.getMessage():
            self._say(record.getMessage())

    def _finished(self, run: Running) -> None:
        self.watch.costs.seconds[run.job] = seconds = time.monotonic() - run.started
        self.watch.done += 1
        if not self.screen.living:
            self._say(f"{self.watch.so_far()} · {' '.join(run.job)}: {seconds:.0f} s")

"""How far a run is, as one line for people: `37/242 steps · about 21 min left · trifeature/comm seed 2/3 epoch 14/30`.

Used by the logger of Snakemake and by the training jobs themselves. Snakemake imports this at every start: no torch.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from mmcontrast.data.files import read_json, sha256_of
from mmcontrast.paths import Layout

TRAINING = ("pretrain", "finetune")
# a line that a training job prints, see `mmcontrast.cli.EpochPrinter`
EPOCH = re.compile(r"seed \d+ \((\d+) of (\d+)\) epoch (\d+)/(\d+)")
TAIL = 4096

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
            cost = Path(layout.stage(cell, stage, "cost.json"))
            if _trained_by(cost) != sha256_of(plan):
                found.append((stage, cell))
    return found


def _trained_by(cost: Path) -> str | None:
    try:
        return str(read_json(cost)["plan"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


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

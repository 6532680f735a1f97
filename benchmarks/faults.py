"""What is done to the project, and how often it held: one table.

    python benchmarks/faults.py [--only corrupted bombs flips bits kills system] [--kills 20] [--record FILE]

exits with 1 if anything got through. With --record every outcome is kept in a file as it comes, a line of JSON each;
the same command goes on where it was ended, tries again what was lost, and its table is of all in the file.

corrupted: each file of the corpus in tests/hostile is read as the project reads it. Refused: an error that names the
file, nothing written outside the target folder, nothing half-written. Unchanged: accepted, with every value as in the
valid file. bombs are read in a process of their own, with 256 MiB more than its imports took. flips: a bit at a time in
every kind of artifact, as in tests/pipeline/test_flipped_bits.py. bits: every method is interrupted in every step on
each engine, and what it leaves behind is compared with an undisturbed run's. kills: see benchmarks/kills.py. system:
see benchmarks/system_faults.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import kills, system_faults  # noqa: E402
from tests.hostile import bombs  # noqa: E402
from tests.hostile.corpus import judged  # noqa: E402
from tests.hostile.formats import FORMATS  # noqa: E402
from tests.pipeline.conftest import small_checkout  # noqa: E402
from tests.pipeline.test_flipped_bits import KINDS, flipped, write_others  # noqa: E402
from tests.training import resuming  # noqa: E402

FLIPS = 200
HELD = ("refused", "unchanged", "equal", "survived")
NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Outcome:
    """One fault of a part, its kind and name there, and what came of it, which begins with a word of HELD if so."""

    part: str
    kind: str
    name: str
    verdict: str

    @property
    def held(self) -> bool:
        return self.verdict.startswith(HELD)

    @property
    def tried(self) -> bool:
        return not self.verdict.startswith(NOT_TRIED)


Known = set[tuple[str, str]]
"""Kinds and names of a part that have held before, and are not tried again."""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty working directory."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(ROOT)


def corrupted_inputs(known: Known, number: int) -> Iterator[Outcome]:
    """Every case of the corpus."""
    with scratch() as folder:
        for k, (kind, form) in enumerate(FORMATS.items()):
            own = folder / str(k)
            own.mkdir()
            for case, verdict in judged(kind, form, own):
                if (kind, case.name) not in known:
                    yield Outcome("corrupted", kind, case.name, verdict)


def unpacked(known: Known, number: int) -> Iterator[Outcome]:
    """Every bomb."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    if {name for _, name in known} >= set(bombs.BOMBS):
        return
    with tempfile.TemporaryDirectory() as folder:
        bombs.write(Path(folder))
        command = [sys.executable, "-m", "tests.hostile.bombs", folder]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    found = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    for name in bombs.BOMBS:
        ended = {"verdict": f"the process ended: {done.stderr[-500:]}", "grown": 0}
        line = found.get(name, ended)
        yield Outcome("bombs", name, name, f"{line['verdict']}; memory grew by {line['grown'] / 1024**2:.0f} MiB")


def flips(known: Known, number: int) -> Iterator[Outcome]:
    """FLIPS bits of every kind of artifact that a small run leaves."""
    done = Counter(kind for kind, _ in known)
    wanted = [kind for kind in KINDS if done[kind] < FLIPS]
    if not wanted:
        return
    with scratch() as folder:
        root = folder / "checkout"
        root.mkdir()
        small_checkout(root).snakemake()
        write_others(root)
        logging.getLogger("mmcontrast").setLevel(logging.ERROR)
        os.chdir(root)
        for kind in wanted:
            for name, verdict in dict(flipped(root, kind, FLIPS + 10)).items():  # a bit may be drawn twice
                yield Outcome("flips", kind, name, verdict)


def bits(known: Known, number: int) -> Iterator[Outcome]:
    """Every cell on every engine, interrupted and not."""
    logging.getLogger("mmcontrast").setLevel(logging.ERROR)
    ways = [("torch", stops) for stops in resuming.STOPS] + [(e, "killed") for e in resuming.ENGINES if e != "torch"]
    with scratch() as folder:
        resuming.write_data(folder)
        for case in resuming.CASES:
            for engine, stops in ways:
                if (case, f"{engine}, {stops}") in known:
                    continue
                one, other, times = resuming.with_and_without_stops(resuming.small(case, engine), stops)
                verdict = "equal" if one == other else "OTHER BITS"
                yield Outcome("bits", case, f"{engine}, {stops}", f"{verdict} after {times} interruptions")
                shutil.rmtree(folder / "build")


def killed(known: Known, number: int) -> Iterator[Outcome]:
    """So many kills; those that are left come from a seed of their own."""
    for i, (moment, same) in enumerate(kills.run(number - len(known), seed=len(known)), start=len(known)):
        yield Outcome("kills", moment, f"kill {i + 1}", "survived" if same else "OTHER RESULTS")


def by_the_system(known: Known, number: int) -> Iterator[Outcome]:
    """Every fault of the system."""
    for name, verdict in system_faults.run(skip={name for _, name in known}):
        yield Outcome("system", name.split(":")[0], name, verdict)


PARTS: dict[str, Callable[[Known, int], Iterator[Outcome]]] = {
    "corrupted": corrupted_inputs,
    "bombs": unpacked,
    "flips": flips,
    "bits": bits,
    "kills": killed,
    "system": by_the_system,
}


def recorded(file: Path | None) -> dict[tuple[str, str, str], Outcome]:
    """The last outcome of each fault in a record."""
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    found = [Outcome(**json.loads(line)) for line in lines]
    return {(o.part, o.kind, o.name): o for o in found}


def table(outcomes: list[Outcome]) -> str:
    """A row per part and kind: how many held, and how many were tried; what did not hold, by name."""
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for o in outcomes:
        kinds.setdefault((o.part, o.kind), Counter()).update({"held": int(o.held), "tried": int(o.tried)})
    lines = [f"{'part':<10} {'kind':<44} {'held':>6} / tried"]
    lines += [f"{part:<10} {kind:<44} {n['held']:>6} / {n['tried']}" for (part, kind), n in kinds.items()]
    for part in dict.fromkeys(part for part, _ in kinds):
        own = [n for (p, _), n in kinds.items() if p == part]
        lines.append(f"{part:<10} {'all':<44} {sum(n['held'] for n in own):>6} / {sum(n['tried'] for n in own)}")
    lines += [f"{o.part}: {o.kind}: {o.name}: {o.verdict}" for o in outcomes if not o.held]
    total = sum((n for n in kinds.values()), Counter())
    return "\n".join([*lines, f"all faults held / tried: {total['held']} / {total['tried']}"])


def main(words: list[str] | None = None) -> int:
    """Everything; 1 if anything got through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--record", type=Path, help="a file to keep outcomes in, and to go on from")
    args = parser.parse_args(words)
    record = args.record and args.record.absolute()
    outcomes = recorded(record)
    for part in args.only:
        known = {(kind, name) for (of, kind, name), o in outcomes.items() if of == part and o.held}
        for o in PARTS[part](known, args.kills):
            outcomes[o.part, o.kind, o.name] = o
            if not o.held or part in ("bits", "kills", "system"):
                print(f"{o.part}: {o.kind}: {o.name}: {o.verdict}", flush=True)
            if record:
                with record.open("a") as handle:
                    handle.write(json.dumps(asdict(o)) + "\n")
    print(table(list(outcomes.values())))
    return int(any(o.tried and not o.held for o in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())

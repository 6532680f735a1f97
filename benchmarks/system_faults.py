"""What the system does to a run: full disks, clocks, signals, missing folders; a small `reproduce` by both engines.

    python benchmarks/system_faults.py [--only NAME ...]

A fault is survived where nothing ends in a traceback, the command that README names then runs to its end, the results
are those of an undisturbed run to the last bit, and both engines have nothing left to do.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Set
from functools import partial
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.kills import results  # noqa: E402
from tests import disk  # noqa: E402
from tests.pipeline.conftest import SUITE, Checkout, small_checkout  # noqa: E402

DAY = 24 * 3600
LONGEST = 1800.0
SNAKEMAKE = ("snakemake", "--cores", "2", "--latency-wait", "5", "reproduce")
DVC = ("dvc", "repro", "-q")
CELL = "runs/synthetic/concat/base"
# each is made of those before it. Snakemake makes a lost file again where something that it has to make needs it
CHAIN = (
    "data/prepared/synthetic/train.parquet", f"{CELL}/finetune/history.parquet", f"{CELL}/metrics.parquet",
    "reports/results.parquet", "reports/index.html",
)  # fmt: skip
# what is taken away, so that a run has to write there again
LACKING = {
    "data": CHAIN,
    "runs": CHAIN[2:],
    "reports": CHAIN[4:],
    "plan": ("plan/index.json",),
    "logs": CHAIN[2:],
    ".state": CHAIN[1:],
    ".snakemake": CHAIN[2:],
    ".dvc": CHAIN[3:],
}
OF_ENGINES = (".snakemake", ".dvc")
# what is going on, as a pattern of files that then are there
MOMENTS = {
    "preparing": "logs/prepare/*.log",
    "training": ".state/*/*/*/*/seed*/checkpoint-*",
    "reporting": "logs/report/*.log",
}
TELLING = {"telling DVC": ".state/dvc_times.json"}
# folders and files that somebody deletes, of a finished run
DELETED = (
    ".snakemake", ".dvc/cache", ".dvc/tmp", ".state", "logs", "plan", "dvc.lock", "grid.yaml", "data", "data/prepared",
    "runs", f"{CELL}/finetune/models", "reports", "reports/evidence", "reports/figures",
)  # fmt: skip
BETA = ("params/methods/m3col.yaml", "objective", "beta")

Fault = Callable[["Bench"], None]


class Bench:
    """Copies of two checkouts, before anything has run and after an undisturbed run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.template, self.done = folder / "template", folder / "done"
        self.template.mkdir()
        small_checkout(self.template, SUITE)
        settings = self.template / "profiles/default/config.yaml"
        # the small checkout lets Snakemake go by times for what is larger; here it is as it is shipped
        settings.write_text(settings.read_text().replace("max-checksum-file-size: 1KB", "max-checksum-file-size: 1GB"))
        Checkout(self.template).commit("as shipped")
        shutil.copytree(self.template, self.done, symlinks=True)
        Checkout(self.done)(*SNAKEMAKE)
        self.expected = results(Checkout(self.done))

    def _copy(self, of: Path) -> Checkout:
        self.number += 1
        root = self.folder / f"try{self.number}"
        shutil.copytree(of, root, symlinks=True)
        return Checkout(root)

    def fresh(self) -> Checkout:
        """Before anything has run."""
        return self._copy(self.template)

    def finished(self) -> Checkout:
        """After an undisturbed run."""
        return self._copy(self.done)

    def lacking(self, folder: str) -> Checkout:
        """After an undisturbed run, without what makes the next one write in this folder."""
        checkout = self.finished()
        for file in LACKING[folder]:
            (checkout.root / file).unlink()
        return checkout

    def heals(self, checkout: Checkout, *command: str) -> None:
        """The command runs to its end, after `snakemake --unlock` where it asks for that, and all is as it was."""
        command = command or SNAKEMAKE
        told = checkout(*command, ok=False)
        if "--unlock" in told:
            checkout("snakemake", "--unlock")
            told = checkout(*command)
        assert "Traceback" not in told, told
        assert results(checkout) == self.expected, "other results than those of an undisturbed run"
        checkout.assert_both_idle()
        left = [p for p in checkout.root.rglob("*.part") if ".snakemake" not in p.parts]
        assert not left, f"left behind: {left}"


def plainly(checkout: Checkout, text: str, engine: bool = True) -> None:
    """No traceback in the logs of jobs, nor in what a command printed; the engine's own folders are left to it."""
    assert not engine or "Traceback" not in text, text
    for log in (checkout.root / "logs").rglob("*.log"):
        said = log.read_text(errors="replace")
        # a signal in mid-import is Python's own to report
        assert "Traceback" not in said or "KeyboardInterrupt" in said, f"{log}: {said[-800:]}"


def full_disk(bench: Bench, folder: str) -> None:
    """A disk of one page, full, is mounted in a folder's place for as long as a run takes."""
    checkout = bench.lacking(folder)
    command = ["env", *(f"{k}={v}" for k, v in checkout.env.items()), *SNAKEMAKE]
    done, _ = disk.on_a_full_disk(checkout.root / folder, command, cwd=checkout.root)
    plainly(checkout, done.stdout + done.stderr, folder not in OF_ENGINES)
    bench.heals(checkout)


def small_files(bench: Bench, kilobytes: int) -> None:
    """No file may grow larger (`ulimit -f`), as under a quota."""
    checkout = bench.lacking("data")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, resource.RLIM_INFINITY))

    done = subprocess.run(
        SNAKEMAKE, cwd=checkout.root, env=checkout.env, preexec_fn=limit, text=True, capture_output=True, check=False
    )
    plainly(checkout, done.stdout + done.stderr, engine=False)
    bench.heals(checkout)


def read_only(bench: Bench, folder: str) -> None:
    """Nothing may be written in a folder and those below it."""
    checkout = bench.lacking(folder)
    folders = [p for p in (checkout.root / folder, *(checkout.root / folder).rglob("*")) if p.is_dir()]
    with disk.read_only(*folders):
        done = disk.with_ordinary_rights(SNAKEMAKE, cwd=checkout.root, env=checkout.env)
    plainly(checkout, done.stdout + done.stderr, folder not in OF_ENGINES)
    bench.heals(checkout)


def clock(bench: Bench, folder: str, days: int) -> None:
    """All files of a folder are much older or newer than the others; their bytes are the same, and nothing is run."""
    checkout = bench.finished()
    checkout.executed()
    moved = time.time() + days * DAY
    for path in (checkout.root / folder).rglob("*"):
        if path.is_file():
            os.utime(path, (moved, moved))
    bench.heals(checkout)
    # what a stage leaves is older than what it was made of: Snakemake may make that again, to the same bytes
    trained = [c for c in checkout.executed() if c.startswith(("pretrain", "finetune"))]
    assert not trained, f"trained again: {trained}"


def started(checkout: Checkout, *command: str) -> psutil.Popen:
    """A run in a session of its own."""
    with (checkout.root.parent / f"{checkout.root.name}.out").open("ab") as out:
        return psutil.Popen(
            command, cwd=checkout.root, env=checkout.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


def said(checkout: Checkout) -> str:
    return (checkout.root.parent / f"{checkout.root.name}.out").read_text(errors="replace")


def wait_for(checkout: Checkout, run: psutil.Popen, pattern: str) -> None:
    """Until a file of the pattern is there."""
    end = time.monotonic() + LONGEST
    while not list(checkout.root.glob(pattern)):
        assert run.poll() is None, f"ended before {pattern} was there: {said(checkout)}"
        assert time.monotonic() < end, f"{pattern} never came"
        time.sleep(0.005)


def ended(run: psutil.Popen) -> int:
    """Its exit status; nothing of it is left running."""
    try:
        return int(run.wait(LONGEST))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def killed(checkout: Checkout, run: psutil.Popen) -> None:
    """SIGKILL to a run and all that it has started."""
    victims = [run, *run.children(recursive=True)]
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    psutil.wait_procs(victims)


def stopped(bench: Bench, command: tuple[str, ...], pattern: str, number: signal.Signals) -> None:
    """A signal in mid-run: SIGKILL to every process, SIGINT as a terminal sends it to all, SIGTERM to the first."""
    checkout = bench.fresh()
    run = started(checkout, *command)
    wait_for(checkout, run, pattern)
    if number == signal.SIGKILL:
        killed(checkout, run)
    elif number == signal.SIGINT:
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    ended(run)
    bench.heals(checkout, *command)


def two_runs(bench: Bench) -> None:
    """The second is refused in words, the first ends as if alone; a stage by hand is refused while it is trained."""
    checkout = bench.fresh()
    first = started(checkout, *SNAKEMAKE)
    wait_for(checkout, first, MOMENTS["training"])
    second = checkout(*SNAKEMAKE, ok=False)
    assert "cannot be locked" in second, second
    planned = checkout.mmcontrast("plan", ok=False)
    assert "is going on in this folder" in planned, planned
    assert ended(first) == 0, said(checkout)
    bench.heals(checkout)


def two_by_hand(bench: Bench) -> None:
    """Two processes train one cell: one of them is refused, and what the other leaves is whole."""
    checkout = bench.finished()
    words = ("env", "PYTHONPATH=src", "python", "-m", "mmcontrast", "finetune", "synthetic/concat")
    runs = [started(checkout, *words) for _ in range(2)]
    statuses = sorted(ended(run) for run in runs)
    assert statuses in ([0, 1], [0, 0]), said(checkout)  # one may have ended before the other began
    assert statuses == [0, 0] or "another process is training this stage" in said(checkout)
    bench.heals(checkout)


def two_clones(bench: Bench) -> None:
    """Both fill one cache of DVC at a time."""
    pair = [bench.fresh(), bench.fresh()]
    for checkout in pair:
        checkout("dvc", "config", "cache.dir", str(bench.folder / "shared_cache"))
    runs = [started(checkout, *DVC) for checkout in pair]
    for checkout, run in zip(pair, runs, strict=True):
        assert ended(run) == 0, said(checkout)
    for checkout in pair:
        bench.heals(checkout, *DVC)


def switched(bench: Bench, code: bool) -> None:
    """`git checkout` of another commit in mid-run, with other params or other code, and back."""
    checkout = bench.fresh()
    checkout("git", "checkout", "-q", "-b", "other")
    if code:
        file = checkout.root / "src/mmcontrast/methods/m3col/method.py"
        file.write_text(file.read_text() + "ANOTHER_COMMIT = True\n")  # a comment would be no change
    else:
        checkout.edit(*BETA, value=30.0)
    checkout.commit("another commit")
    checkout("git", "checkout", "-q", "main")
    run = started(checkout, *SNAKEMAKE)
    wait_for(checkout, run, "data/prepared/synthetic/datasheet.json")
    checkout("git", "checkout", "-q", "other")
    ended(run)
    plainly(checkout, said(checkout))
    locked = checkout.root / "dvc.lock"
    assert not locked.exists(), "sealed under the params of another commit"
    checkout("git", "checkout", "-q", "main")
    bench.heals(checkout)


def deleted(bench: Bench, name: str) -> None:
    """Somebody deletes it from a finished run. The next run brings back whatever is needed, `dvc checkout` the rest."""
    checkout = bench.finished()
    path = checkout.root / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    checkout.snakemake()
    checkout("dvc", "checkout", "-q")
    bench.heals(checkout)


def lost_checkpoint(bench: Bench, what: str) -> None:
    """After a kill the newest checkpoint lacks a file, or has one of which half is gone."""
    checkout = bench.fresh()
    run = started(checkout, *SNAKEMAKE)
    wait_for(checkout, run, MOMENTS["training"])
    killed(checkout, run)
    newest = sorted(checkout.root.glob(MOMENTS["training"]))[-1]
    for file in newest.glob("*"):
        if what == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    bench.heals(checkout)


def _faults() -> Iterator[tuple[str, Fault]]:
    for folder in LACKING:
        yield f"full disk: {folder}", partial(full_disk, folder=folder)
        yield f"read-only: {folder}", partial(read_only, folder=folder)
    for kilobytes in (1, 8, 64):
        yield f"no file above {kilobytes} kB", partial(small_files, kilobytes=kilobytes)
    for folder in ("src", "params", "data", "plan", "runs", "reports"):
        for days in (-400, 400):
            yield f"clock: {folder} {days:+} days", partial(clock, folder=folder, days=days)
    yield "two runs at once", two_runs
    yield "one cell twice at once", two_by_hand
    yield "two clones on one cache", two_clones
    yield "git checkout of other params", partial(switched, code=False)
    yield "git checkout of other code", partial(switched, code=True)
    for name in DELETED:
        yield f"deleted: {name}", partial(deleted, name=name)
    for what in ("gone", "half"):
        yield f"newest checkpoint {what}", partial(lost_checkpoint, what=what)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        for moment, pattern in (MOMENTS | TELLING).items():
            told = partial(stopped, command=SNAKEMAKE, pattern=pattern, number=number)
            yield f"{number.name} while {moment}", told
    for moment, pattern in MOMENTS.items():
        told = partial(stopped, command=DVC, pattern=pattern, number=signal.SIGKILL)
        yield f"SIGKILL in dvc repro while {moment}", told
    told = partial(stopped, command=DVC, pattern=".state/dvc.json", number=signal.SIGKILL)
    yield "SIGKILL in dvc repro while telling Snakemake", told


FAULTS = dict(_faults())


def run(only: list[str] | None = None, skip: Set[str] = frozenset()) -> Iterator[tuple[str, str]]:
    """Fault after fault, with what came of it. `only`: beginnings of names. `skip`: names that are left out."""
    wanted = {n: f for n, f in FAULTS.items() if n not in skip and (not only or n.startswith(tuple(only)))}
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for name, fault in wanted.items():
            before = time.monotonic()
            try:
                fault(bench)
                verdict = f"survived in {time.monotonic() - before:.0f} s"
            except Exception as e:
                verdict = f"LOST: {type(e).__name__}: {str(e)[-1500:]}"
            except BaseException as e:  # what a test would skip
                if type(e).__name__ != "Skipped":
                    raise
                verdict = f"not tried: {e}"
            yield name, verdict
            for left in Path(folder).glob("try*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def main() -> int:
    """All of them, or those named; 1 if one was not survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="beginnings of names, such as 'clock'")
    tried = survived = 0
    for name, verdict in run(parser.parse_args().only):
        print(f"{name:<48} {verdict}", flush=True)
        tried += not verdict.startswith("not tried")
        survived += verdict.startswith("survived")
    print(f"system faults survived / tried: {survived} / {tried}")
    return int(survived < tried)


if __name__ == "__main__":
    sys.exit(main())

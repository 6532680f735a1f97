"""A small `reproduce`, killed at random moments and started again until it is done, against an undisturbed one.

    python benchmarks/kills.py [--kills 20] [--seed 0]

SIGKILL goes to Snakemake and all its children. Half of the moments are drawn from the length of an undisturbed run; the
others wait for something that is soon over - a download from a slow server, preparation, an epoch, a checkpoint that is
being written, the report - and fall at random into the time after it. What the killed run left is used by the next
one; once a run ends by itself, its results are compared and the next starts from nothing. A kill is survived where the
run that it belongs to ends with the results table of the undisturbed run, to the last bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil

from mmcontrast.config.files import read_yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.data.conftest import WIDTHS, csv, fill, mogonet  # noqa: E402
from tests.pipeline.conftest import EXPERIMENT, SUITE, Checkout, small_checkout  # noqa: E402

RESULTS = ("reports/results.parquet", "reports/intervals.parquet", "reports/metrics.json")
COMMAND = ["snakemake", "--cores", "2", "--latency-wait", "5", "reproduce"]
DATASET = "rosmap"  # its reader, on made-up files of the same layout
ROWS = {"tr": 96, "te": 40}
CELLS = [{"method": "m3col", "label": "M3CoL"}, {"method": "concat", "label": "Concatenation"}]
EPOCHS = 120
DRIP_BYTES, DRIP_SECONDS = 4096, 0.05
# what is waited for, as a pattern of files, and the most seconds after it
MOMENTS = {
    "download": ("cache/tmp/*/*", 0.2),
    "prepare": ("logs/prepare/*.log", 2.0),
    "epoch": (".state/*/*/*/*/seed*/checkpoint-*", 1.0),
    "checkpoint": (".state/*/*/*/*/seed*/.checkpoint-*", 0.0),
    "report": ("logs/report/*.log", 3.0),
}


class Dripping(SimpleHTTPRequestHandler):
    """A slow server."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        with contextlib.suppress(ConnectionError):  # whoever asked was killed
            while part := source.read(DRIP_BYTES):
                outputfile.write(part)
                time.sleep(DRIP_SECONDS)

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder over http; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Dripping, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def published_files() -> dict[str, str]:
    """Three modalities of two overlapping classes."""
    rng = np.random.default_rng(0)
    files = {}
    for part, rows in ROWS.items():
        labels = np.arange(rows) % 2
        files[f"labels_{part}.csv"] = "".join(f"{label:.18e}\n" for label in labels)
        for k, width in enumerate(WIDTHS.values(), start=1):
            files[f"{k}_{part}.csv"] = csv(rng.normal(size=(rows, width)) + 0.5 * labels[:, None])
    for k, (name, width) in enumerate(WIDTHS.items(), start=1):
        files[f"{k}_featname.csv"] = "".join(f"{name}|{j}\n" for j in range(width))
    return files


def make_template(root: Path, mirror: Path) -> None:
    """The checkout before anything has run, and what it will download."""
    files = published_files()
    fill(mirror, files)
    split = {"kind": "published", "train": ROWS["tr"], "val": 0, "test": ROWS["te"]}
    # printed numbers are of metrics that the dataset of this name has
    metrics = read_yaml(ROOT / f"params/datasets/{DATASET}.yaml")["metrics"]
    dataset = mogonet(files, rows=sum(ROWS.values()), split=split, metrics=metrics)
    stage = {"epochs": EPOCHS, "eval_every": 20, "checkpoint_every": 1}
    suite = SUITE | {"datasets": [DATASET], "overrides": SUITE["overrides"] | {"finetune": stage}}
    experiment = EXPERIMENT | {"datasets": [DATASET], "cells": CELLS}
    root.mkdir()
    small_checkout(root, suite, experiment, json.dumps(dataset.model_dump(mode="json", exclude_unset=True)))


def results(checkout: Checkout) -> list[bytes]:
    return [(checkout.root / file).read_bytes() for file in RESULTS]


def doing(checkout: Checkout, words: list[list[str]]) -> str:
    """What a run is about, by its processes' command lines and by what is half-written."""
    for moment in ("download", "checkpoint"):
        if list(checkout.root.glob(MOMENTS[moment][0])):
            return moment
    commands = [w[w.index("mmcontrast") + 1 :] for w in words if "mmcontrast" in w and "sh" not in Path(w[0]).name]
    return (
        " ".join(commands[-1][: 2 if commands[-1][0] in ("data", "report") else 1]) if commands else "Snakemake itself"
    )


def killed(checkout: Checkout, moment: str | None, length: float, rng: random.Random) -> str | None:
    """Kill a run; what it was doing, or None where it had ended by itself."""
    process = psutil.Popen(
        COMMAND, cwd=checkout.root, env=checkout.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait = rng.uniform(0.5, length)
    if moment is not None:
        pattern, longest = MOMENTS[moment]
        wait = rng.uniform(0, longest)
        while not list(checkout.root.glob(pattern)):
            if process.poll() is not None:
                return None
            time.sleep(0.002)
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(wait)
        return None
    victims, words = [process, *process.children(recursive=True)], []
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            words.append(victim.cmdline())
            victim.kill()
    psutil.wait_procs(victims)
    found = doing(checkout, words)
    checkout("snakemake", "--unlock")
    return found


def run(kills: int, seed: int) -> Iterator[tuple[str, bool]]:
    """Kill so many times, and finish: what each fell into, and whether the run that it belongs to ended well."""
    if kills <= 0:
        return
    rng = random.Random(seed)
    plan: list[str | None] = [*(list(MOMENTS) * kills)[: kills // 2], *[None] * (kills - kills // 2)]
    rng.shuffle(plan)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "mirror") as address:
        template = Path(folder) / "template"
        make_template(template, Path(folder) / "mirror")

        def fresh(name: str) -> Checkout:
            checkout = Checkout(Path(folder) / name)
            shutil.rmtree(checkout.root, ignore_errors=True)
            shutil.copytree(template, checkout.root, symlinks=True)
            checkout.env |= {"MMCONTRAST_MIRROR": address, "MMCONTRAST_CACHE": str(checkout.root / "cache")}
            checkout.env |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
            return checkout

        undisturbed, before = fresh("undisturbed"), time.monotonic()
        undisturbed.snakemake()
        length, expected = time.monotonic() - before, results(undisturbed)
        print(f"an undisturbed run: {length:.0f} s; load {os.getloadavg()[0]:.1f}", flush=True)
        while plan:
            checkout, here = fresh("killed"), list[str]()
            while plan:
                found = killed(checkout, plan[-1], length, rng)
                if found is None:
                    break
                plan.pop()
                here.append(found)
            if not here:  # a whole run without this moment: the next would be no other
                yield f"{plan.pop() or 'any moment'}, which did not come", False
            checkout.snakemake()
            same = results(checkout) == expected
            yield from ((found, same) for found in here)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = []
    for moment, same in run(args.kills, args.seed):
        found.append((moment, same))
        print(f"kill {len(found)}: in {moment}: {'survived' if same else 'OTHER RESULTS'}", flush=True)
    survived = sum(same for _, same in found)
    fell = ", ".join(f"{what} {n}" for what, n in Counter(moment for moment, _ in found).most_common())
    print(f"kills survived / tried: {survived} / {len(found)}\nthey fell into: {fell}")
    return int(survived < len(found))


if __name__ == "__main__":
    sys.exit(main())

"""What each training step asks of a device besides computing: copies from the host, and waits for a result.

    python benchmarks/device_counts.py [--cases synthetic/comm/base ...] [--precision bf16] [--places] [--write]

Counted on a pretend device on the CPU (tests/training/pretend_device.py), for small cells of every method. The goal is
at most 2 copies per step, which are the batch, and 1 wait in several steps. `--places` lists the lines that ask most.
`--write` makes the counts the bounds of tests/training/test_pretend_device.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.training import device_runs, resuming  # noqa: E402

BOUNDS = ROOT / "tests" / "training" / "device_counts.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=resuming.CASES, metavar="CASE", help="default: every method")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--places", action="store_true", help="the ten lines of each case that copy or wait most")
    parser.add_argument("--write", action="store_true", help=f"write {BOUNDS.relative_to(ROOT)}")
    args = parser.parse_args()
    counts = json.loads(BOUNDS.read_text()) if BOUNDS.exists() else {}
    print("| cell | copies per step | waits per step |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as root:
        resuming.write_data(Path(root))
        for case in args.cases:
            found = device_runs.on_device(root, case, args.precision)
            counts[case] = {"copies": found["copies"], "syncs": found["syncs"]}
            print(f"| {case} | {found['copies']} | {found['syncs']} |", flush=True)
            for (kind, place), n in Counter(found["places"]).most_common(10) if args.places else ():
                print(f"    {n:5} {kind} {place}")
    if args.write:
        BOUNDS.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

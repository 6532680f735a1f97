"""CoMM's loss from shared blocks beside the released formula written out: time and peak memory on one thread.

    python benchmarks/comm_loss.py [--rows 256 512 1024 2048 4096] [--modalities 2 3] [--width 256] [--repeats 7]

Each line is measured in a process of its own, forward and backward. Time is the median of the repeats; memory is the
highest resident size during them less the resident size before.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time


def released_nt_xent(a, b, tau):
    """The released estimator step by step: four masked logit blocks, two cross-entropies over 2N - 1 others."""
    import torch
    import torch.nn.functional as F

    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    mask = torch.eye(len(a)) * 1e8
    logits_aa, logits_bb, logits_ab = a @ a.T / tau - mask, b @ b.T / tau - mask, a @ b.T / tau
    labels = torch.arange(len(a))
    loss_a = F.cross_entropy(torch.cat([logits_ab, logits_aa], dim=1), labels)
    loss_b = F.cross_entropy(torch.cat([logits_ab.T, logits_bb], dim=1), labels)
    return (loss_a + loss_b) / 2


def released_comm(view1, view2, tau=0.1):
    """Both halves of every term on their own, nothing shared."""
    import torch

    halves = [
        (released_nt_xent(a, view2[-1], tau) + released_nt_xent(b, view1[-1], tau)) / 2
        for a, b in zip(view1, view2, strict=True)
    ]
    return torch.stack(halves).mean()


def measure(form: str, rows: int, modalities: int, width: int, repeats: int) -> dict[str, float]:
    """One line: seconds, peak bytes, and the loss so that the forms can be held against each other."""
    import psutil
    import torch

    from mmcontrast.methods.comm.loss import comm_loss

    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(0)
    k = modalities + 1
    z = [torch.randn(rows, width, generator=g).requires_grad_() for _ in range(2 * k)]
    loss_of = released_comm if form == "written out" else lambda a, b: comm_loss(a, b)
    loss_of([x[:8] for x in z[:k]], [x[:8] for x in z[k:]]).backward()
    before = psutil.Process().memory_info().rss
    seconds = []
    for _ in range(repeats):
        for x in z:
            x.grad = None
        start = time.process_time()
        loss = loss_of(z[:k], z[k:])
        loss.backward()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"seconds": statistics.median(seconds), "bytes": peak, "loss": loss.item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--modalities", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.rows[0], args.modalities[0], args.width, args.repeats)))
        return
    print("| modalities | rows | written out, ms | shared, ms | times faster | written out, MB | shared, MB |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for modalities in args.modalities:
        for rows in args.rows:
            line = {}
            for form in ("written out", "shared"):
                command = [
                    sys.executable,
                    __file__,
                    "--one",
                    form,
                    "--rows",
                    str(rows),
                    "--modalities",
                    str(modalities),
                ]
                command += ["--width", str(args.width), "--repeats", str(args.repeats)]
                env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
                line[form] = json.loads(subprocess.run(command, check=True, capture_output=True, env=env).stdout)
            slow, fast = line["written out"], line["shared"]
            if abs(slow["loss"] - fast["loss"]) > 1e-4 * abs(slow["loss"]):
                raise SystemExit(f"the two forms disagree: {slow['loss']} and {fast['loss']}")
            print(
                f"| {modalities} | {rows} | {1e3 * slow['seconds']:.1f} | {1e3 * fast['seconds']:.1f} "
                f"| {slow['seconds'] / fast['seconds']:.2f} | {slow['bytes'] / 1e6:.0f} | {fast['bytes'] / 1e6:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

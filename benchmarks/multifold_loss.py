"""Time and peak memory of the multifold loss, beside a straightforward SupCon.

    python benchmarks/multifold_loss.py                       # 1,000 to 16,000 rows a side, width 256
    python benchmarks/multifold_loss.py --sizes 1000 2000 --device cuda

Every case runs in a process of its own, forward and backward; memory is the peak over what the process held before.
SupCon pools both modalities, as its released code does, and so works on (P + Q)^2 similarities.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

PER_INSTANCE = 4
GIB = 2**30
# matrices of (rows)^2 float32 numbers that are alive at the peak, measured; to leave out what would not fit
MATRICES = {"multifold": 6, "supcon": 24}


def straightforward_supcon(z_PD: Any, ids_P: Any, tau: float = 0.1) -> Any:
    """SupCon as it is usually written: every mask and every similarity a matrix."""
    import torch

    similarity_PP = z_PD @ z_PD.T / tau
    others_PP = 1 - torch.eye(len(z_PD), device=z_PD.device)
    positives_PP = (ids_P[:, None] == ids_P[None, :]).float() * others_PP
    similarity_PP = similarity_PP - similarity_PP.max(1, keepdim=True).values.detach()
    log_p_PP = similarity_PP - (similarity_PP.exp() * others_PP).sum(1, keepdim=True).log()
    return -((positives_PP * log_p_PP).sum(1) / positives_PP.sum(1)).mean()


def measure(form: str, rows: int, width: int, device: str, repeats: int) -> dict[str, float]:
    """Seconds of the fastest repeat and GiB at the peak, of one forward and backward."""
    import psutil
    import torch
    import torch.nn.functional as F

    from mmcontrast.methods.mxm_clr.loss import multifold_loss

    generator = torch.Generator().manual_seed(0)
    a, b = (F.normalize(torch.randn(rows, width, generator=generator), dim=1).to(device) for _ in "ab")
    ids = (torch.arange(rows) // PER_INSTANCE).to(device)
    a.requires_grad_()
    b.requires_grad_()

    def step(n: int) -> None:
        a.grad = b.grad = None
        if form == "supcon":
            loss = straightforward_supcon(torch.cat([a[:n], b[:n]]), torch.cat([ids[:n], ids[:n]]))
        else:
            loss = multifold_loss(a[:n], b[:n], ids[:n], ids[:n])
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    step(PER_INSTANCE * 8)  # what a first call allocates for good is not the loss's
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = psutil.Process().memory_info().rss
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step(rows)
        seconds.append(time.perf_counter() - start)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": min(seconds), "gib": (peak - before) / GIB}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000, 8000, 16000], help="P = Q")
    parser.add_argument("--forms", nargs="+", choices=list(MATRICES), default=list(MATRICES))
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=2, help="the fastest is shown")
    parser.add_argument("--limit", type=float, default=16, help="GiB; a case that would need more is left out")
    parser.add_argument("--one", nargs=2, metavar=("FORM", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        form, rows = options.one
        result = measure(form, int(rows), options.width, options.device, options.repeats)
        print(json.dumps(result))
        return
    print(f"{'P = Q':>7}  {'form':<9} {'seconds':>9} {'peak GiB':>9}  (D = {options.width}, {options.device})")
    for rows in options.sizes:
        for form in options.forms:
            needed = MATRICES[form] * rows**2 * 4 / GIB
            if needed > options.limit:
                print(
                    f"{rows:>7}  {form:<9} {'-':>9} {'-':>9}  left out: would need about {needed:.0f} GiB", flush=True
                )
                continue
            shared = ["--width", str(options.width), "--device", options.device]
            command = [sys.executable, __file__, "--one", form, str(rows), "--repeats", str(options.repeats), *shared]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            result = json.loads(done.stdout)
            print(f"{rows:>7}  {form:<9} {result['seconds']:>9.3f} {result['gib']:>9.3f}", flush=True)


if __name__ == "__main__":
    main()

"""One part of what benchmarks/gpu.sh does on a GPU; prints Markdown.

    python benchmarks/gpu.py parity|steps|curve [--device cuda] [--tiny]

parity: loss and gradients of every method on the device beside the CPU's, fp32 without TF32, noise drawn on the CPU.
steps: milliseconds per pretraining step and peak memory, in fp32 and bf16.
curve: mean loss of each epoch of a short real run on generated data, beside the same run on the CPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from mmcontrast.config import CellConfig, Engine, Grid  # noqa: E402
from mmcontrast.data.augment import Draws  # noqa: E402
from mmcontrast.data.loading import load_whole  # noqa: E402
from mmcontrast.methods.base import Batch, Progress, SeedJob, build_method  # noqa: E402
from mmcontrast.training.cell import _splits  # noqa: E402
from mmcontrast.training.distributed import StopRequest, World  # noqa: E402
from mmcontrast.training.engine import make_engine  # noqa: E402
from mmcontrast.training.loop import SeedTrainer  # noqa: E402
from tests.training import resuming  # noqa: E402

STEPPED = {"tcga_brca": ["m3col", "comm", "cross"], "trifeature": ["comm", "cross_self", "cross"]}


def batch_of(cell: CellConfig, rows: int, device: torch.device) -> Batch:
    """Random rows of the cell's shapes."""
    g = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randint(256, (rows, *m.shape), generator=g, dtype=torch.uint8)
        if m.kind == "image"
        else torch.rand(rows, *m.shape, generator=g)
        for name, m in cell.modalities.items()
    }
    labels = torch.randint(len(cell.classes), (rows,), generator=g)
    return Batch({name: x.to(device) for name, x in inputs.items()}, labels.to(device))


class DrawnOnCpu(Draws):
    """The same numbers on every device."""

    def __init__(self, generator: torch.Generator, total: int, rows: slice, device: torch.device) -> None:
        super().__init__(generator, total, rows, torch.device("cpu"))
        self.device = device

    def uniform(self, width: int = 1) -> Tensor:
        return torch.rand(self.total, width, generator=self.generator)[self.rows].to(self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.total, *shape, generator=self.generator)[self.rows].to(self.device)


def loss_and_gradients(cell: CellConfig, device: torch.device) -> list[Tensor]:
    """Of one step of the last stage, on the CPU."""
    torch.manual_seed(0)
    method = build_method(cell).to(device)
    for part in method.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # its masks are drawn on the device
    progress = Progress(cell.last_stage, 0, 10, torch.Generator().manual_seed(0))
    with patch("mmcontrast.data.augment.Draws", DrawnOnCpu):
        loss = method(batch_of(cell, 32, device), progress)["loss"]
    loss.backward()
    return [t.detach().cpu() for t in (loss, *(p.grad for p in method.parameters() if p.grad is not None))]


def parity(device: torch.device, tiny: bool) -> bool:
    """Every method of the generated set; whether all agree to 1e-3 of the largest gradient."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print("| method | loss on the CPU | on the device | largest difference of a gradient, of the largest | |")
    print("|---|---:|---:|---:|---|")
    agreed = True
    for case in resuming.CASES[: 3 if tiny else None]:
        dataset, name, variant = case.split("/")
        if dataset != "synthetic" or variant in resuming.SEARCHES:
            continue
        here, there = (loss_and_gradients(resuming.small(case), d) for d in (torch.device("cpu"), device))
        scale = max(float(t.abs().max()) for t in here[1:])
        apart = max(float((a - b).abs().max()) for a, b in zip(here[1:], there[1:], strict=True)) / scale
        good = apart < 1e-3 and bool(torch.isclose(here[0], there[0], rtol=1e-3))
        agreed &= good
        print(
            f"| {name}/{variant} | {here[0]:.6f} | {there[0]:.6f} | {apart:.1e} | {'' if good else 'DIFFERS'} |",
            flush=True,
        )
    return agreed


def steps(device: torch.device, tiny: bool) -> bool:
    """Median of the steps after the first three."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    grid, count = Grid(ROOT), 2 if tiny else 20
    print("| dataset | method | batch | precision | ms per step | peak memory, GiB |\n|---|---|---:|---|---:|---:|")
    for dataset, names in STEPPED.items():
        for name in names[:1] if tiny else names:
            cell = grid.cell(dataset, name)
            stage = cell.pretrain or cell.finetune
            rows = 4 if tiny else min(int(stage.batch_size) if stage.batch_size != "full" else 512, 512)
            for precision in ("fp32", "bf16"):
                engine = Engine(backend="torch", precision=precision)
                torch.manual_seed(0)
                wrapped = make_engine(build_method(cell), stage, count + 3, engine, World(0, 1, device))
                batch, g = batch_of(cell, rows, device), torch.Generator().manual_seed(0)
                progress = Progress(cell.stages[0], 0, stage.epochs, g)
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                seconds = []
                for _ in range(count + 3):
                    wait()
                    start = time.perf_counter()
                    wrapped.step(wrapped.forward(batch, progress)["loss"])
                    wait()
                    seconds.append(time.perf_counter() - start)
                wrapped.close()
                peak = f"{torch.cuda.max_memory_allocated() / 2**30:.2f}" if device.type == "cuda" else "not measured"
                median = 1e3 * statistics.median(seconds[3:])
                print(f"| {dataset} | {name} | {rows} | {precision} | {median:.1f} | {peak} |", flush=True)
    return True


def curve(device: torch.device, tiny: bool) -> bool:
    """M3CoL on the generated set; whether the last epoch's losses agree to 5 %."""
    cell = resuming.small("synthetic/m3col/base")
    stage = cell.last_stage
    longer = getattr(cell, stage).model_copy(update={"epochs": 2 if tiny else 20})
    cell = cell.model_copy(update={stage: longer})
    found = []
    with tempfile.TemporaryDirectory() as root:
        resuming.write_data(Path(root))
        os.chdir(root)
        tables, _ = _splits(cell, load_whole(cell, Path(".")))(cell.seeds[0])
        for name, on in (("cpu", torch.device("cpu")), ("device", device)):
            job = SeedJob(stage, cell.seeds[0], World(0, 1, on), Path(name), "a fingerprint", StopRequest())
            history = SeedTrainer(cell, job, {s: replace(t) for s, t in tables.items()}).train().history
            found.append([value for _, term, value in history if term == "train/loss"])
        os.chdir(ROOT)
    print("| epoch | loss on the CPU | on the device |\n|---:|---:|---:|")
    for epoch, (here, there) in enumerate(zip(*found, strict=True)):
        print(f"| {epoch} | {here:.5f} | {there:.5f} |")
    here, there = found[0][-1], found[1][-1]
    return abs(here - there) <= 0.05 * abs(here)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["parity", "steps", "curve"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes for a dry run on a CPU")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} finds no CUDA device here; `--device cpu --tiny` is a dry run")
    return 0 if {"parity": parity, "steps": steps, "curve": curve}[args.part](device, args.tiny) else 1


if __name__ == "__main__":
    sys.exit(main())

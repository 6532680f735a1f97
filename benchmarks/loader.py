"""How fast pictures come out of JPEG bytes, how much of a step they take, and what memory reading a set takes.

    python benchmarks/loader.py [--pictures 4000] [--size 224] [--workers 0 2] [--rounds 5] [--steps 12]
    pip install webdataset datasets     # opponents; without them they are shown as not installed

A set of generated JPEG files of about 16 kB is read in batches of 64 in a random order, by this project's loader and by
others: torch's DataLoader over files in a folder, webdataset over tar files, `datasets` over the same Parquet. All give
uint8 tensors and decode with Pillow. They take turns, and the first batch of each pool is not counted, which pays for
the start of its processes. Shown: the median over the rounds of instances per second; and of a step of a small
convolutional network in float32, the share of the time that is not forward, backward or optimizer. A busy machine
disturbs both: run it alone.

Memory is RssAnon, the most in one epoch of a process of its own, of sets of one and of four times the size.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmcontrast import paths
from mmcontrast.config import Modality
from mmcontrast.data.inputs import Decoders
from mmcontrast.data.loading import load_split
from mmcontrast.data.parquet import seal
from mmcontrast.data.table import schema
from mmcontrast.training.batching import RowFeed
from mmcontrast.training.distributed import World

BATCH = 64
CPU = World(0, 1, torch.device("cpu"))
# an epoch of batches, endlessly: (b, 3, size, size) uint8
Batches = Iterator[Tensor]


def jpeg(rng: np.random.Generator, size: int) -> bytes:
    """Noise that is smooth over a few pixels, as photographs are, so that the file has a photograph's size."""
    coarse = Image.fromarray(rng.integers(0, 256, (size // 6, size // 6, 3), dtype=np.uint8))
    out = io.BytesIO()
    coarse.resize((size, size), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def write_set(root: Path, n: int, size: int) -> None:
    """The same pictures as a prepared split, as files, and as tar files."""
    picture = Modality(kind="image", shape=[3, size, size], encoded=True)
    layout = schema("pictures", "train", {"image": picture}, ["no", "yes"], "none", {})
    path, files, tars = root / paths.prepared("pictures", "train"), root / "files", root / "tars"
    for folder in (path.parent, files, tars):
        folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, layout, compression="zstd", use_dictionary=False) as writer:
        for start in range(0, n, 500):
            rows = range(start, min(n, start + 500))
            content = {f"{i:07d}": jpeg(rng, size) for i in rows}
            labels = pa.array([i % 2 for i in rows], pa.int64())
            writer.write_table(pa.table({"id": list(content), "label": labels, "image": [*content.values()]}, layout))
            with tarfile.open(tars / f"{start:07d}.tar", "w") as tar:
                for name, data in content.items():
                    (files / f"{name}.jpg").write_bytes(data)
                    member = tarfile.TarInfo(f"{name}.jpg")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    seal(path)


def pixels(data: bytes) -> Tensor:
    with Image.open(io.BytesIO(data)) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy())


class Files(Dataset[Tensor]):
    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> Tensor:
        return pixels(self.files[row].read_bytes())


def ours(root: Path, workers: int) -> Batches:
    table = load_split(root / paths.prepared("pictures", "train"), root / paths.mapped("pictures", "train"))
    if not workers:
        yield from _epochs(RowFeed(table, BATCH, CPU))
        return
    with closing(Decoders(workers, pin=False)) as decoders:
        yield from _epochs(RowFeed(replace(table, decoders=decoders), BATCH, CPU))


def _epochs(feed: RowFeed) -> Batches:
    epoch = 0
    while True:
        for batch, _ in feed.epoch(epoch, torch.Generator().manual_seed(epoch)):
            yield batch.inputs["image"]
        epoch += 1


def _again(loader: DataLoader[Tensor]) -> Batches:
    while True:
        yield from loader


def torch_files(root: Path, workers: int) -> Batches:
    files = Files(root / "files")
    return _again(DataLoader(files, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0))


def webdataset_tars(root: Path, workers: int) -> Batches:
    import webdataset

    tars = [str(path) for path in sorted((root / "tars").iterdir())]
    found = webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(500).to_tuple("jpg")
    decoded = found.map_tuple(pixels).map(lambda one: one[0]).batched(BATCH, collation_fn=torch.stack)
    return _again(DataLoader(decoded, batch_size=None, num_workers=workers, persistent_workers=workers > 0))


def datasets_parquet(root: Path, workers: int) -> Batches:
    import datasets

    file = str(root / paths.prepared("pictures", "train"))
    found = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(root / "cache"))
    found = found.select_columns(["image"])

    def stacked(rows: list[dict[str, bytes]]) -> Tensor:
        return torch.stack([pixels(row["image"]) for row in rows])

    return _again(
        DataLoader(found, BATCH, True, num_workers=workers, collate_fn=stacked, persistent_workers=workers > 0)
    )


LOADERS: dict[str, Callable[[Path, int], Batches]] = {
    "mmcontrast": ours,
    "torch, files": torch_files,
    "webdataset, tar files": webdataset_tars,
    "datasets, Parquet": datasets_parquet,
}


class Training:
    """A step on a batch: how long it was waited for, and how long it took."""

    def __init__(self) -> None:
        layers = [nn.Conv2d(3, 16, 7, 4), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 2))
        self.optimizer = torch.optim.Adam(self.net.parameters())

    def step(self, batches: Batches) -> tuple[float, float]:
        start = time.perf_counter()
        x = next(batches)
        waited = time.perf_counter() - start
        self.optimizer.zero_grad()
        self.net(x.float() / 255).square().mean().backward()
        self.optimizer.step()
        return waited, time.perf_counter() - start


def compare(root: Path, workers: int, rounds: int, steps: int) -> Iterator[tuple[str, float, float]]:
    """(loader, instances per second, share of a step spent outside learning); nan where it is not installed."""
    found: dict[str, Batches] = {}
    for name, make in LOADERS.items():
        try:
            found[name] = make(root, workers)
            next(found[name])
        except ImportError:
            found.pop(name, None)
            yield name, float("nan"), float("nan")
    speeds: dict[str, list[float]] = {name: [] for name in found}
    shares: dict[str, list[float]] = {name: [] for name in found}
    training = Training()
    for _ in range(rounds):
        for name, batches in found.items():
            start = time.perf_counter()
            read = sum(len(next(batches)) for _ in range(steps))
            speeds[name].append(read / (time.perf_counter() - start))
            waited, whole = map(sum, zip(*(training.step(batches) for _ in range(steps)), strict=True))
            shares[name].append(waited / whole)
    for name in found:
        yield name, statistics.median(speeds[name]), statistics.median(shares[name])
    found.clear()


def anonymous() -> float:
    """MiB that are of this process alone and of no file."""
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split("RssAnon:")[1].split()[0]) / 1024


def most_memory(root: Path) -> float:
    """In one epoch of a process without workers."""
    batches, most = ours(root, 0), 0.0
    for _ in range(pq.read_metadata(root / paths.prepared("pictures", "train")).num_rows // BATCH):
        next(batches)
        most = max(most, anonymous())
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(most_memory(args.memory_of))
        return
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large", Path(folder) / "small"
        write_set(large, args.pictures, args.size)
        write_set(small, args.pictures // 4, args.size)
        print("| loader | workers | instances per second | of a step outside learning |")
        print("|---|---:|---:|---:|")
        for workers in args.workers:
            for name, speed, share in compare(large, workers, args.rounds, args.steps):
                numbers = "not installed | |" if speed != speed else f"{speed:.0f} | {100 * share:.0f} % |"
                print(f"| {name} | {workers} | {numbers}", flush=True)
        print("\n| set, MiB of JPEG | most RssAnon, MiB |\n|---:|---:|")
        for root in (small, large):
            size = sum(file.stat().st_size for file in (root / "files").iterdir()) / 2**20
            command = [sys.executable, __file__, "--memory-of", str(root)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"| {size:.0f} | {float(out):.0f} |", flush=True)


if __name__ == "__main__":
    main()

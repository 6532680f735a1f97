"""Train on a set several times larger than the memory this process may have; say how much it took.

    python -m tests.training.bounded_memory FOLDER MIB_OF_DATA MIB_ALLOWED

The limit is RLIMIT_DATA, above what the process has after it has trained on a small set: a map would count towards
RLIMIT_AS, and pages of files towards the resident size, so that what is counted is RssAnon. Printed are the steps, MiB
after a quarter of them, the most MiB from then on, and whether half of the data would have been too much.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmcontrast import paths
from mmcontrast.config import CellConfig, Engine, Modality, Selection
from mmcontrast.data.parquet import seal
from mmcontrast.data.scaling import write_fitted
from mmcontrast.data.table import schema
from mmcontrast.methods.base import Method
from mmcontrast.paths import Layout
from mmcontrast.training.cell import run_stage
from tests.grids import grid_of

MIB = 1024**2
WIDTH = 2048
MODALITIES = {m: Modality(kind="vector", shape=[WIDTH]) for m in ("a", "b")}


def write_file(path: Path, n: int) -> None:
    layout = schema("large", path.stem, MODALITIES, ["no", "yes"], "none", {m: ["x"] * WIDTH for m in MODALITIES})
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(n)
    with pq.ParquetWriter(path, layout, compression="zstd", use_dictionary=False) as writer:
        for start in range(0, n, 1024):
            rows = range(start, min(n, start + 1024))
            cells = {
                m: pa.FixedSizeListArray.from_arrays(
                    pa.array(rng.normal(size=len(rows) * WIDTH).astype(np.float32)), type=layout.field(m).type
                )
                for m in MODALITIES
            }
            ids, labels = [f"{path.stem}-{i}" for i in rows], pa.array([i % 2 for i in rows], pa.int64())
            writer.write_table(pa.table({"id": ids, "label": labels, **cells}, layout))
    seal(path)


def write_set(name: str, size: int) -> CellConfig:
    """A set of so many bytes, and the cell that trains on it."""
    rows = size // (4 * WIDTH * len(MODALITIES))
    for split, n in {"train": rows - 400, "val": 0, "test": 400}.items():
        write_file(Path(paths.prepared(name, split)), n)
    write_fitted(Path(paths.datasheet(name)).parent, {}, {})
    cell = grid_of().cell("synthetic", "concat")
    assert cell.finetune is not None
    small = {"epochs": 2, "batch_size": 128, "eval_every": 1, "checkpoint_every": 1}
    return cell.model_copy(
        update={
            "dataset": name,
            "modalities": MODALITIES,
            "classes": ["no", "yes"],
            "model": cell.model.model_copy(update={"width": 8, "encoder_hidden": []}),
            "finetune": cell.finetune.model_copy(update=small),
            "selection": Selection(holdout=0.1),
            "seeds": [0, 1],
            "engine": Engine(backend="torch"),
        }
    )


def anonymous() -> int:
    """Bytes that are of this process alone and of no file."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def data_size() -> int:
    """What RLIMIT_DATA counts."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmData:")[1].split()[0])


def refuses(size: int) -> bool:
    """Is so much memory more than the process may have?"""
    try:
        np.ones(size, np.uint8)
    except MemoryError:
        return True
    return False


def main() -> None:
    os.chdir(sys.argv[1])
    size, allowed = int(sys.argv[2]) * MIB, int(sys.argv[3]) * MIB
    warm, large = write_set("warm", 24 * MIB), write_set("large", size)
    seen: list[int] = []
    original: Any = Method.forward

    def forward(self: Method, *args: Any) -> Any:
        seen.append(anonymous())
        return original(self, *args)

    with patch.object(Method, "forward", forward), patch("mmcontrast.data.loading.MAPPED_FROM", 4 * MIB):
        run_stage(warm, "finetune", Layout("tests"))  # loads what is loaded when it is first used
        seen.clear()
        resource.setrlimit(resource.RLIMIT_DATA, (data_size() + allowed, -1))
        run_stage(large, "finetune", Layout("tests"))
    quarter = len(seen) // 4
    print(len(seen), seen[quarter] // MIB, max(seen[quarter:]) // MIB, int(refuses(size // 2)))


if __name__ == "__main__":
    main()

"""Small files that ask for a lot of memory or time, and a process that reads them with little of either.

python -m tests.hostile.bombs FOLDER        reads the bombs that `write` put there; prints a line of JSON each
"""

from __future__ import annotations

import json
import resource
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

SPARE_BYTES = 256 * 1024**2
CPU_SECONDS = 120
LARGE = 192 * 1024**2
CHUNK = bytes(1024**2)


def _matlab(path: Path) -> None:
    packer = zlib.compressobj()
    packed = b"".join([*(packer.compress(CHUNK) for _ in range(LARGE // len(CHUNK))), packer.flush()])
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(head + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed)


def _parquet_texts(path: Path) -> None:
    """A text of a megabyte, 100,000 times."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    coded = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 1024**2]))
    pq.write_table(pa.table({"id": coded}), path, store_schema=False, compression="zstd")


def _parquet_numbers(path: Path) -> None:
    """One number, 60 million times."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    layout = pa.schema([pa.field("value", pa.float64())])
    with pq.ParquetWriter(path, layout, compression="zstd") as writer:
        for _ in range(60):
            writer.write_table(pa.table({"value": pa.array([1.5]).take(pa.array([0] * 1_000_000))}), 1_000_000)


def _yaml(path: Path) -> None:
    path.write_bytes(b"a: " + b"[" * 250_000)


def _laughs(path: Path) -> None:
    lines = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}' if i else 'x'] * 9)}]" for i in range(30)]
    path.write_text("\n".join(lines))


def _pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x04" + b"Nr\xff\xff\xff\x7f0" * 10 + b"}K\x01" + b"2\x86" * 100 + b"K\x01s.")


BOMBS: dict[str, Callable[[Path], None]] = {
    "element.mat": _matlab,
    "texts.parquet": _parquet_texts,
    "numbers.parquet": _parquet_numbers,
    "nested.yaml": _yaml,
    "laughs.yaml": _laughs,
    "nested.json": lambda p: _ignore(p.write_bytes(b"[" * 40_000_000)),
    "commas.csv": lambda p: _ignore(p.write_bytes(b"," * 40_000_000)),
    "memo.pkl": _pickle,
}


def _ignore(_: Any) -> None:
    pass


def write(folder: Path) -> dict[str, int]:
    """Every bomb, and its size on the disk."""
    for name, make in BOMBS.items():
        make(folder / name)
    return {name: (folder / name).stat().st_size for name in BOMBS}


def readers() -> dict[str, Callable[[Path, Path], Any]]:
    from mmcontrast.config import read_yaml
    from mmcontrast.data.files import told_json
    from mmcontrast.data.parquet import read_parquet
    from mmcontrast.data.prepare.matlab import read_mat
    from mmcontrast.data.prepare.readers import read_sheet
    from mmcontrast.data.unpickle import read_pickle

    return {
        ".mat": lambda p, out: read_mat(p),
        ".parquet": lambda p, out: read_parquet(p, "train again"),
        ".yaml": lambda p, out: read_yaml(p),
        ".json": lambda p, out: told_json(p, "a cost record", "run `mmcontrast evaluate`"),
        ".csv": lambda p, out: read_sheet(p, header=True),
        ".pkl": lambda p, out: read_pickle(p),
    }


def resident(what: str) -> int:
    """Bytes in memory: VmRSS now, VmHWM at most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024


def read_all(folder: Path) -> None:
    """Read each with SPARE_BYTES of address space more than the imports took, and print what became of it."""
    from mmcontrast.errors import MMContrastError

    by_suffix = readers()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_SECONDS, used + CPU_SECONDS))
    for name in BOMBS:
        # the peak that getrusage knows is older than this process: it is taken over from whoever started it
        Path("/proc/self/clear_refs").write_text("5")
        before, start = resident("VmRSS"), time.process_time()
        try:
            by_suffix[Path(name).suffix](folder / name, folder / "out")
            verdict = "accepted"
        except MMContrastError as e:
            verdict = "refused" if name in str(e) else f"the error does not name the file: {e}"
        except BaseException as e:
            verdict = f"{type(e).__name__}: {e}"
        grown = resident("VmHWM") - before
        seconds = time.process_time() - start
        print(json.dumps({"name": name, "verdict": verdict, "grown": grown, "seconds": round(seconds, 2)}), flush=True)


if __name__ == "__main__":
    read_all(Path(sys.argv[1]))

"""One flipped bit in anything that a later stage reads is refused, or leaves every value as it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmcontrast
from mmcontrast.data.files import check_prepared, read_json
from mmcontrast.data.parquet import read_parquet
from mmcontrast.errors import MMContrastError
from mmcontrast.pipeline.plan import carried_out
from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.slow


def table(path: Path) -> pa.Table:
    return read_parquet(path, "make it again")


def split(path: Path) -> pa.Table:
    check_prepared(path)
    return table(path)


def model(path: Path) -> tuple[Any, Any]:
    trained = mmcontrast.load(path.parent / "seed1.safetensors" if path.suffix == ".json" else path)
    method = trained.method
    return method.cell.model_dump(), {name: w.tolist() for name, w in method.state_dict().items()}


KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "plan of a cell": ("plan/cells/synthetic/*/*/*.json", carried_out),
    "plan of data": ("plan/data/synthetic.prepare.json", carried_out),
    "plan of the report": ("plan/report/*.json", carried_out),
    "prepared split": ("data/prepared/synthetic/*.parquet", split),
    "datasheet": ("data/prepared/synthetic/datasheet.json", read_json),
    "fitted": ("data/prepared/synthetic/fitted.json", read_json),
    "history": ("runs/synthetic/*/*/*/history.parquet", table),
    "predictions": ("runs/synthetic/*/*/*/predictions.parquet", table),
    "embeddings": ("runs/synthetic/*/*/*/embeddings.parquet", table),
    "cost": ("runs/synthetic/*/*/*/cost.json", read_json),
    "weights": ("runs/synthetic/*/*/*/models/*.safetensors", model),
    "what belongs to weights": ("runs/synthetic/*/*/*/models/*.json", model),
    "scores": ("runs/synthetic/*/*/*.parquet", table),
    "results": ("reports/*.parquet", table),
    "evidence": ("reports/evidence/*.parquet", table),
}


@pytest.mark.parametrize(
    "flips", [pytest.param(40, id="quick"), pytest.param(200, marks=pytest.mark.exhaustive, id="fine")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_changes_no_value(finished: Checkout, kind: str, flips: int) -> None:
    pattern, read = KINDS[kind]
    files = sorted(finished.root.glob(pattern))
    assert files
    draw, refused = random.Random(0), 0
    with contextlib.chdir(finished.root):
        for file in files:
            content, kept = file.read_bytes(), file.with_name(f"kept-{file.name}")
            before = read(file)
            file.rename(kept)  # DVC's cache may hold the same file under another name
            try:
                for _ in range(-(-flips // len(files))):
                    at = draw.randrange(8 * len(content))
                    flipped = bytearray(content)
                    flipped[at // 8] ^= 1 << at % 8
                    file.write_bytes(flipped)
                    try:
                        after = read(file)
                    except (MMContrastError, ValueError):
                        refused += 1
                    else:
                        # a flip in the name of the seal leaves a key that nobody asks for
                        after = {key: after[key] for key in before} if isinstance(before, dict) else after
                        assert after == before, f"{file}: bit {at} changes a value, and nobody is told"
            finally:
                file.unlink(missing_ok=True)
                kept.rename(file)
    assert refused > flips // 2

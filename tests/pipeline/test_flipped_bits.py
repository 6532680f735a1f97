"""One flipped bit in anything that a later stage reads is refused, or leaves every value as it was."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

import mmcontrast
from mmcontrast.data.files import check_prepared, read_json
from mmcontrast.data.parquet import read_parquet
from mmcontrast.errors import MMContrastError, TrainingError
from mmcontrast.pipeline.plan import carried_out
from mmcontrast.training import checkpoint
from mmcontrast.training.distributed import World
from tests.hostile import raw_files
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


WHOLE = World(0, 1, torch.device("cpu"))
STATE = "build/flipped_state"


def fetched(path: Path) -> Any:
    names, values = raw_files.read_csv(raw_files.verified(path.parent / "x.csv"), path)
    return names, values.tolist()


def state(path: Path) -> Any:
    """What training would go on from; passing a checkpoint over is to refuse it."""
    payload = checkpoint.load_latest(Path(STATE), "fingerprint", WHOLE)
    if payload is None:
        raise TrainingError("passed over")
    kept = checkpoint.EpochTensors(Path(STATE), payload["kept"])
    return payload["weights"].tolist(), payload["step"], {key: tensor.tolist() for key, tensor in kept.items()}


def write_others(root: Path) -> None:
    """What a finished run does not have: a fetched file with its manifest, and a checkpoint."""
    raw_dir = root / "data/raw/toy"
    raw_dir.mkdir(parents=True)
    raw_files.write_raw(raw_dir / "x.csv", raw_files.CSV.encode())
    kept = checkpoint.EpochTensors(root / STATE)
    kept[1, "val"] = torch.arange(8.0)
    (root / STATE).mkdir(parents=True)
    kept.write()
    payload = {"weights": torch.linspace(0, 1, 50), "step": 7, "kept": kept.files}
    checkpoint.save(root / STATE, 7, payload, "fingerprint", WHOLE, kept.sums())


KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "plan of a cell": ("plan/cells/synthetic/*/*/*.json", carried_out),
    "plan of data": ("plan/data/synthetic.prepare.json", carried_out),
    "plan of the report": ("plan/report/*.json", carried_out),
    "fetched file": ("data/raw/toy/*", fetched),
    "prepared split": ("data/prepared/synthetic/*.parquet", split),
    "datasheet": ("data/prepared/synthetic/datasheet.json", read_json),
    "fitted": ("data/prepared/synthetic/fitted.json", read_json),
    "checkpoint": (f"{STATE}/**/*.*", state),
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


def flipped(root: Path, kind: str, flips: int) -> Iterator[tuple[str, str]]:
    """So many flips over all files of a kind below `root`, the working directory: the bit, and what came of it.

    Each is `refused`, `unchanged` or `OTHER VALUES`.
    """
    pattern, read = KINDS[kind]
    files = sorted(file for file in root.glob(pattern) if file.is_file())
    draw = random.Random(0)
    for file in files:
        content, kept = file.read_bytes(), file.with_name(f"kept-{file.name}")
        before = read(file)
        file.rename(kept)  # DVC's cache may hold the same file under another name
        try:
            for _ in range(-(-flips // len(files))):
                at = draw.randrange(8 * len(content))
                other = bytearray(content)
                other[at // 8] ^= 1 << at % 8
                file.write_bytes(other)
                try:
                    after = read(file)
                except (MMContrastError, ValueError):
                    verdict = "refused"
                else:
                    # a flip in the name of the seal leaves a key that nobody asks for
                    after = {key: after[key] for key in before} if isinstance(before, dict) else after
                    verdict = "unchanged" if after == before else "OTHER VALUES"
                yield f"{file.relative_to(root)}: bit {at}", verdict
        finally:
            file.unlink(missing_ok=True)
            kept.rename(file)


@pytest.fixture(scope="module")
def with_others(finished: Checkout) -> Checkout:
    write_others(finished.root)
    return finished


@pytest.mark.parametrize(
    "flips", [pytest.param(40, id="quick"), pytest.param(200, marks=pytest.mark.exhaustive, id="fine")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_changes_no_value(
    with_others: Checkout, kind: str, flips: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)  # of each checkpoint that is passed over there is a warning
    with contextlib.chdir(with_others.root):
        verdicts = dict(flipped(with_others.root, kind, flips))
    assert not [bit for bit, verdict in verdicts.items() if verdict == "OTHER VALUES"]
    assert list(verdicts.values()).count("refused") > flips // 2

"""Phone and watch from small files of the released layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcontrast.config import Dataset
from mmcontrast.data.prepare.sp_sw_har import stream
from mmcontrast.errors import ConfigError, DataError
from tests.grids import grid_of

AXES = ("x_acc", "y_acc", "z_acc", "x_gyro", "y_gyro", "z_gyro")
CLASSES = ["SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN"]
FACTS = {"s01_01": "back_inv", "s02_01": "front", "s03_01": "back"}


def device(path: Path, first: int, last: int, period: float, turn: int = 2855) -> None:
    """A file of values linear in time, which are known at any time so; walking until `turn` ms, then turning."""
    times = np.arange(first, last + 1, period)
    lines = [",".join((*AXES, "timestamp", "label"))]
    for t in times:
        values = [f"{(k + 1) * t / 1000:.9f}" for k in range(6)]
        lines.append(",".join((*values, f"{int(t)}", "WALKING" if t < turn else "TURNING")))
    lines.insert(2, lines[1])  # a sample that stands twice, as some do
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for execution in FACTS:
        where = tmp_path / "DATA" / execution[:3]
        device(where / f"{execution}_sp.csv", 0, 6000, 20)
        device(where / f"{execution}_sw.csv", 105, 6100, 5)
    info = "".join(f"{execution},{way},l,r\n" for execution, way in FACTS.items())
    (tmp_path / "DATA/executions_info.csv").write_text(f"execution_id,orientation,first_turn,second_turn\n{info}")
    return tmp_path


def dataset(small: Any, **prepare: Any) -> Dataset:
    sensor = {"kind": "sequence", "shape": [100, 3]}
    return Dataset.model_validate(
        small.common(
            generate={"seed": 0},
            modalities=dict.fromkeys(("phone_acc", "phone_gyro", "watch_acc", "watch_gyro"), sensor),
            classes=CLASSES,
            tasks={"facing": ["front", "back"], "inverted": ["no", "yes"]},
            rows=60,
            split={"kind": "published", "train": 20, "val": 20, "test": 20},
            scaling="none",
            scenes="execution",
            prepare={"val": ["s02"], "test": ["s03"]} | prepare,
        )
    )


def test_both_devices_are_read_at_the_same_times(raw: Path, small: Any) -> None:
    first = next(iter(stream("har", dataset(small), raw).instances))
    assert {m: x.shape for m, x in first.values.items()} == dict.fromkeys(first.values, (100, 3))
    # from when both devices have begun
    at = 0.105 + np.arange(100) / 100
    for sensor, k in (("acc", 0), ("gyro", 3)):
        expected = np.stack([(k + axis + 1) * at for axis in range(3)], axis=1)
        for name in ("phone", "watch"):
            np.testing.assert_allclose(first.values[f"{name}_{sensor}"], expected, atol=1e-9)


def test_windows_overlap_keep_their_execution_and_have_one_label(raw: Path, small: Any) -> None:
    made = stream("har", dataset(small), raw)
    found = list(made.instances)
    # 590 times, so that windows start at 0, 25 .. 475; one that begins at 225 is half walking, half turning
    of_one = [one for one in found if one.group == "s01_01"]
    starts = [int(one.id.rsplit("_", 1)[1]) for one in of_one]
    assert starts == [start for start in range(0, 490, 25) if start != 225]
    assert [one.label for one in of_one] == [2 if start < 225 else 3 for start in starts]
    assert made.report == {"windows of no label": 3}
    splits = {one.group: one.split for one in found}
    assert splits == {"s01_01": "train", "s02_01": "val", "s03_01": "test"}
    ways = {one.group: tuple(one.tasks.values()) for one in found}
    assert ways == {"s01_01": (1, 1), "s02_01": (0, 0), "s03_01": (1, 0)}
    assert made.split_rule == "by subject: val s02, test s03"


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        ({"test": ["s03", "s09"]}, DataError, r"prepare: no subject 's09'; subjects are s01, s02, s03"),
        ({"rate": 50, "every": 0.25}, ConfigError, r"every: 0\.25 s is no whole number of times at 50 per second"),
        ({"share": 0.5}, ConfigError, r"prepare\.share: .*greater than 0\.5"),
        ({"val": []}, ConfigError, r"prepare\.val: .*at least 1"),
    ],
)
def test_refusals(raw: Path, small: Any, prepare: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        list(stream("har", dataset(small, **prepare), raw).instances)


def test_the_datasets_file_says_what_the_archive_holds() -> None:
    known = grid_of().datasets["sp_sw_har"]
    source = known.sources[0]
    assert source.kind == "archive"
    executions = {Path(name).name[:6] for name in source.members if name.endswith("_sp.csv")}
    assert executions == {Path(name).name[:6] for name in source.members if name.endswith("_sw.csv")}
    assert len(executions) == 223
    assert {*known.prepare["val"], *known.prepare["test"]} < {e[:3] for e in executions}

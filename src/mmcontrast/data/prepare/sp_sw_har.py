"""Phone and watch of a person who sits, stands up, walks, turns and sits down: windows of four sensors.

Both devices give acceleration (m/s^2) and angular speed (rad/s) with the times and labels of their samples. They are
read at the same times, linear between samples; a window has the label that most samples of both devices have.

T times of an execution, W windows, S times of a window.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.errors import DataError

DEVICES = {"phone": "sp", "watch": "sw"}
SENSORS = {"acc": ["x_acc", "y_acc", "z_acc"], "gyro": ["x_gyro", "y_gyro", "z_gyro"]}
Subjects = Annotated[list[str], Field(min_length=1)]


class Options(Strict):
    """`prepare` of the dataset."""

    rate: int = Field(default=100, gt=0, description="Times per second that both devices are read at.")
    seconds: float = Field(default=1.0, gt=0, description="Length of a window.")
    every: float = Field(default=0.25, gt=0, description="Seconds from the start of a window to that of the next.")
    share: float = Field(default=0.6, gt=0.5, le=1, description="Samples of a window that must have its label.")
    val: Subjects
    test: Subjects

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        for key in ("seconds", "every"):
            if (getattr(self, key) * self.rate) % 1:
                raise ValueError(f"{key}: {getattr(self, key)} s is no whole number of times at {self.rate} per second")
        return self


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """Windows of all executions, of the subjects that `prepare` names in val and test, and of all others in train."""
    where = f"params/datasets/{name}.yaml"
    options = validate(Options, dataset.prepare, where, prefix="prepare")
    executions = pl.read_csv(raw_dir / "DATA/executions_info.csv")
    subjects = {one[:3] for one in executions["execution_id"]}
    if unknown := sorted({*options.val, *options.test} - subjects):
        raise DataError(f"{where}: prepare: no subject '{unknown[0]}'; subjects are {', '.join(sorted(subjects))}")
    report = {"windows of no label": 0}
    instances = _windows(dataset, options, raw_dir, executions, report)
    features = {f"{device}_{sensor}": axes for device in DEVICES for sensor, axes in SENSORS.items()}
    rule = f"by subject: val {', '.join(options.val)}, test {', '.join(options.test)}"
    return Stream(instances, features, report, split_rule=rule)


def _windows(
    dataset: Dataset, options: Options, raw_dir: Path, executions: pl.DataFrame, report: dict[str, int]
) -> Iterator[Instance]:
    splits = dict.fromkeys(options.val, "val") | dict.fromkeys(options.test, "test")
    for execution, way in executions.select("execution_id", "orientation").iter_rows():
        subject = execution[:3]
        values, label_DT = _read(raw_dir / "DATA" / subject / execution, options.rate, dataset.classes)
        length, step = round(options.seconds * options.rate), round(options.every * options.rate)
        for start in range(0, label_DT.shape[1] - length + 1, step):
            counts = np.bincount(label_DT[:, start : start + length].ravel())
            if counts.max() < options.share * counts.sum():
                report["windows of no label"] += 1
                continue
            yield Instance(
                f"{execution}_{start}",
                {modality: of_Td[start : start + length] for modality, of_Td in values.items()},
                int(counts.argmax()),
                splits.get(subject, "train"),
                {"facing": int(way.startswith("back")), "inverted": int(way.endswith("_inv"))},
                group=execution,
            )


def _read(stem: Path, rate: int, classes: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Modality -> (T, 3) and the (devices, T) labels of the nearest samples, at the times that both devices have."""
    files = [stem.with_name(f"{stem.name}_{device}.csv") for device in DEVICES.values()]
    frames = [pl.read_csv(file).unique("timestamp", keep="first", maintain_order=True) for file in files]
    times = [frame["timestamp"].to_numpy() for frame in frames]
    at_T = np.arange(max(t[0] for t in times), min(t[-1] for t in times) + 1, 1000 / rate)
    values, labels = {}, []
    for device, frame, t in zip(DEVICES, frames, times, strict=True):
        for sensor, axes in SENSORS.items():
            values[f"{device}_{sensor}"] = np.stack([np.interp(at_T, t, frame[a].to_numpy()) for a in axes], axis=1)
        named = frame["label"].replace_strict({c: i for i, c in enumerate(classes)}, return_dtype=pl.Int64).to_numpy()
        labels.append(named[np.abs(at_T[:, None] - t).argmin(axis=1)])
    return values, np.stack(labels)

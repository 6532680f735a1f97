"""Trackers are told every epoch and decide nothing."""

from __future__ import annotations

import logging
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcontrast.errors import ConfigError
from mmcontrast.trackers import LIBRARIES, tracked
from mmcontrast.training.cell import run_stage
from mmcontrast.training.seeding import seed_everything
from tests.training.resuming import LAYOUT, outputs, small, train

TERMS = {"loss": 0.5, "other": 2.0}


class Writer:
    """Stands for TensorBoard's, and draws random numbers as a library may."""

    told: list[tuple[str, str, float, int]]

    def __init__(self, folder: Path, purge_step: int) -> None:
        self.run = folder.name
        assert purge_step == 0

    def add_scalar(self, name: str, value: float, epoch: int) -> None:
        random.random(), np.random.random(), torch.rand(3)
        self.told.append((self.run, name, value, epoch))

    def close(self) -> None:
        self.told.append((self.run, "closed", 0.0, 0))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float, int]]:
    library = types.ModuleType("tensorboard")
    Writer.told = []
    library.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, LIBRARIES["tensorboard"], library)
    return Writer.told


def test_a_run_is_the_same_to_the_bit(checkout: Path, written: list[tuple[str, str, float, int]]) -> None:
    cell = small("synthetic/m3col/base")
    train(cell)
    before = outputs(cell)
    epochs: list[tuple[str, str, float, int]] = []
    report = tracked(
        lambda seed, epoch, _, terms: epochs.extend((f"seed{seed}", k, v, epoch) for k, v in terms.items()),
        "tensorboard",
        Path("runs"),
    )
    run_stage(cell, cell.last_stage, LAYOUT, report)
    assert outputs(cell) == before
    assert written == [*epochs, ("seed3", "closed", 0.0, 0)]
    assert {name for _, name, _, _ in epochs} > {"loss"}


def test_what_a_tracker_draws_is_drawn_by_nobody_else(written: list[tuple[str, str, float, int]]) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    seed_everything(0)
    before = drawn()
    seed_everything(0)
    tracked(lambda *_: None, "tensorboard", Path("runs"))(3, 0, 1, TERMS)
    assert written
    assert drawn() == before


def test_one_that_fails_is_left_out_and_says_why(
    written: list[tuple[str, str, float, int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise OSError("no route to host")

    library = types.ModuleType("mlflow")
    for name in ("set_experiment", "start_run", "log_metric", "end_run"):
        setattr(library, name, away if name == "log_metric" else lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "mlflow", library)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        tell = tracked(lambda *_: None, "mlflow, tensorboard", Path("runs"))
        for epoch in range(2):
            tell(3, epoch, 2, TERMS)
    assert caplog.messages == ["mlflow: no route to host; it is told nothing more of this stage"]
    assert [t[1:] for t in written] == [
        ("loss", 0.5, 0),
        ("other", 2.0, 0),
        ("loss", 0.5, 1),
        ("other", 2.0, 1),
        ("closed", 0, 0),
    ]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("tensorbord", "MMCONTRAST_TRACKERS: 'tensorbord' is not a tracker; did you mean 'tensorboard'?"),
        ("mlflow", "mlflow needs MLFLOW_TRACKING_URI, such as http://127.0.0.1:5000"),
        ("dvclive", "dvclive is not installed .*; run `pip install dvclive`"),
    ],
)
def test_what_cannot_be_told_is_refused_before_training(
    named: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "dvclive", None)
    with pytest.raises(ConfigError, match=message):
        tracked(lambda *_: None, named, Path("runs"))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_tracker_that_is_installed_keeps_what_it_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip(LIBRARIES[name], reason=f"{name} is not installed; the extra `trackers` brings it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    tell = tracked(lambda *_: None, name, tmp_path / "runs")
    for epoch in range(2):
        tell(3, epoch, 2, TERMS)
    assert caplog.messages == []
    made = {p.name.split(".")[0] for p in tmp_path.rglob("*") if p.is_file()}
    assert {"tensorboard": "events", "mlflow": "mlflow", "dvclive": "loss"}[name] in made

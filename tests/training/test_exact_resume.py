"""Every method, stopped after a step in the middle of an epoch and started again, ends with the same bits.

And the test can fail: where a saved state is left out on purpose, the bits differ - or nothing of the method hangs on
that state, which is listed here and tested too.
"""

from __future__ import annotations

import copy
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmcontrast import paths
from mmcontrast.config import CellConfig, Study
from mmcontrast.data.prepare import prepare
from mmcontrast.errors import StoppedError
from mmcontrast.methods import Method
from mmcontrast.paths import Layout
from mmcontrast.training import checkpoint
from mmcontrast.training.cell import run_stage
from mmcontrast.training.distributed import World

ROOT = Path(__file__).parents[2]
LAYOUT = Layout("tests")
STUDY = Study(ROOT)
METHODS = sorted(STUDY.methods)
ENGINES = {"torch": {"backend": "torch"}, **{f"zero{z}": {"backend": "deepspeed", "zero_stage": z} for z in (0, 1, 2)}}
STEPS = 3  # of an epoch: 144 training rows in batches of 48
STOP_AFTER = 4  # the first step of the second epoch


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with params/ and the generated dataset."""
    root = tmp_path_factory.mktemp("resume")
    shutil.copytree(ROOT / "params", root / "params")
    (root / "src").symlink_to(ROOT / "src")
    prepare("synthetic", STUDY.datasets["synthetic"], root / "none", root / Path(paths.datasheet("synthetic")).parent)
    return root


@pytest.fixture
def checkout(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tests run in it; what they train is removed."""
    monkeypatch.chdir(prepared)
    for folder in ("build", ".state"):
        shutil.rmtree(prepared / folder, ignore_errors=True)
    return prepared


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, bytes]]:
    """method -> what it leaves behind undisturbed; beside it its state after a stop is kept in the checkout."""
    return {}


def small(method: str, engine: str = "torch") -> CellConfig:
    """The method's base cell on the generated data: one seed, few and short epochs, all its own objective."""
    cell = STUDY.cell("synthetic", method, "base")
    short = {"epochs": 3, "eval_every": 2, "checkpoint_every": 50, "batch_size": 48, "schedule": {"name": "cosine"}}
    stages = {s: getattr(cell, s).model_validate({**getattr(cell, s).model_dump(), **short}) for s in cell.stages}
    # M3CoL draws while M3Co lasts, which has to be beyond the stop
    longer = {"schedule_fraction": 0.9} if method == "m3col" else {}
    return cell.model_copy(
        update={
            "seeds": [3],
            "engine": cell.engine.model_copy(update=ENGINES[engine]),
            "objective": cell.objective | longer,
            **stages,
        },
    )


def outputs(cell: CellConfig) -> dict[str, bytes]:
    """Every file the last stage leaves behind but its cost."""
    folder = Path(LAYOUT.stage(cell.name, cell.last_stage))
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.stem != "cost"}
    shutil.rmtree(folder)
    return found


def stopped(cell: CellConfig, monkeypatch: pytest.MonkeyPatch, after: int = STOP_AFTER) -> None:
    """Train, and get SIGTERM in the middle of a step."""
    original: Callable[..., Any] = Method.forward
    seen = 0

    def forward(self: Method, *args: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "forward", forward)
        with pytest.raises(
            StoppedError, match=rf"{cell.name}, .*seed 3: stopped at epoch 1 of 3, after step 1 of {STEPS}"
        ):
            run_stage(cell, cell.last_stage, LAYOUT)
    assert seen == after


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", METHODS)
def test_stopped_within_an_epoch_it_ends_with_the_same_bits(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str, engine: str
) -> None:
    cell = small(method, engine)
    run_stage(cell, cell.last_stage, LAYOUT)
    undisturbed = outputs(cell)
    stopped(cell, monkeypatch)
    with caplog.at_level("INFO", logger="mmcontrast"):
        run_stage(cell, cell.last_stage, LAYOUT)
    assert f"seed 3: resumed after epoch 1 of 3 and step 1 of {STEPS}" in caplog.text
    assert outputs(cell) == undisturbed


def fresh_weights(engine: dict[str, Any]) -> None:
    """Weights as another initialisation would have them."""
    for name, w in engine["module"].items():
        if w.is_floating_point():
            engine["module"][name] = torch.roll(w, 1) if w.numel() > 1 else w + 1


def no_moments(engine: dict[str, Any]) -> None:
    """Adam as before its first step."""
    for of_parameter in engine["optimizer"]:
        for key, value in of_parameter.items():
            of_parameter[key] = torch.zeros_like(value)


LEFT_OUT: dict[str, Callable[[dict[str, Any]], None]] = {
    "weights": lambda p: fresh_weights(p["engine"]),
    "optimizer": lambda p: no_moments(p["engine"]),
    "schedule": lambda p: p["engine"].update(steps=0),
    "step": lambda p: p.update(step=0),
    "sums": lambda p: p.update(sums={}),
    "epoch": lambda p: p.update(epoch=0),
    "history": lambda p: p["run"].update(history=[]),
    "generator": lambda p: p.update(generator=torch.Generator().manual_seed(1).get_state()),
    "global": lambda p: p["random"].update(torch=torch.Generator().manual_seed(1).get_state()),
}
# nothing here draws from torch's global generator: tests/methods/test_contract.py holds all methods to that
UNUSED = {("global", method) for method in METHODS}
# no draw at all in training: no augmentation, no mixing, nothing shuffled but the order, which has a stream of its own
PLAIN = ("unimodal", "concat", "supervised_fusion", "joint_fusion", "supcon", "cross", "cmc")
MULTIFOLD = ("mxm_clr", "clip", "supcon_instances", "mil_nce", "tricolo", "siglip")
UNUSED |= {("generator", method) for method in (*PLAIN, *MULTIFOLD)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("state", LEFT_OUT)
def test_a_state_that_is_left_out_is_noticed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, known: dict[str, dict[str, bytes]], method: str, state: str
) -> None:
    cell, kept = small(method), checkout / "kept" / method
    if method not in known:
        run_stage(cell, cell.last_stage, LAYOUT)
        known[method] = outputs(cell)
        stopped(cell, monkeypatch)
        shutil.copytree(LAYOUT.state(cell.name, cell.last_stage), kept)
    shutil.copytree(kept, LAYOUT.state(cell.name, cell.last_stage), dirs_exist_ok=True)
    original = checkpoint.load_latest
    changed = False

    def load_latest(folder: Path, fingerprint: str, world: World) -> checkpoint.Payload | None:
        nonlocal changed
        payload = copy.deepcopy(original(folder, fingerprint, world))
        assert payload is not None
        LEFT_OUT[state](payload)
        changed = True
        return payload

    monkeypatch.setattr(checkpoint, "load_latest", load_latest)
    run_stage(cell, cell.last_stage, LAYOUT)
    assert changed
    assert (outputs(cell) == known[method]) == ((state, method) in UNUSED)

"""A saved state that is left out on purpose is noticed: the bits then differ from those of an undisturbed run.

Or nothing of the method hangs on that state, which is listed here and tested too.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmcontrast.errors import StoppedError
from mmcontrast.training import checkpoint
from mmcontrast.training.distributed import World
from mmcontrast.training.loop import SeedTrainer
from tests.training import resuming
from tests.training.resuming import CASES, LAYOUT, QUICK, STEPS, outputs, small


def turned(tensors: dict[str, torch.Tensor], of: str = "") -> None:
    """Numbers as another run would have them."""
    for name, w in tensors.items():
        if of in name and w.is_floating_point():
            tensors[name] = torch.roll(w, 1) if w.numel() > 1 and w.std() > 0 else w + 1


def no_moments(engine: dict[str, Any]) -> None:
    """Adam as before its first step."""
    for of_parameter in engine["optimizer"]:
        for key, value in of_parameter.items():
            of_parameter[key] = torch.zeros_like(value)


def other_generator() -> torch.Tensor:
    return torch.Generator().manual_seed(1).get_state()


LEFT_OUT: dict[str, Callable[[checkpoint.Payload], object]] = {
    "weights": lambda p: turned(p["engine"]["module"]),
    "optimizer": lambda p: no_moments(p["engine"]),
    "schedule": lambda p: p["engine"].update(steps=0),
    "step": lambda p: p.update(step=0),
    "sums": lambda p: p.update(sums={}),
    "epoch": lambda p: p.update(epoch=0),
    "history": lambda p: p["run"].update(history=[]),
    "outputs of epochs": lambda p: p["run"].update(kept={}, instance={}),
    "best score": lambda p: p["run"].update(best_key=None),
    "best epoch": lambda p: p["run"].update(best_epoch=-1),
    "best weights": lambda p: turned(p["run"]["weights"]),
    "generator": lambda p: p.update(generator=other_generator()),
    "global": lambda p: p["random"].update(torch=other_generator()),
}
# of some cases alone
TEACHER = {"emoji/mxm_clr/momentum_teacher": lambda p: turned(p["engine"]["module"], "teacher.")}
STATISTICS = {case: lambda p: turned(p["engine"]["module"], "running_") for case in CASES if case.startswith("emoji/")}
OF_SOME = {
    "teacher": TEACHER,
    "statistics": STATISTICS,
}
PAIRS = [*((case, state) for case in CASES for state in LEFT_OUT), *((c, s) for s in OF_SOME for c in OF_SOME[s])]

# no draw at all in training: no augmentation, no mixing, nothing shuffled but the order, which has a stream of its own
PLAIN = {
    "unimodal", "concat", "supervised_fusion", "joint_fusion", "supcon", "cross", "cmc",
    "confu", "gmc", "gmc_supervised", "gram",
}  # fmt: skip
MULTIFOLD = {"mxm_clr", "clip", "supcon_instances", "mil_nce", "tricolo", "siglip"}
SCORED = {
    "classifier": {"outputs of epochs", "best score", "best epoch", "best weights"},
    "retrieval": {"outputs of epochs", "best score", "best epoch", "best weights"},
    "probe": set(),
}


def unused(case: str, state: str) -> bool:
    """Whether nothing of the cell hangs on the state."""
    if state == "global":  # tests/methods/test_contract.py holds all methods to drawing from what they are given
        return True
    if state == "generator":
        return case.split("/")[1] in PLAIN | MULTIFOLD
    return state in SCORED["classifier"] | SCORED["retrieval"] and state not in SCORED[small(case).scored_by]


@pytest.fixture
def earlier_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation prefers the first epoch that is evaluated, so that what it chose has to be kept."""
    for name in ("_classified", "_retrieved"):
        original = getattr(SeedTrainer, name)

        def score(self: SeedTrainer, method: Any, split: str, original: Any = original) -> list[float]:
            original(self, method, split)
            return [-float(self.epoch)]

        monkeypatch.setattr(SeedTrainer, name, score)


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, bytes]]:
    """case -> what it leaves behind undisturbed; beside it its state after a stop is kept in the checkout."""
    return {}


def resumed_without(
    case: str,
    number: int,
    leave_out: Callable[[checkpoint.Payload], object],
    known: dict[str, dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, bytes]:
    """Stopped in this step, and resumed from a state that lacks something; what that run leaves behind."""
    cell, kept = small(case), Path("kept") / case
    state = LAYOUT.state(cell.name, cell.last_stage)
    resuming.train_before(cell)
    if case not in known:
        resuming.train(cell)
        known[case] = outputs(cell)
        with resuming.at_step(number, resuming.asked), pytest.raises(StoppedError):
            resuming.train(cell)
        shutil.copytree(state, kept)
    shutil.copytree(kept, state, dirs_exist_ok=True)
    original, changed = checkpoint.load_latest, 0

    def load_latest(folder: Path, fingerprint: str, world: World) -> checkpoint.Payload | None:
        nonlocal changed
        payload = copy.deepcopy(original(folder, fingerprint, world))
        if payload is not None and (folder.name == "search") == (case in SEARCHED):
            leave_out(payload)
            changed += 1
        return payload

    monkeypatch.setattr(checkpoint, "load_latest", load_latest)
    resuming.train(cell)
    assert changed == 1
    return outputs(cell)


SEARCHED = ("synthetic/tuple_infonce/searched",)
# in the second epoch, the first having been evaluated
STOP_IN = STEPS + 1


def marks(number: int, case: str, state: str) -> list[pytest.MarkDecorator]:
    """`make test` runs every third state of a case that is not quick, in turn, and all that few have."""
    if case in QUICK:
        return []
    return [pytest.mark.slow, *([pytest.mark.exhaustive] if number % 3 and state not in OF_SOME else [])]


@pytest.mark.parametrize(
    ("case", "state"),
    [
        pytest.param(case, state, marks=marks(number, case, state))
        for number, (case, state) in enumerate(PAIRS)
        if "searched" not in case
    ],
)
def test_a_state_that_is_left_out_is_noticed(
    checkout: Path,
    earlier_is_better: None,
    monkeypatch: pytest.MonkeyPatch,
    known: dict[str, dict[str, bytes]],
    case: str,
    state: str,
) -> None:
    leave_out = OF_SOME[state][case] if state in OF_SOME else LEFT_OUT[state]
    found = resumed_without(case, STOP_IN, leave_out, known, monkeypatch)
    assert (found == known[case]) == unused(case, state)


LEFT_OUT_OF_SEARCH: dict[str, Callable[[checkpoint.Payload], object]] = {
    "what was found": lambda p: p.update(found=[]),
    "rewards of an earlier round": lambda p: p["found"][0].update(reward=0.0),
    "rewards of this round": lambda p: p["found"][-1].update(reward=0.0),
    "details": lambda p: p["found"][0]["details"].update(dict.fromkeys(p["found"][0]["details"], 0.0)),
    "start": lambda p: turned(p["start"]["module"]),
    "start's optimizer": lambda p: no_moments(p["start"]),
    "clones": lambda p: [turned(clone["module"]) for clone in p["clones"]],
}


@pytest.mark.slow
@pytest.mark.parametrize("state", LEFT_OUT_OF_SEARCH)
def test_a_state_of_the_search_that_is_left_out_is_noticed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, known: dict[str, dict[str, bytes]], state: str
) -> None:
    """Stopped in the third trial of four, in the second round of three."""
    (case,) = SEARCHED
    number = (resuming.SEARCH["trials"] + 2) * resuming.SEARCH["steps"] + 1
    assert resumed_without(case, number, LEFT_OUT_OF_SEARCH[state], known, monkeypatch) != known[case]


@pytest.mark.parametrize("engine", ["zero1", "zero2"])
def test_deepspeeds_own_copy_of_the_weights_is_noticed_too(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    cell = small("synthetic/m3col/base", engine)
    resuming.train(cell)
    undisturbed = outputs(cell)
    with resuming.at_step(STOP_IN, resuming.asked), pytest.raises(StoppedError):
        resuming.train(cell)
    original = checkpoint.load_latest

    def load_latest(*args: Any) -> checkpoint.Payload | None:
        payload = original(*args)
        assert payload is not None
        payload["engine"]["masters"] = [m + 1 for m in payload["engine"]["masters"]]
        return payload

    monkeypatch.setattr(checkpoint, "load_latest", load_latest)
    resuming.train(cell)
    assert outputs(cell) != undisturbed

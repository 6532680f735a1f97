"""Cells small enough to be stopped and started again hundreds of times, and what they leave behind.

Used by the tests of this folder and by benchmarks/faults.py. All of it happens in the working directory, which
`write_data` has prepared.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmcontrast import paths
from mmcontrast.config import CellConfig, Model
from mmcontrast.data.prepare import prepare
from mmcontrast.errors import StoppedError
from mmcontrast.methods.base import Method
from mmcontrast.paths import Layout
from mmcontrast.training.cell import run_stage
from mmcontrast.training.distributed import World
from tests import multifold_data
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
LAYOUT = Layout("tests")
GRID = grid_of()
ENGINES: dict[str, dict[str, Any]] = {
    "torch": {"backend": "torch"},
    **{f"zero{z}": {"backend": "deepspeed", "zero_stage": z} for z in (0, 1, 2)},
}
STEPS = 3  # of an epoch
SHORT = {"epochs": 3, "eval_every": 1, "checkpoint_every": 1, "schedule": {"name": "cosine"}}
SEARCH = {
    "kind": "reinforce",
    "rounds": 3,
    "trials": 4,
    "steps": 6,
    "held_out": 48,
    "sigma": 1.0,
    "rate": 0.5,
}
SEARCHES = {
    "searched": SEARCH,
    "searched_both": SEARCH | {"rounds": 1, "trials": 2, "steps": 2, "beta": {"rounds": 2, "trials": 2}},
}
# what is never trained
UNTRAINED = {"raw", "oracle"}
# every method as it is, and what its variants or other data add to the state: a stage that starts from another, a
# teacher, a search, observations that are drawn
CASES = [
    *(f"synthetic/{method}/base" for method in sorted(GRID.methods) if method not in UNTRAINED),
    "synthetic/m3col/pretrained",
    "synthetic/comm/fine_tuned",
    "synthetic/tuple_infonce/searched",
    "synthetic/tuple_infonce/searched_both",
    "emoji/mxm_clr/base",
    "emoji/mxm_clr/momentum_teacher",
    "emoji/mxm_clr/captions",
    "emoji/siglip/base",
]
# enough for the quick tests: what draws, what follows slowly
QUICK = ["synthetic/m3col/base", "emoji/mxm_clr/momentum_teacher"]


def write_data(root: Path) -> None:
    """params/, src/ and the generated datasets of all cases."""
    shutil.copytree(ROOT / "params", root / "params")
    (root / "src").symlink_to(ROOT / "src")
    prepare("synthetic", GRID.datasets["synthetic"], root / "none", root / Path(paths.datasheet("synthetic")).parent)
    multifold_data.write_multifold(root)


def small_model(model: Model) -> Model:
    """The same parts, narrow; not so narrow that a row has no unit left after the first layer."""
    fusion = model.fusion and model.fusion.model_copy(update={"width": 16, "heads": 2})
    narrow = {"width": 8, "encoder_hidden": [32], "head_hidden": [8] * len(model.head_hidden), "fusion": fusion}
    return model.model_copy(update=narrow | {"projection": [8] * len(model.projection)})


def small(case: str, engine: str = "torch", ranks: int = 1) -> CellConfig:
    """The cell with its own objective: one seed, few epochs of three steps each, narrow layers."""
    dataset, method, variant = case.split("/")
    if dataset == multifold_data.NAME:
        cell: CellConfig = multifold_data.small_cell(method, variant)
        rows: dict[str, Any] = {"batch_size": 20 if variant == "captions" else 8}
    else:
        cell, rows = GRID.cell(dataset, method, variant), {"batch_size": 48}
    if variant in SEARCHES:  # fast enough for trials to differ in their reward
        rows["optimizer"] = {"name": "adam", "lr": 0.05}
    stages = {
        s: getattr(cell, s).model_validate({**getattr(cell, s).model_dump(), **SHORT, **rows}) for s in cell.stages
    }
    # M3CoL draws while M3Co lasts, which is to be beyond the stops
    changes: dict[str, Any] = {"schedule_fraction": 0.9, "critic_hidden": 8, "fusion_hidden": [8], "fusion_width": 8}
    if variant in SEARCHES:
        changes["search"] = SEARCHES[variant]
    objective = {key: changes.get(key, value) for key, value in cell.objective.items()}
    return cell.model_copy(
        update={
            "seeds": [3],
            "engine": cell.engine.model_copy(update=ENGINES[engine] | {"ranks": ranks}),
            "objective": objective,
            "model": small_model(cell.model),
            **stages,
        }
    )


def train(cell: CellConfig) -> None:
    """The last stage."""
    run_stage(cell, cell.last_stage, LAYOUT)


def train_before(cell: CellConfig) -> None:
    """What the last stage starts from."""
    for stage in cell.stages[:-1]:
        run_stage(cell, stage, LAYOUT)


def outputs(cell: CellConfig) -> dict[str, bytes]:
    """Every file the last stage left behind but its cost; they are removed."""
    folder = Path(LAYOUT.stage(cell.name, cell.last_stage))
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.stem != "cost"}
    shutil.rmtree(folder, ignore_errors=True)
    return found


class KilledError(Exception):
    """Nothing is saved any more, as after SIGKILL."""


def asked(method: Method) -> None:
    """SIGTERM in the middle of a step."""
    os.kill(os.getpid(), signal.SIGTERM)


def killed(method: Method) -> None:
    """The end in the middle of a step."""
    raise KilledError


@contextmanager
def at_step(number: int, happens: Callable[[Method], None]) -> Iterator[None]:
    """Something happens in the forward pass of this step, counted from 1 from now."""
    original: Callable[..., Any] = Method.forward
    steps = count(1)

    def forward(self: Method, *args: Any) -> Any:
        if next(steps) == number:
            happens(self)
        return original(self, *args)

    with patch.object(Method, "forward", forward):
        yield


def trained_with_stops(cell: CellConfig, moments: Iterator[int], happens: Callable[[Method], None]) -> int:
    """Train the last stage; the n-th attempt ends in its moments[n]-th step. The number of attempts that ended so."""
    for attempt, moment in enumerate(moments):
        try:
            with at_step(moment, happens):
                train(cell)
            return attempt
        except (StoppedError, KilledError):
            continue
    raise ValueError("moments ended before training did")


STOPS: dict[str, Callable[[CellConfig], int]] = {
    # each step is an attempt of its own
    "asked to stop in every step": lambda cell: trained_with_stops(cell, iter(lambda: 1, 0), asked),
    # one step later each time, from the last checkpoint
    "killed": lambda cell: trained_with_stops(cell, count(1), killed),
}


def with_and_without_stops(cell: CellConfig, stops: str) -> tuple[dict[str, bytes], dict[str, bytes], int]:
    """What an undisturbed run leaves, what an interrupted one does, and how often that was interrupted."""
    train_before(cell)
    train(cell)
    undisturbed = outputs(cell)
    number = STOPS[stops](cell)
    return undisturbed, outputs(cell), number


def on_two_ranks(world: World, root: str, case: str, engine: str, stops: str) -> tuple[bool, int]:
    """A job of each rank: whether the bits are equal, and the number of interruptions. Rank 1 has no files."""
    before = Path.cwd()
    os.chdir(root)
    try:
        cell = small(case, engine, ranks=2)
        train_before(cell)
        world.barrier()
        train(cell)
        undisturbed = outputs(cell) if world.rank == 0 else {}
        world.barrier()
        number = STOPS[stops](cell)
        interrupted = outputs(cell) if world.rank == 0 else {}
        world.barrier()
    finally:
        os.chdir(before)
    return undisturbed == interrupted and (world.rank > 0 or len(undisturbed) > 2), number

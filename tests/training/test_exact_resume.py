"""Every method, stopped in any step and started again, ends with the same bits, on each engine and number of ranks.

That these tests can fail is shown in test_states_left_out.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcontrast.errors import StoppedError
from tests import raw_rows
from tests.training import resuming
from tests.training.ranks import Ranks
from tests.training.resuming import CASES, ENGINES, QUICK, SHORT, STEPS, STOPS, small

ZERO = [engine for engine in ENGINES if engine != "torch"]
# over two hundred trainings with their restarts: all of them by `make test-all`, a few by `make test`
ON_EVERY_ENGINE = [pytest.param(c, marks=[] if c in QUICK else [pytest.mark.exhaustive]) for c in CASES]


@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("case", [pytest.param(c, marks=[] if c in QUICK else [pytest.mark.slow]) for c in CASES])
def test_interrupted_in_any_step_it_ends_with_the_same_bits(checkout: Path, case: str, stops: str) -> None:
    undisturbed, interrupted, number = resuming.with_and_without_stops(small(case), stops)
    assert number >= 3
    assert interrupted == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("engine", ZERO)
@pytest.mark.parametrize("case", ON_EVERY_ENGINE)
def test_on_deepspeed_too(checkout: Path, case: str, engine: str) -> None:
    undisturbed, interrupted, number = resuming.with_and_without_stops(small(case, engine), "killed")
    assert number >= 3
    assert interrupted == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ON_EVERY_ENGINE)
def test_two_ranks_end_with_the_same_bits_too(checkout: Path, ranks: Ranks, case: str, engine: str) -> None:
    stops = "asked to stop in every step" if engine == "torch" else "killed"
    answers = ranks.call(resuming.on_two_ranks, str(checkout), case, engine, stops)
    assert [same for same, _ in answers] == [True, True]
    assert min(number for _, number in answers) >= 3


@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("target", raw_rows.TARGETS)
def test_sequences_by_convolution_and_every_target_too(checkout: Path, target: str, stops: str) -> None:
    kinds = ("vital", "pen")
    raw_rows.write(checkout, kinds, target)
    cell = raw_rows.cell_of("concat", kinds, target=target, kind="conv", layers=2, steps=4)
    assert cell.finetune is not None
    stage = cell.finetune.model_validate({**cell.finetune.model_dump(), **SHORT, "batch_size": 8})
    cell = cell.model_copy(update={"finetune": stage})
    undisturbed, interrupted, number = resuming.with_and_without_stops(cell, stops)
    assert number >= 3
    assert interrupted == undisturbed


def test_it_says_where_it_goes_on(checkout: Path, caplog: pytest.LogCaptureFixture) -> None:
    cell = small("synthetic/m3col/base")
    told = (
        rf"{cell.name}, finetune, seed 3: stopped at epoch 1 of 3, after step 1 of {STEPS}.*Run the same command again"
    )
    with resuming.at_step(STEPS + 1, resuming.asked), pytest.raises(StoppedError, match=told):
        resuming.train(cell)
    with caplog.at_level("INFO", logger="mmcontrast"):
        resuming.train(cell)
    assert f"seed 3: resumed after epoch 1 of 3 and step 1 of {STEPS}" in caplog.text

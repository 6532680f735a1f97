"""A searched stage: killed anywhere it ends with the same bits, and it sees neither labels nor other splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmcontrast.config import CellConfig, validate
from mmcontrast.data.loading import Table
from mmcontrast.errors import ConfigError, TrainingError
from mmcontrast.methods.base import SeedJob
from mmcontrast.methods.tuple_infonce.method import TupleInfoNCE
from mmcontrast.methods.tuple_infonce.objective import TupleInfoNCEObjective
from mmcontrast.methods.tuple_infonce.search import searched, split_rows
from mmcontrast.training.checkpoint import SeedRun
from mmcontrast.training.distributed import StopRequest, World
from mmcontrast.training.loop import SeedTrainer
from tests.grids import grid_of

GRID = grid_of("tuple")
REINFORCE = {"kind": "reinforce", "rounds": 2, "trials": 2, "steps": 3, "held_out": 20, "sigma": 0.5, "rate": 0.5}
BY_GRID = {"kind": "grid", "values": [0.5, 2.0], "steps": 2, "held_out": 20}
BOTH = REINFORCE | {"beta": {"rounds": 1, "trials": 2, "levels": [0.5, 1.0, 2.0]}}
ROWS, STEPS = 72, 2 * 4 + 2 * 2 * 3  # of the whole stage: two epochs of four batches, and the trials


class KilledError(Exception):
    pass


def make_cell(search: dict[str, Any] | None = REINFORCE, backend: str = "torch", **stage: Any) -> CellConfig:
    """Two epochs on batches of 18."""
    cell = GRID.cell("weak_modality", "tuple_infonce")
    assert cell.pretrain is not None
    settings = {"epochs": 2, "batch_size": 18, "checkpoint_every": 1, **stage}
    return cell.model_copy(
        update={
            "objective": cell.objective | {"search": search},
            "pretrain": cell.pretrain.model_copy(update=settings),
            "engine": cell.engine.model_copy(update={"backend": backend}),
        }
    )


def make_tables(cell: CellConfig, label_seed: int = 0) -> dict[str, Table]:
    """The same inputs whatever the labels, and no other split."""
    g = torch.Generator().manual_seed(0)
    inputs = {m: torch.randn(ROWS, *spec.shape, generator=g) for m, spec in cell.modalities.items()}
    labels = torch.randint(2, (ROWS,), generator=torch.Generator().manual_seed(label_seed))
    table = Table([f"r{i}" for i in range(ROWS)], labels, inputs, cell.modalities, cell.classes)
    empty = table.take(torch.zeros(0, dtype=torch.int64))
    return {"train": table, "val": empty, "test": empty}


def train(cell: CellConfig, world: World, state: Path, tables: dict[str, Table] | None = None) -> SeedRun:
    return SeedTrainer(cell, job_of(world, state), tables or make_tables(cell)).train()


def job_of(world: World, state: Path) -> SeedJob:
    return SeedJob("pretrain", 0, world, state, "fingerprint", StopRequest())


def path_of(run: SeedRun) -> list[tuple[int, str, float]]:
    return [row for row in run.history if row[1].startswith("search/")]


def same(a: SeedRun, b: SeedRun) -> bool:
    return a.history == b.history and all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)


@pytest.fixture
def die(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """die(n): the n-th step from now raises; die(None): none does."""
    original = TupleInfoNCE.training_loss
    left: list[int | None] = [None]

    def loss(self: TupleInfoNCE, *args: Any) -> Any:
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
        return original(self, *args)

    monkeypatch.setattr(TupleInfoNCE, "training_loss", loss)
    return lambda n: left.__setitem__(0, n)


def test_killed_in_a_round_over_the_augmentations_it_ends_with_the_same_bits(
    die: Callable[[int | None], None], world: World, tmp_path: Path
) -> None:
    cell = make_cell(BOTH)
    whole = train(cell, world, tmp_path / "whole")
    die(2 * 3 + 4)  # in the second trial of the first such round
    with pytest.raises(KilledError):
        train(cell, world, tmp_path / "killed")
    die(None)
    assert same(train(cell, world, tmp_path / "killed"), whole)


def test_rounds_over_the_augmentations_take_turns_and_are_rewarded_for_consistency(
    world: World, tmp_path: Path
) -> None:
    cell = make_cell(BOTH)
    path = path_of(train(cell, world, tmp_path / "searched"))
    assert [at for at, name, _ in path if name == "search/reward"] == [0, 2]
    assert [at for at, name, _ in path if name == "search/beta_reward"] == [1]
    values = {name: value for at, name, value in path if at == 1}
    assert values["search/beta"] == 1.0
    tried = [values[f"search/trial{i}/beta"] for i in (0, 1)]
    assert sum(tried) == pytest.approx(2.0)
    levels = {level: values[f"search/accuracy_at_{level:g}"] for level in (0.5, 1.0, 2.0)}
    # of two trials, each 2 - ((s - peak) / 2)^2 - its mean accuracy, the peak one of the levels
    most = 2 - sum(levels.values()) / 3
    furthest = max(abs(s - level) for s in tried for level in levels)
    assert most - (furthest / 2) ** 2 <= values["search/beta_reward"] <= most
    found = {name: value for at, name, value in path if at == 3}
    assert found.keys() == {"search/beta", *(f"search/alpha_{m}" for m in cell.modalities)}
    assert found["search/beta"] != 1.0
    objective = searched(cell, job_of(world, tmp_path / "again"), make_tables(cell)["train"])[0].objective
    assert objective["augmentations"]["vector"][0]["std"] == pytest.approx(0.3 * found["search/beta"])


@pytest.mark.parametrize("die_at", [0, 2, 4, 7, 11, 12, 18])
def test_killed_at_any_step_and_started_again_it_ends_with_the_same_bits(
    die_at: int, die: Callable[[int | None], None], world: World, tmp_path: Path
) -> None:
    assert die_at < STEPS
    cell = make_cell()
    whole = train(cell, world, tmp_path / "whole")
    die(die_at)
    with pytest.raises(KilledError):
        train(cell, world, tmp_path / "killed")
    die(None)
    assert same(train(cell, world, tmp_path / "killed"), whole)


def test_a_finished_trial_is_not_run_again(die: Callable[[int | None], None], world: World, tmp_path: Path) -> None:
    cell = make_cell()
    die(10)  # in the last of four trials of three steps
    with pytest.raises(KilledError):
        train(cell, world, tmp_path)
    die(3 + 8)
    train(cell, world, tmp_path)


def test_both_engines_find_the_same(world: World, tmp_path: Path) -> None:
    torch_run = train(make_cell(), world, tmp_path / "torch")
    deepspeed_run = train(make_cell(backend="deepspeed"), world, tmp_path / "deepspeed")
    assert [row[:2] for row in path_of(torch_run)] == [row[:2] for row in path_of(deepspeed_run)]
    values = [[value for *_, value in path_of(run)] for run in (torch_run, deepspeed_run)]
    assert values[0] == pytest.approx(values[1], abs=1e-6)


@pytest.mark.parametrize("search", [REINFORCE, BY_GRID], ids=["reinforce", "grid"])
def test_it_is_the_stage_of_a_cell_that_was_given_what_it_found(
    search: dict[str, Any], world: World, tmp_path: Path
) -> None:
    cell = make_cell(search)
    run = train(cell, world, tmp_path / "searched")
    last = max(at for at, *_ in path_of(run))
    found = {m: v for m in cell.modalities for at, n, v in path_of(run) if (at, n) == (last, f"search/alpha_{m}")}
    given = cell.model_copy(update={"objective": cell.objective | {"search": None, "alpha": found}})
    plain = train(given, world, tmp_path / "given")
    assert found != dict.fromkeys(cell.modalities, 1.0)
    assert plain.history == [row for row in run.history if row not in path_of(run)]
    assert all(torch.equal(run.weights[k], plain.weights[k]) for k in run.weights)


def test_no_label_is_looked_at(world: World, tmp_path: Path) -> None:
    cell = make_cell()
    runs = [train(cell, world, tmp_path / str(s), make_tables(cell, s)) for s in (0, 1)]
    assert same(*runs)


def test_trials_of_a_round_differ_by_alpha_alone(world: World, tmp_path: Path) -> None:
    narrow = make_cell(REINFORCE | {"low": 1.0, "high": 1.0 + 1e-12})
    path = path_of(train(narrow, world, tmp_path))
    assert [value for _, name, value in path if name == "search/reward_spread"] == [0.0, 0.0]


def test_every_round_is_logged(world: World, tmp_path: Path) -> None:
    cell = make_cell()
    path = path_of(train(cell, world, tmp_path))
    names = {name for _, name, _ in path}
    of_modalities = {f"search/{what}_{m}" for what in ("alpha", "accuracy") for m in cell.modalities}
    of_trials = {
        f"search/trial{i}/{what}" for i in (0, 1) for what in ("reward", *(f"alpha_{m}" for m in cell.modalities))
    }
    assert names == of_modalities | of_trials | {f"search/reward{end}" for end in ("", "_low", "_high", "_spread")}
    assert [at for at, name, _ in path if name == "search/alpha_weak"] == [0, 1, 2]
    assert [value for at, name, value in path if (at, name) == (0, "search/alpha_weak")] == [1.0]
    for at in (0, 1):
        values = {name: value for row, name, value in path if row == at}
        accuracies = [values[f"search/accuracy_{m}"] for m in cell.modalities]
        assert values["search/reward"] == pytest.approx(sum(accuracies))
        assert values["search/reward"] == pytest.approx(
            (values["search/trial0/reward"] + values["search/trial1/reward"]) / 2
        )
        pairs = [values[f"search/trial{i}/alpha_weak"] for i in (0, 1)]
        assert sum(pairs) / 2 == pytest.approx(values["search/alpha_weak"])
        assert values["search/reward_low"] <= values["search/reward"] <= values["search/reward_high"]


def searched_path(world: World, folder: str) -> list[tuple[int, str, float]]:
    """A job of two ranks."""
    cell = make_cell()
    state = Path(folder) / f"ranks{world.size}"
    return searched(cell, job_of(world, state), make_tables(cell)["train"])[1]


def test_two_ranks_find_what_one_finds(ranks: Any, world: World, tmp_path: Path) -> None:
    one = searched_path(world, str(tmp_path))
    two, other = ranks.call(searched_path, str(tmp_path))
    assert two == other
    assert [row[:2] for row in two] == [row[:2] for row in one]
    assert [row[2] for row in two] == pytest.approx([row[2] for row in one], abs=1e-6)


def test_held_out_rows_are_no_rows_that_are_trained_on() -> None:
    kept, held = split_rows(50, 20, seed=3)
    assert len(held) == 20
    np.testing.assert_array_equal(torch.cat([kept, held]).sort().values, np.arange(50))
    assert not torch.equal(held, split_rows(50, 20, seed=4)[1])


def test_too_few_rows_to_hold_some_out(world: World, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"search\.held_out: 40 of 72 training rows.*at most 36"):
        train(make_cell(REINFORCE | {"held_out": 40}), world, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_search(
    monkeypatch: pytest.MonkeyPatch, world: World, tmp_path: Path
) -> None:
    monkeypatch.setattr(TupleInfoNCE, "training_loss", lambda *_: {"loss": torch.tensor(float("nan"))})
    with pytest.raises(TrainingError, match=r"weak_modality/tuple_infonce/base, seed 0: .*not finite in round 0"):
        train(make_cell(), world, tmp_path)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"search": REINFORCE, "alpha": 0, "naive": True}, "naive: true has no alpha to find"),
        ({"search": REINFORCE, "alpha": 5.0}, r"starts from an alpha of 5, outside low \(0\) to high \(4\)"),
        ({"search": REINFORCE | {"trials": 3}}, "search.reinforce.trials.*multiple of 2"),
        ({"search": REINFORCE | {"low": 4.0}}, r"low \(4\) must be below high \(4\)"),
        ({"search": REINFORCE | {"values": [1]}}, "values: unknown key"),
        ({"search": BY_GRID | {"values": [1.0, 1.0]}}, "has a value twice"),
        ({"search": BY_GRID | {"values": [1.0, 9.0]}}, r"\[9.0\] outside low"),
    ],
)
def test_a_search_that_makes_no_sense(objective: dict[str, Any], message: str) -> None:
    given = {"augmentations": {"vector": []}, "fusion_hidden": [4], "fusion_width": 4, **objective}
    with pytest.raises(ConfigError, match=message):
        validate(TupleInfoNCEObjective, given, "file", prefix="objective")


def test_nothing_but_zeros_found_is_naive_contrast() -> None:
    method = TupleInfoNCE(make_cell())
    objective = TupleInfoNCEObjective.model_validate(method.settled([0.0, 0.0, 0.0]))
    assert objective.naive
    assert objective.search is None
    assert not TupleInfoNCEObjective.model_validate(method.settled([0.0, 1.0, 0.0])).naive

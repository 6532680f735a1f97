"""Two ranks compute what one does; state of several ranks is whole or not believed."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from itertools import chain
from pathlib import Path

import pytest
import torch

from mmcontrast import config
from mmcontrast.errors import ConfigError, TrainingError
from mmcontrast.training import checkpoint, distributed, seeding
from mmcontrast.training.distributed import World, start_world
from mmcontrast.training.engine import average_gradients, make_engine
from tests.training import toy
from tests.training.ranks import Ranks, stop_world

CPU = torch.device("cpu")
# fp32 sums over two halves instead of one whole, over 8 steps of Adam; measured: 6e-7 and 3e-6
LOSS, WEIGHT = 5e-6, 2e-5


def engine(backend, zero, ranks, precision="fp32"):
    return config.Engine(backend=backend, zero_stage=zero, ranks=ranks, precision=precision)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [7, 8, 20])
def test_rows_share_out_the_batch(n, size):
    shards = [list(range(n))[World(rank, size, CPU).rows(n)] for rank in range(size)]
    assert list(chain(*shards)) == list(range(n))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_fewer_rows_than_ranks_is_an_error():
    with pytest.raises(TrainingError, match="3 rows cannot be shared by 4 ranks"):
        World(0, 4, CPU).rows(3)


def test_a_world_of_one_gathers_by_doing_nothing():
    x = torch.ones(3, requires_grad=True)
    assert World(0, 1, CPU).gather(x) is x


def gather_job(world, n, dtype):
    """Gathered rows, and the gradient of a loss of all of them."""
    everything = torch.arange(n * 6, dtype=torch.float32).view(n, 2, 3).div(7).to(getattr(torch, dtype))
    x = everything[world.rows(n)].clone().requires_grad_()
    gathered = world.gather(x)
    weight = torch.arange(1.0, n + 1).view(n, 1, 1).to(x.dtype)
    (gathered * weight * (world.rank + 1)).sum().backward()
    return gathered.detach().float().tolist(), x.grad.float().tolist(), str(gathered.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("n", [6, 7])
def test_gather_has_all_rows_and_the_gradients_of_all_ranks(ranks, n, dtype):
    everything = torch.arange(n * 6, dtype=torch.float32).view(n, 2, 3).div(7).to(getattr(torch, dtype)).float()
    for rank, (gathered, grad, kind) in enumerate(ranks.call(gather_job, n, dtype)):
        mine = World(rank, 2, CPU).rows(n)
        assert torch.equal(torch.tensor(gathered), everything)
        # rank r weighs its loss by r + 1, and every rank's loss sees this rank's rows: 1 + 2
        expected = (3 * torch.arange(1.0, n + 1)[mine]).view(-1, 1, 1).expand(-1, 2, 3)
        assert torch.equal(torch.tensor(grad), expected)
        assert kind == f"torch.{dtype}"


def gather_integers_job(world):
    labels = torch.arange(5)[world.rows(5)]
    flags = labels > 2
    return world.gather(labels).tolist(), world.gather(flags).tolist()


def test_gather_takes_labels_and_masks(ranks):
    for labels, flags in ranks.call(gather_integers_job):
        assert labels == [0, 1, 2, 3, 4]
        assert flags == [False, False, False, True, True]


def train_job(world, backend, zero, precision, rows):
    """Rank 1 starts from other weights: rank 0's are what counts."""
    made = toy.build(engine(backend, zero, 2, precision), world, toy.settings(gradient_clipping=0.5), 8, world.rank)
    out = toy.take_steps(made, range(8), rows=rows)
    made.close()
    return out.losses, out.norms, {k: w.numpy() for k, w in out.weights.items()}


ENGINES = [("torch", 0), ("deepspeed", 0), ("deepspeed", 1), ("deepspeed", 2), ("deepspeed", 3)]


def mostly_slow(cases, quick):
    """All cases, those that are not `quick` for the slow tests alone."""
    return [pytest.param(*case, marks=[] if case in quick else [pytest.mark.slow]) for case in cases]


@pytest.mark.parametrize(
    ("backend", "zero", "rows"),
    mostly_slow(
        [(*case, rows) for case in ENGINES for rows in (16, 15)],
        quick=[("torch", 0, 15), ("deepspeed", 0, 15), ("deepspeed", 1, 16), ("deepspeed", 3, 15)],
    ),
)
def test_two_ranks_equal_one(ranks, world, backend, zero, rows):
    one = toy.run(engine("torch", 0, 1), world, toy.settings(gradient_clipping=0.5), steps=8, rows=rows)
    (losses, norms, weights), (other_losses, other_norms, nothing) = ranks.call(train_job, backend, zero, "fp32", rows)
    two = toy.Trained(losses, norms, {k: torch.from_numpy(w) for k, w in weights.items()})
    loss, weight = toy.largest_difference(one, two)
    assert loss <= LOSS
    assert weight <= WEIGHT
    assert norms == pytest.approx(one.norms, abs=5e-6)
    assert (other_losses, other_norms, nothing) == (losses, norms, {})


def resume_job(world, folder, backend, zero):
    stage, steps, cut = toy.settings(gradient_clipping=0.5), 8, 3
    settings = engine(backend, zero, 2)

    def fresh(seed):
        seeding.seed_everything(seed, world.rank)
        return toy.build(settings, world, stage, steps, seed, dropout=0.5)

    whole = fresh(1)
    expected = toy.take_steps(whole, range(steps))
    whole.close()
    first = fresh(1)
    losses = toy.take_steps(first, range(cut)).losses
    payload = {"engine": first.state_dict(), "random": seeding.random_state()}
    checkpoint.save(Path(folder), cut, payload, "same", world)
    first.close()
    second = fresh(9)
    read = checkpoint.load_latest(Path(folder), "same", world)
    second.load_state_dict(read["engine"])
    seeding.restore(read["random"])
    got = toy.take_steps(second, range(cut, steps))
    second.close()
    got.losses = losses + got.losses
    return toy.same_bits(got, expected), len(expected.weights)


@pytest.mark.parametrize(("backend", "zero"), mostly_slow(ENGINES, quick=[("torch", 0), ("deepspeed", 1)]))
def test_two_ranks_resume_with_the_same_bits(ranks, tmp_path, backend, zero):
    (same, held), (same_there, held_there) = ranks.call(resume_job, str(tmp_path), backend, zero)
    assert same
    assert same_there
    assert held > 0
    assert held_there == 0


def average_job(world):
    both, one, none = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    both.grad = torch.full((2,), float(world.rank))
    if world.rank == 1:
        one.grad = torch.ones(2)
    average_gradients([both, one, none], world)
    return [None if p.grad is None else p.grad.tolist() for p in (both, one, none)]


def test_averaged_gradients_count_missing_ones_as_zero(ranks):
    assert ranks.call(average_job) == [[[0.5, 0.5], [0.5, 0.5], None]] * 2


class Two(torch.nn.Module):
    """Two weights, of which a forward pass uses one."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.ParameterList([torch.ones(2), torch.ones(2)])

    def forward(self, which):
        return (self.weights[which] ** 2).sum()


def one_sided_job(world, backend, zero):
    """Rank 0 uses one weight, rank 1 the other, in the first of two steps; both the first in the second."""
    stage = toy.settings(optimizer={"lr": 0.1, "weight_decay": 0.1})
    made = make_engine(Two(), stage, 2, engine(backend, zero, 2), world)
    for which in (world.rank, 0):
        made.step(made.forward(which))
    weights = made.full_state()
    made.close()
    return {name: w.tolist() for name, w in weights.items()}


def test_a_gradient_on_one_rank_alone_counts(ranks):
    """What a rank did not use itself is not left out of its step: the ranks' weights would drift apart."""
    expected, _ = ranks.call(one_sided_job, "torch", 0)
    got, _ = ranks.call(one_sided_job, "deepspeed", 0)
    # Adam with gradients (0 + 2) / 2, then of weight 0 alone; 0.1 is its first step, whatever the gradient
    assert expected["weights.1"] == pytest.approx([0.9, 0.9], abs=1e-6)
    for name, values in expected.items():
        assert got[name] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("zero", [1, 2])
def test_zero_refuses_a_gradient_on_one_rank_alone(ranks, zero):
    """Its buckets would add one rank's gradient of one parameter to another's of another."""
    with pytest.raises(
        RuntimeError, match=r"(?s)rank 0.*TrainingError.*ZeRO 1-3 add up wrongly.*rank 1.*TrainingError"
    ):
        ranks.call(one_sided_job, "deepspeed", zero)


def damaged_job(world, folder, file):
    folder = Path(folder)
    checkpoint.save(folder, 1, {"step": 1, "rank": world.rank}, "same", world)
    newest = checkpoint.save(folder, 2, {"step": 2, "rank": world.rank}, "same", world)
    world.barrier()
    if world.rank == 0:
        (newest / file).write_bytes(b"rubbish")
    world.barrier()
    return checkpoint.load_latest(folder, "same", world)


@pytest.mark.parametrize("file", ["rank0.pt", "rank1.pt", "manifest.json"])
def test_one_broken_file_sends_all_ranks_back(ranks, tmp_path, file):
    """Ranks that resumed from different steps would wait for each other for ever, or worse, would not."""
    assert ranks.call(damaged_job, str(tmp_path), file) == [{"step": 1, "rank": 0}, {"step": 1, "rank": 1}]


def objects_job(world):
    return world.broadcast_object({"from": world.rank}), world.gather_objects(world.rank * 10)


def test_objects_travel(ranks):
    assert ranks.call(objects_job) == [({"from": 0}, [0, 10])] * 2


def test_start_is_idempotent_and_sets_threads(world):
    before = torch.get_num_threads()
    assert start_world(config.Engine(threads=2)) is world
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_another_world_in_the_same_process_is_an_error(world):
    with pytest.raises(ConfigError, match="already runs as 1 of 1 on cpu"):
        start_world(config.Engine(ranks=2))


def late_job(world):
    """Rank 0 does alone what takes longer than an exchange may."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # where the ranks of before have met, one may still answer
        os.environ["MASTER_PORT"] = str(world.broadcast_object(free.getsockname()[1]))
    stop_world()
    distributed.TIMEOUT = timedelta(seconds=3)
    world = start_world(config.Engine(ranks=2))
    got = []
    for wait in (world.barrier, lambda: world.broadcast_object(7), lambda: world.gather_objects(world.rank)):
        time.sleep(0 if world.rank else 5)
        got.append(wait())
    stop_world()
    return got


@pytest.mark.slow
def test_ranks_wait_for_what_one_does_alone():
    pool = Ranks(2)
    assert pool.call(late_job) == [[None, 7, [0, 1]]] * 2
    pool.close()


def test_ranks_that_were_not_started_are_an_error(monkeypatch):
    monkeypatch.setattr("mmcontrast.training.distributed._world", None)
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="torchrun --standalone --nproc_per_node 3"):
        start_world(config.Engine(ranks=3))


def test_ranks_that_another_run_has_left_in_the_environment_are_named(monkeypatch):
    monkeypatch.setattr("mmcontrast.training.distributed._world", None)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"started is 2.*where nothing was started so, unset RANK and WORLD_SIZE"):
        start_world(config.Engine(ranks=1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_that_is_absent_is_an_error(monkeypatch):
    monkeypatch.setattr("mmcontrast.training.distributed._world", None)
    with pytest.raises(ConfigError, match="finds no CUDA device"):
        start_world(config.Engine(device="cuda"))


def test_a_world_of_one_opens_no_port(world):
    """It meets itself through a file: two jobs on one machine can never ask for the same port."""
    assert "MASTER_PORT" not in os.environ
    assert world.size == 1

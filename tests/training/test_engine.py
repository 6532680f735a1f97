"""Both engines give the same run, and an interrupted run goes on with the same bits."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from mmcontrast import config
from mmcontrast.errors import ConfigError, TrainingError
from mmcontrast.training import checkpoint, seeding
from mmcontrast.training.engine import make_engine
from tests.training import toy

ROOT = Path(__file__).parents[2]
ZERO = [0, 1, 2, 3]
BACKENDS = [("torch", 0), *(("deepspeed", z) for z in ZERO)]
# interrupted runs are compared for all of these; the costly half only with the slow tests
RESUMED = [
    pytest.param(backend, zero, precision, marks=[pytest.mark.slow] if precision == "bf16" and zero else [])
    for backend, zero in BACKENDS
    for precision in ("fp32", "bf16")
]
TORCH = config.Engine(backend="torch")

# Largest differences from plain torch over 20 steps, in absolute terms. Measured: 0 without clipping and at stage 0;
# stages 1-3 add up the norm in another order, which moves a loss by up to 5e-7 and a weight by up to 5e-6.
LOSS, WEIGHT = 2e-6, 2e-5


def engine(backend: str = "deepspeed", zero: int = 0, precision: str = "fp32") -> config.Engine:
    return config.Engine(backend=backend, zero_stage=zero, precision=precision)


@pytest.fixture(scope="module")
def by_torch(world):
    """Plain torch at every clipping that is compared."""
    return {clip: toy.run(TORCH, world, toy.settings(gradient_clipping=clip)) for clip in (0.0, 0.5)}


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("zero", ZERO)
def test_deepspeed_equals_torch(world, by_torch, zero, clip):
    expected = by_torch[clip]
    got = toy.run(engine(zero=zero), world, toy.settings(gradient_clipping=clip))
    loss, weight = toy.largest_difference(got, expected)
    if clip == 0.0 or zero == 0:
        assert (loss, weight) == (0.0, 0.0)
    assert loss <= LOSS
    assert weight <= WEIGHT
    if clip:
        assert got.norms == pytest.approx(expected.norms, abs=2e-6)
    else:
        assert all(math.isnan(n) for n in got.norms)


@pytest.mark.parametrize("zero", ZERO)
def test_clipping_off_is_off(world, zero):
    """DeepSpeed clips to 1.0 unless told otherwise. SGD shows it, being linear in the gradient, where Adam hides it."""
    stage = toy.settings(optimizer={"name": "sgd", "lr": 1e-4, "weight_decay": 0.0})
    clipped = toy.settings(optimizer={"name": "sgd", "lr": 1e-4, "weight_decay": 0.0}, gradient_clipping=1.0)
    batches = {"steps": 3, "scale": 100.0}
    free = toy.run(TORCH, world, stage, **batches)
    bound = toy.run(TORCH, world, clipped, **batches)
    assert min(bound.norms) > 10.0
    assert toy.largest_difference(free, bound)[1] > 1e-4
    got = toy.run(engine(zero=zero), world, stage, **batches)
    assert toy.largest_difference(got, free)[1] <= 1e-6
    got = toy.run(engine(zero=zero), world, clipped, **batches)
    assert toy.largest_difference(got, bound)[1] <= 1e-6


@pytest.mark.parametrize(("backend", "zero"), BACKENDS)
def test_an_unused_parameter_stays_as_it_is(world, backend, zero):
    """Weight decay included: heads are not to be worn down by a stage that does not train them."""
    made = toy.build(engine(backend, zero), world, toy.settings(optimizer={"weight_decay": 0.1}), 5)
    before = made.full_state()
    after = toy.take_steps(made, range(5), use_head=lambda step: False).weights
    made.close()
    assert torch.equal(after["head.weight"], before["head.weight"])
    assert not torch.equal(after["encoders.a.0.weight"], before["encoders.a.0.weight"])


@pytest.mark.parametrize(("backend", "zero"), BACKENDS)
def test_a_frozen_parameter_stays_as_it_is(world, backend, zero):
    torch.manual_seed(0)
    module = toy.Toy()
    module.encoders["a"].requires_grad_(False)
    before = module.encoders["a"][0].weight.detach().clone()
    made = make_engine(module, toy.settings(), 5, engine(backend, zero), world)
    after = toy.take_steps(made, range(5)).weights
    made.close()
    assert torch.equal(after["encoders.a.0.weight"], before)


@pytest.mark.parametrize(("name", "fused"), [("adamw", True), ("sgd", True), ("adam", False)])
def test_other_optimizers_are_the_same_too(world, name, fused):
    stage = toy.settings(optimizer={"name": name, "fused": fused})
    expected = toy.run(TORCH, world, stage, steps=8)
    for zero in (0, 1):
        assert toy.same_bits(toy.run(engine(zero=zero), world, stage, steps=8), expected)


@pytest.mark.parametrize("zero", ZERO)
def test_bf16_is_autocast_over_fp32_weights_on_both(world, zero):
    stage = toy.settings()
    expected = toy.run(engine("torch", 0, "bf16"), world, stage, steps=8)
    made = toy.build(engine("deepspeed", zero, "bf16"), world, stage, 8)
    got = toy.take_steps(made, range(8))
    seen = made.module.seen
    made.close()
    assert seen == torch.bfloat16
    assert all(w.dtype == torch.float32 for w in got.weights.values())
    assert toy.same_bits(got, expected)
    full = toy.run(TORCH, world, stage, steps=8)
    assert 0.0 < toy.largest_difference(full, expected)[0] < 0.05


@pytest.mark.parametrize(("backend", "zero", "precision"), RESUMED)
def test_resumed_equals_undisturbed(world, tmp_path, backend, zero, precision):
    """Through a checkpoint on disk, into a process state that is as different as it can be made."""
    stage, steps, cut = toy.settings(gradient_clipping=0.5), 12, 5
    build = partial(toy.build, engine(backend, zero, precision), world, stage, steps, dropout=0.5)

    seeding.seed_everything(1)
    whole = build()
    expected = toy.take_steps(whole, range(steps))
    whole.close()

    seeding.seed_everything(1)
    first = build()
    losses = toy.take_steps(first, range(cut)).losses
    payload = {"engine": first.state_dict(), "random": seeding.random_state()}
    checkpoint.save(tmp_path, cut, payload, "same", world)
    toy.take_steps(first, range(cut, cut + 2))
    first.close()

    seeding.seed_everything(99)
    second = build(seed=99)
    read = checkpoint.load_latest(tmp_path, "same", world)
    second.load_state_dict(read["engine"])
    seeding.restore(read["random"])
    got = toy.take_steps(second, range(cut, steps))
    second.close()
    got.losses = losses + got.losses
    assert toy.same_bits(got, expected)
    assert len(set(expected.losses)) == steps


@pytest.mark.parametrize("backend", ["torch", "deepspeed"])
def test_the_learning_rate_follows_the_schedule(world, backend):
    """With SGD and no weight decay a step moves a weight by rate x gradient."""
    stage = toy.settings(optimizer={"name": "sgd", "lr": 0.5, "weight_decay": 0.0}, schedule={"warmup": 0.5})
    torch.manual_seed(0)
    module = nn.Linear(3, 1, bias=False)
    made = make_engine(module, stage, 4, engine(backend), world)
    moved = []
    for _ in range(4):
        before = made.full_state()["weight"]
        made.step(made.forward(torch.ones(1, 3)).sum())
        moved.append(float((before - made.full_state()["weight"])[0, 0]))
    made.close()
    assert moved == pytest.approx([0.25, 0.5, 0.5, 0.5], abs=1e-6)


@pytest.mark.parametrize(("backend", "zero"), BACKENDS)
def test_whole_gives_all_weights_and_disturbs_nothing(world, backend, zero):
    """A layer of 120,000 weights, which ZeRO 3 does partition; it keeps smaller ones whole."""
    model = {"hidden": 6000}
    expected = toy.run(engine(backend, zero), world, toy.settings(), steps=4, model=model)
    made = toy.build(engine(backend, zero), world, toy.settings(), 4, **model)
    made.module.train()
    for step in range(4):
        toy.take_steps(made, range(step, step + 1))
        with made.whole() as module:
            weights = made.full_state()
            assert module.training
            assert all(torch.equal(w.cpu(), weights[k]) for k, w in module.state_dict().items())
            with torch.no_grad():
                assert module.encoders["a"](torch.ones(2, 20)).shape == (2, 24)
    made.close()
    assert weights["encoders.a.0.weight"].shape == (6000, 20)
    assert all(torch.equal(weights[k], expected.weights[k]) for k in weights)


def bad_gradient(module):
    """A finite loss whose gradient is not: the square root at 0."""
    return module.forward(torch.ones(1, 3)).sum().mul(0).abs().sqrt()


@pytest.mark.parametrize(("backend", "zero"), BACKENDS)
def test_a_gradient_that_is_not_finite_is_an_error(world, backend, zero):
    """DeepSpeed leaves such a step out in silence."""
    made = make_engine(nn.Linear(3, 1), toy.settings(gradient_clipping=1.0), 4, engine(backend, zero), world)
    loss = bad_gradient(made)
    assert float(loss.detach()) == 0.0
    with pytest.raises(TrainingError, match=r"gradient norm is (nan|inf)"):
        made.step(loss)
    made.close()


def test_nothing_to_train_is_an_error(world):
    with pytest.raises(ConfigError, match="nothing to train"):
        make_engine(nn.Linear(2, 2).requires_grad_(False), toy.settings(), 1, TORCH, world)


def test_parameters_without_axes(world):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.tau = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return (x * self.tau).sum()

    for zero in (0, 1, 2):
        made = make_engine(Scaled(), toy.settings(optimizer={"name": "sgd"}), 1, engine(zero=zero), world)
        made.step(made.forward(torch.ones(3)))
        assert float(made.full_state()["tau"]) < 2.0
        made.close()
    with pytest.raises(ConfigError, match=r"without axes \(tau\)"):
        make_engine(Scaled(), toy.settings(), 1, engine(zero=3), world)


@pytest.mark.parametrize(("backend", "zero"), BACKENDS)
def test_a_closed_engine_leaves_nothing_behind(world, backend, zero):
    """A cell trains all its seeds in one process."""
    made = toy.build(engine(backend, zero), world, toy.settings(), 2)
    toy.take_steps(made, range(2))
    module = weakref.ref(made.module)
    made.close()
    del made
    gc.collect()
    assert module() is None


PLAIN = """
import sys, torch
from mmcontrast import config
from mmcontrast.training.distributed import start_world
from mmcontrast.training.engine import make_engine
from tests.training.ranks import stop_world
stage = config.Stage(epochs=1, batch_size="full", optimizer={"lr": 0.1})
for backend in sys.argv[1:]:
    engine = config.Engine(backend=backend)
    made = make_engine(torch.nn.Linear(2, 1), stage, 2, engine, start_world(engine))
    made.step(made.forward(torch.ones(1, 2)).sum())
    made.close()
    stop_world()
print("deepspeed" in sys.modules)
"""


@pytest.mark.parametrize(("backends", "loaded"), [(["torch"], False), (["deepspeed", "deepspeed"], True)])
def test_a_process_of_its_own_is_quiet(backends, loaded):
    """DeepSpeed is loaded only where it is used, prints nothing, and survives its world being left and joined again."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *backends], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == f"{loaded}\n"
    assert done.stderr == ""

"""What every method owes the training loop. New methods are found through params/methods and mmcontrast.methods."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
import torch

import mmcontrast.methods
import mmcontrast.methods.baselines
from mmcontrast.config import OBJECTIVES, Objective
from mmcontrast.methods.base import Batch, Method, build_method, method_class
from tests.grids import grid_of
from tests.methods.conftest import FORMS, VARIANTS

FIRST, LAST = 0, 9

# what embeds is trained by epochs of one stage in turn
IN_STEPS = {"disentangled_ssl"}
# of three modalities alone; its own test has the refusal of others
THREE = {("gram", "triangle")}
# with one row of each modality an instance, and equal temperatures, its targets are its own predictions, and it has no
# gradient; test_mxm_clr.py trains it on multifold data
MULTIFOLD_ALONE = {("mxm_clr", "soft_only")}


# three modalities for every variant, two for one of each form
CASES = [(v, 3) for v in VARIANTS] + [(v, 2) for v in FORMS if v not in THREE]


def label(case):
    variant, n = case
    return f"M={n}-{'/'.join(variant)}"


# what differs in numbers alone is trained once
TRAINED = [
    pytest.param(case, marks=[pytest.mark.slow] if case[1] == 2 else [], id=label(case))
    for case in CASES
    if case[0] in FORMS and case[0] not in MULTIFOLD_ALONE
]


@pytest.fixture(params=CASES, ids=label)
def cell(request, make_cell):
    variant, n = request.param
    return make_cell(*variant, n_modalities=n)


@pytest.fixture
def method(cell):
    torch.manual_seed(0)
    return build_method(cell)


def moments(cell):
    """(stage, epoch) at the start and the end of each stage of a cell."""
    return [(stage, epoch) for stage in cell.stages for epoch in (FIRST, LAST)]


def reordered(batch, order):
    return Batch({m: x[order] for m, x in batch.inputs.items()}, batch.labels[order])


def method_modules() -> set[str]:
    """Methods whose class is found, in a folder or in a file of baselines."""
    folders = [m.name for m in pkgutil.iter_modules(mmcontrast.methods.__path__) if m.ispkg and m.name != "baselines"]
    files = {m.name for m in pkgutil.iter_modules(mmcontrast.methods.baselines.__path__)} - {"objectives"}
    modules = {name: importlib.import_module(f"mmcontrast.methods.baselines.{name}") for name in files}
    in_files = [name for file, module in modules.items() for name in getattr(module, "METHODS", [file])]
    return {name for name in (*folders, *in_files) if issubclass(method_class(name), Method)}


def missing_companions(modules, objectives, implementations, tested) -> list[str]:
    """What stands alone among a method's four parts: module, objective, params file, test module."""
    parts = {"module": modules, "class in OBJECTIVES": objectives, "params file": implementations, "test": tested}
    everything = modules | objectives | implementations
    return sorted(f"{name}: no {part}" for name in everything for part, have in parts.items() if name not in have)


def test_no_method_stands_without_module_objective_params_file_or_test():
    implementations = {spec.implementation for spec in grid_of().methods.values()}
    tested = {p.stem.removeprefix("test_") for p in Path(__file__).parent.glob("test_*.py")}
    assert (
        missing_companions(
            method_modules(), {n for n in OBJECTIVES if issubclass(OBJECTIVES[n], Objective)}, implementations, tested
        )
        == []
    )


@pytest.mark.parametrize(
    ("position", "complaint"), list(enumerate(["module", "class in OBJECTIVES", "params file", "test"])), ids=str
)
def test_the_check_of_companions_notices_each_gap(position, complaint):
    parts = [{"a", "b"}, {"a", "b"}, {"a", "b"}, {"a", "b"}]
    parts[position] = {"a"}
    assert missing_companions(*parts) == [f"b: no {complaint}"]


def test_terms_are_finite_float32_scalars_among_them_the_loss(cell, method, make_batch, make_progress):
    for stage, epoch in moments(cell):
        terms = method(make_batch(cell), make_progress(stage, epoch))
        assert "loss" in terms
        assert all(t.shape == () and t.dtype == torch.float32 and t.isfinite() for t in terms.values())


def test_every_stage_trains_what_embeds_and_every_parameter_is_trained_in_some_stage(
    cell, method, make_batch, make_progress
):
    everything = {name for name, _ in method.named_parameters()}

    def reached(scalar):
        method.zero_grad()
        scalar.backward()
        got = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
        assert all(g.isfinite().all() for g in got.values())
        return set(got)

    def reached_in_steps(stage, epoch):
        """Over several steps where one reaches a part, as one may be drawn to train a single modality."""
        names = set()
        for seed in range(8):
            names |= reached(method(batch, make_progress(stage, epoch, seed=seed))["loss"])
            if names == everything:
                break
        return names

    batch = make_batch(cell)
    embedding = reached(method.embed(batch).sum())
    trained = [reached_in_steps(stage, epoch) for stage, epoch in moments(cell)]
    assert embedding
    assert all(embedding <= names for names in ([set.union(*trained)] if cell.method in IN_STEPS else trained))
    assert set.union(*trained) == everything


def from_the_same_state(method, state, *args):
    """Terms of a method whose momentum copies are as they were."""
    method.load_state_dict(state)
    return method(*args)


def kept(method):
    return {name: value.clone() for name, value in method.state_dict().items()}


def test_autocast_gives_nearly_the_same_loss_in_float32(cell, method, make_batch, make_progress):
    state = kept(method)
    for stage, epoch in moments(cell):
        exact = from_the_same_state(method, state, make_batch(cell), make_progress(stage, epoch))
        # a loss may be a small difference of large terms
        scale = max(abs(term.item()) for term in exact.values())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = from_the_same_state(method, state, make_batch(cell), make_progress(stage, epoch))["loss"]
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, exact["loss"], rtol=0, atol=0.05 * scale)


def test_draws_come_from_the_given_generator_alone(cell, method, make_batch, make_progress):
    batch, state = make_batch(cell), kept(method)
    for stage, epoch in moments(cell):
        torch.manual_seed(1)
        first = from_the_same_state(method, state, batch, make_progress(stage, epoch, seed=5))
        torch.manual_seed(2)
        draws = torch.get_rng_state()
        second = from_the_same_state(method, state, batch, make_progress(stage, epoch, seed=5))
        assert torch.equal(torch.get_rng_state(), draws)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_batch_is_not_modified(cell, method, make_batch, make_progress):
    for stage, epoch in moments(cell):
        batch, copy = make_batch(cell), make_batch(cell)
        method(batch, make_progress(stage, epoch))["loss"].backward()
        assert all(torch.equal(batch.inputs[m], copy.inputs[m]) for m in cell.modalities)
        assert torch.equal(batch.labels, copy.labels)


def test_the_order_of_the_batch_changes_no_term_that_draws_nothing(cell, method, make_batch, make_progress):
    batch = make_batch(cell)
    shuffled = reordered(batch, torch.randperm(12, generator=torch.Generator().manual_seed(3)))
    state = kept(method)
    for stage, epoch in moments(cell):
        terms = from_the_same_state(method, state, batch, make_progress(stage, epoch, seed=0))
        redrawn = from_the_same_state(method, state, batch, make_progress(stage, epoch, seed=1))
        other = from_the_same_state(method, state, shuffled, make_progress(stage, epoch, seed=0))
        for name, term in terms.items():
            if name in redrawn and torch.equal(term, redrawn[name]):
                torch.testing.assert_close(other[name], term, msg=f"{stage}, epoch {epoch}: {name}")


def test_pretraining_sees_no_labels(variants, make_cell, make_batch, make_progress):
    cells = [cell for cell in (make_cell(*v) for v in variants) if cell.pretrain is not None]
    assert cells
    for cell in cells:
        batch = make_batch(cell)
        losses = []
        for labels in (batch.labels, batch.labels.flip(0)):
            torch.manual_seed(0)
            method = build_method(cell)  # afresh, as a teacher follows from the batch before
            losses.append(method(Batch(batch.inputs, labels), make_progress("pretrain"))["loss"])
        assert torch.equal(*losses), cell.name


def test_embed_and_logits_are_deterministic_row_by_row_and_shaped(cell, method, make_batch):
    method.eval()
    batch = make_batch(cell)
    order = torch.arange(12).roll(5)
    state = torch.get_rng_state()
    z_bD, scores_bC = method.embed(batch), method.logits(batch)
    assert torch.equal(method.embed(batch), z_bD)
    assert torch.equal(torch.get_rng_state(), state)
    assert z_bD.ndim == 2
    assert len(z_bD) == 12
    torch.testing.assert_close(method.embed(reordered(batch, order)), z_bD[order])
    if scores_bC is not None:
        assert scores_bC.shape == (12, len(cell.classes))
        torch.testing.assert_close(method.logits(reordered(batch, order)), scores_bC[order])


@pytest.mark.parametrize("cell", TRAINED, indirect=True)
def test_steps_of_adam_lower_the_loss_on_separable_classes(cell, method, make_batch, make_progress):
    batch = make_batch(cell, n=24)
    initial = kept(method)

    def expected_loss(stage, epoch):
        with torch.no_grad():
            return sum(method(batch, make_progress(stage, epoch, seed=s))["loss"].item() for s in range(100, 108))

    def falls(stage, epoch, lr):
        method.load_state_dict(initial)
        optimizer = torch.optim.Adam(method.parameters(), lr=lr)
        before = expected_loss(stage, epoch)
        for step in range(15):
            optimizer.zero_grad()
            method(batch, make_progress(stage, epoch, seed=step))["loss"].backward()
            optimizer.step()
        return expected_loss(stage, epoch) < 0.95 * before

    losses = {
        (stage, epoch): from_the_same_state(method, initial, batch, make_progress(stage, epoch))["loss"].item()
        for stage, epoch in moments(cell)
    }
    for stage, epoch in losses:
        if epoch == LAST and losses[stage, FIRST] == losses[stage, LAST]:
            continue  # nothing of this stage depends on the epoch
        # what moves a small MLP in 15 steps throws a transformer off at first
        assert falls(stage, epoch, 5e-3) or falls(stage, epoch, 1e-3), f"{stage}, epoch {epoch}"

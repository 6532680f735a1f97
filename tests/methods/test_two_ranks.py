"""One rank and two ranks give the same loss and gradients, for every method and every form of its variants.

One pool of two gloo processes computes all cases; each test compares one of them with a single process.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.nn.functional import all_gather

from mmcontrast.config import SequenceModel
from mmcontrast.config.training import TextModel
from mmcontrast.methods.base import Batch, Progress, build_method
from tests.methods import test_kinds

# the pool computes all cases first, which takes longer than the fast tests may
pytestmark = pytest.mark.slow

WORLD = 2
SHARDS = {"even": (4, 4), "uneven": (5, 3)}
EPOCHS = 10
# their encoders normalise by the batch, and augmentations draw for each image
ON_IMAGES = ("comm", "cross_self")
# own encoders of sequences, beside a text by the bidirectional GRU; and targets that are no classes
SEQUENCES = {
    "gru": {"kind": "gru"},
    "transformer": {"kind": "transformer", "heads": 2},
    "conv": {"kind": "conv", "layers": 2, "steps": 8},
}
TARGETS = {
    "multilabel": {"classes": ["x", "y", "z"], "metrics": ["macro_f1"]},
    "regression": {"classes": ["newton", "kelvin"], "metrics": ["mse"]},
}
KINDS_SHARDS = {"even": (6, 6), "uneven": (7, 5)}


def gather_rows(sizes):
    """all_gather with gradient, of ranks that hold `sizes` rows: padded to the longest, and cut again."""

    def gather(x):
        padding = x.new_zeros(max(sizes) - len(x), *x.shape[1:])
        parts = all_gather(torch.cat([x, padding]))
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    return gather


def rows_of(batch, rows):
    present = {m: has[rows] for m, has in batch.present.items()}
    return Batch({m: x[rows] for m, x in batch.inputs.items()}, batch.labels[rows], present=present)


def loss_and_gradients(cell, batch, stage, epoch, **distributed):
    """Terms and the gradients by parameter, in float64 from the same first weights."""
    torch.manual_seed(0)
    method = build_method(cell).double()
    progress = Progress(stage, epoch, EPOCHS, torch.Generator().manual_seed(7), **distributed)
    terms = method(batch, progress)
    terms["loss"].backward()
    return (
        {name: term.detach() for name, term in terms.items()},
        {name: p.grad for name, p in method.named_parameters() if p.grad is not None},
    )


def one_of_two_ranks(rank, folder, cases):
    """Compute every case on this rank's rows, average gradients over the ranks as DDP does, and leave all in a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    results = {}
    for name, (cell, batch, stage, epoch, sizes) in cases.items():
        rows = slice(sum(sizes[:rank]), list(accumulate(sizes))[rank])
        terms, gradients = loss_and_gradients(
            cell, rows_of(batch, rows), stage, epoch, gather=gather_rows(sizes), rows=rows
        )
        for gradient in gradients.values():
            dist.all_reduce(gradient)
            gradient /= WORLD
        results[name] = {"terms": terms, "gradients": gradients}
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def cases(forms, make_cell, make_batch, make_image_cell, make_image_batch, lacking):
    """name -> (cell, batch, stage, epoch, rows of each rank), for every stage of one variant of each form.

    The first epoch goes with even ranks and the last with uneven ones, or the other way round for every other variant.
    """
    out = {}
    # the second rank has no row of one modality
    for method, variant in forms:
        cell = make_cell(method, variant)
        for stage in cell.stages:
            batch = lacking(make_batch(cell, 8, torch.float64), [(1, (0, 5, 6, 7)), (2, (1, 6))])
            out[f"{method}/{variant} {stage} 0 lacking"] = (cell, batch, stage, 0, SHARDS["uneven"])
    for number, (method, variant) in enumerate(forms):
        cell = make_cell(method, variant)
        for stage in cell.stages:
            epochs = (EPOCHS - 1, 0) if number % 2 else (0, EPOCHS - 1)
            for epoch, (shards, sizes) in zip(epochs, SHARDS.items(), strict=True):
                batch = make_batch(cell, sum(sizes), torch.float64)
                out[f"{method}/{variant} {stage} {epoch} {shards}"] = (cell, batch, stage, epoch, sizes)
    for method in ON_IMAGES:
        cell = make_image_cell(method)
        for shards, sizes in SHARDS.items():
            batch = make_image_batch(cell, sum(sizes), torch.float64)
            out[f"{method}/images pretrain 0 {shards}"] = (cell, batch, "pretrain", 0, sizes)
        batch = lacking(make_image_batch(cell, 8, torch.float64), [(1, (0, 5, 6, 7))])
        out[f"{method}/images pretrain 0 lacking"] = (cell, batch, "pretrain", 0, SHARDS["uneven"])
    for name, (cell, batch) in (of_sequences(make_cell) | of_targets(make_cell, make_batch)).items():
        for shards, sizes in KINDS_SHARDS.items():
            stage = cell.stages[-1]
            out[f"{name} {stage} 0 {shards}"] = (cell, batch, stage, 0, sizes)
    return out


def of_sequences(make_cell):
    out = {}
    for method in ("concat", "cross"):
        for kind, sequence in SEQUENCES.items():
            cell = make_cell(method)
            text = TextModel(vocabulary=20, tokens=test_kinds.WORDS, embedding=6, hidden=5)
            model = cell.model.model_copy(update={"text": text, "sequence": SequenceModel(width=8, **sequence)})
            cell = cell.model_copy(update={"modalities": test_kinds.MODALITIES, "model": model})
            batch = test_kinds.batch_of(cell)
            inputs = {m: x.double() if x.is_floating_point() else x for m, x in batch.inputs.items()}
            out[f"{method}/{kind}"] = cell, replace(batch, inputs=inputs)
    return out


def of_targets(make_cell, make_batch):
    out = {}
    for target, named in TARGETS.items():
        cell = make_cell("concat")
        batch = make_batch(cell, 12, torch.float64)
        numbers = next(iter(batch.inputs.values()))[:, : len(named["classes"])]
        labels = (numbers > 0).double() if target == "multilabel" else numbers
        out[f"concat/{target}"] = cell.model_copy(update={"target": target, **named}), replace(batch, labels=labels)
    return out


@pytest.fixture(scope="module")
def two_ranks(cases, tmp_path_factory):
    """What each of two processes computed, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_of_two_ranks, args=(str(folder), cases), nprocs=WORLD)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("shards", SHARDS)
def test_two_ranks_equal_one(formed, shards, cases, two_ranks):
    hold_equal(formed, shards, cases, two_ranks)


def test_two_ranks_equal_one_where_rows_lack_modalities(formed, cases, two_ranks):
    hold_equal(formed, "lacking", cases, two_ranks)


@pytest.mark.parametrize("shards", [*SHARDS, "lacking"])
@pytest.mark.parametrize("method", ON_IMAGES)
def test_two_ranks_equal_one_on_images(method, shards, cases, two_ranks):
    hold_equal((method, "images"), shards, cases, two_ranks)


@pytest.mark.parametrize("shards", KINDS_SHARDS)
@pytest.mark.parametrize(
    "case", [*(("concat", k) for k in SEQUENCES), *(("cross", k) for k in SEQUENCES), *(("concat", t) for t in TARGETS)]
)
def test_two_ranks_equal_one_of_own_encoders_and_other_targets(case, shards, cases, two_ranks):
    hold_equal(case, shards, cases, two_ranks)


def hold_equal(variant, shards, cases, two_ranks):
    mine = {name: case for name, case in cases.items() if name.startswith("/".join(variant) + " ") and shards in name}
    assert mine
    for name, (cell, batch, stage, epoch, _) in mine.items():
        terms, gradients = loss_and_gradients(cell, batch, stage, epoch)
        for rank in range(WORLD):
            got = two_ranks[rank][name]
            assert got["terms"].keys() == terms.keys(), name
            assert got["gradients"].keys() == gradients.keys(), name
            for key, term in terms.items():
                torch.testing.assert_close(got["terms"][key], term, rtol=1e-10, atol=1e-12, msg=f"{name}: {key}")
            for key, gradient in gradients.items():
                torch.testing.assert_close(
                    got["gradients"][key], gradient, rtol=1e-8, atol=1e-12, msg=f"{name}: gradient of {key}"
                )
        assert all(torch.equal(two_ranks[0][name]["terms"][k], two_ranks[1][name]["terms"][k]) for k in terms), name


def test_a_loss_of_local_rows_alone_would_be_another(make_cell, make_batch):
    """Negatives matter: without gathering, the mean over ranks is not the loss of the batch."""
    cell = make_cell("concat", "clip")
    batch = make_batch(cell, 8, torch.float64)
    halves = [
        Batch({m: x[rows] for m, x in batch.inputs.items()}, batch.labels[rows]) for rows in (slice(4), slice(4, 8))
    ]
    whole = loss_and_gradients(cell, batch, "finetune", 0)[0]["loss"]
    local = [loss_and_gradients(cell, half, "finetune", 0)[0]["loss"] for half in halves]
    assert (sum(local) / 2).item() != pytest.approx(whole.item(), rel=1e-3)

"""Batches of multifold data: what is in them, that they repeat, and that ranks share them without a row lost."""

from __future__ import annotations

import pytest
import torch

from mmcontrast.config.training import Sampling
from mmcontrast.data.loading import Observations, load_split
from mmcontrast.errors import ConfigError, DataError
from mmcontrast.training.batching import in_chunks, make_feed
from mmcontrast.training.distributed import World
from tests.multifold_data import NAME, small_cell, write_multifold

CPU = torch.device("cpu")
ONE = World(0, 1, CPU)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The training split; a text's number in the file stands for its word pieces."""
    root = tmp_path_factory.mktemp("data")
    write_multifold(root)
    out = load_split(root / f"data/prepared/{NAME}/train.parquet")
    texts = out.observations["text"]
    out.observations["text"] = Observations(torch.arange(len(texts))[:, None], texts.offsets)
    return out


def feed(table, world=ONE, seed=0, batch_size=8, **sampling):
    cell = small_cell(batch_size=batch_size, sampling=Sampling.model_validate(sampling))
    return make_feed(cell, cell.pretrain, table, world, seed)


def epoch(a_feed, number=0):
    return list(a_feed.epoch(number, torch.Generator()))


def test_by_instance_a_batch_has_different_instances_and_their_own_observations(table):
    batches = epoch(feed(table, by="instance", per_instance={"image": 2, "text": 3}))
    assert len(batches) == 3
    seen = []
    for batch, rows in batches:
        instances = batch.ids["image"].unique_consecutive()
        assert len(instances) == len(instances.unique()) == len(batch.labels) == 8
        assert rows == slice(0, 8)
        assert batch.ids["text"].unique_consecutive().tolist() == instances.tolist()
        assert torch.equal(batch.labels, table.labels[instances])
        for m, most in (("image", 2), ("text", 3)):
            counts = table.observations[m].counts[instances].clamp(max=most)
            assert torch.bincount(batch.ids[m], minlength=len(table))[instances].tolist() == counts.tolist()
        owner = table.observations["text"].instance
        assert torch.equal(owner[batch.inputs["text"][:, 0]], batch.ids["text"])
        assert len(batch.inputs["text"].unique()) == len(batch.inputs["text"])
        seen += instances.tolist()
    assert sorted(seen) == list(range(24))


def test_short_repeat_gives_every_instance_as_many_rows(table):
    (batch, _), *_ = epoch(feed(table, by="instance", per_instance=3, short="repeat"))
    assert {m: len(x) for m, x in batch.inputs.items()} == {"image": 24, "text": 24}


def test_by_caption_rows_are_pairs_of_one_instance_and_an_epoch_has_every_caption_once(table):
    batches = epoch(feed(table, by="caption", anchor="text", batch_size=6))
    seen = []
    for batch, _ in batches:
        assert torch.equal(batch.ids["image"], batch.ids["text"])
        assert torch.equal(batch.labels, table.labels[batch.ids["text"]])
        seen += batch.inputs["text"][:, 0].tolist()
    assert len(set(seen)) == len(seen) == len(table.observations["text"]) // 6 * 6


@pytest.mark.parametrize("sampling", [{"by": "instance", "per_instance": 2}, {"by": "caption", "anchor": "text"}])
def test_an_epoch_is_a_function_of_seed_and_number_alone(table, sampling):
    def inputs(seed, number):
        return [b.inputs["text"] for b, _ in epoch(feed(table, seed=seed, **sampling), number)]

    first = inputs(0, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, inputs(0, 3), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, inputs(0, 4), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, inputs(1, 3), strict=True))


@pytest.mark.parametrize(
    "sampling",
    [{"by": "instance", "per_instance": {"image": 2, "text": 3}}, {"by": "caption", "anchor": "text"}],
)
def test_the_ranks_shares_are_the_batch(table, sampling):
    whole = epoch(feed(table, batch_size=7, **sampling))
    shares = [epoch(feed(table, World(rank, 2, CPU), batch_size=7, **sampling)) for rank in range(2)]
    for (batch, _), (first, rows_1), (second, rows_2) in zip(whole, *shares, strict=True):
        assert (rows_1, rows_2) == (slice(0, 4), slice(4, 7))
        assert torch.equal(torch.cat([first.labels, second.labels]), batch.labels)
        for m in batch.inputs:
            assert torch.equal(torch.cat([first.inputs[m], second.inputs[m]]), batch.inputs[m])
            assert torch.equal(torch.cat([first.ids[m], second.ids[m]]), batch.ids[m])


def test_chunks_have_all_observations_with_their_instances(table, monkeypatch):
    monkeypatch.setattr("mmcontrast.training.batching.EVAL_INSTANCES", 10)
    chunks = list(in_chunks(table, CPU))
    assert [len(c.labels) for c in chunks] == [10, 10, 4]
    for m, of in table.observations.items():
        assert torch.equal(torch.cat([c.inputs[m] for c in chunks]), of.flat)
        assert torch.equal(torch.cat([c.ids[m] for c in chunks]), of.instance)


@pytest.mark.parametrize(
    ("sampling", "says"),
    [
        ({"by": "instance", "per_instance": {"image": 2}}, r"per_instance: names \['image'\], and the modalities"),
        ({"by": "caption", "anchor": "texts"}, "no modality 'texts'; did you mean 'text'"),
    ],
)
def test_sampling_that_does_not_fit_the_data_is_refused(table, sampling, says):
    with pytest.raises(ConfigError, match=says):
        feed(table, **sampling)


def test_texts_that_were_not_made_into_pieces_are_refused(table):
    texts = Observations(["a"] * len(table.observations["text"]), table.observations["text"].offsets)
    raw = table.take(torch.arange(len(table)))
    raw.observations["text"] = texts
    with pytest.raises(DataError, match="modality 'text' holds texts"):
        feed(raw)


@pytest.mark.parametrize(("modality", "counts"), [("text", [2, 0, 1]), ("image", [0, 1, 1])])
def test_an_instance_without_an_observation_is_named(table, modality, counts):
    some = table.take(torch.arange(3))
    offsets = torch.tensor([0, *counts]).cumsum(0)
    flat = table.observations[modality].flat[: int(offsets[-1])]
    some.observations[modality] = Observations(flat, offsets)
    name = f"train-{counts.index(0)}"
    with pytest.raises(DataError, match=rf"{modality}: 1 instance\(s\) without an observation: '{name}'"):
        feed(some, batch_size=2)


def test_one_image_and_five_captions_is_a_batch(table):
    some = table.take(torch.arange(4))
    some.observations["image"] = Observations(table.observations["image"].flat[:4], torch.arange(5))
    some.observations["text"] = Observations(torch.arange(20)[:, None], torch.arange(5) * 5)
    (batch, _), *_ = epoch(feed(some, batch_size=4, by="instance", per_instance={"image": 1, "text": 5}))
    assert {m: len(x) for m, x in batch.inputs.items()} == {"image": 4, "text": 20}
    assert torch.bincount(batch.ids["text"]).tolist() == [5] * 4

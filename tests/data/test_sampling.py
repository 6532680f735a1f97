"""Sampling by instance and by caption: what a batch may hold, and that it follows from seed, epoch and step alone."""

import numpy as np
import pytest

from mmcontrast.data.sampling import CaptionSampler, InstanceSampler
from mmcontrast.errors import DataError

COUNTS = {"image": np.array([4, 4, 1, 3, 2, 4, 4, 2, 3, 4, 4]), "text": np.array([5, 1, 2, 6, 3, 3, 4, 5, 2, 2, 7])}
IDS = [f"emoji{i}" for i in range(11)]


def by_instance(seed=0, short="ragged", **change):
    options = {"batch_size": 4, "per_instance": {"image": 2, "text": 3}, "seed": seed, "short": short} | change
    return InstanceSampler(COUNTS, IDS, **options)


def pairs(rows):
    return list(zip(rows.instance.tolist(), rows.observation.tolist(), strict=True))


def test_a_batch_holds_different_instances_and_no_observation_twice():
    sampler = by_instance()
    for epoch in range(20):
        seen = []
        for step in range(len(sampler)):
            batch = sampler.batch(epoch, step)
            for modality, wanted in (("image", 2), ("text", 3)):
                drawn = pairs(batch[modality])
                assert len(set(drawn)) == len(drawn)
                assert all(o < COUNTS[modality][i] for i, o in drawn)
                instances, rows = np.unique(batch[modality].instance, return_counts=True)
                assert rows.tolist() == np.minimum(wanted, COUNTS[modality][instances]).tolist()
            order = list(dict.fromkeys(batch["image"].instance.tolist()))
            assert order == list(dict.fromkeys(batch["text"].instance.tolist()))
            assert len(order) == 4
            seen += order
        assert len(seen) == len(set(seen)) == 8


def test_repeat_fills_up_evenly():
    batch = by_instance(short="repeat", batch_size=11).batch(0, 0)
    rows = batch["text"]
    assert np.unique(rows.instance, return_counts=True)[1].tolist() == [3] * 11
    assert rows.observation[rows.instance == 1].tolist() == [0, 0, 0]
    assert sorted(np.unique(rows.observation[rows.instance == 2], return_counts=True)[1].tolist()) == [1, 2]


@pytest.mark.parametrize(
    "sampler", [by_instance, lambda seed=0: CaptionSampler(COUNTS, IDS, anchor="text", batch_size=8, seed=seed)]
)
def test_a_batch_follows_from_seed_epoch_and_step_alone(sampler):
    forward = {(e, s): sampler().batch(e, s) for e in range(3) for s in range(2)}
    resumed = sampler()
    for (epoch, step), want in reversed(forward.items()):
        got = resumed.batch(epoch, step)
        assert {m: pairs(r) for m, r in got.items()} == {m: pairs(r) for m, r in want.items()}
    texts = {tuple(pairs(b["text"])) for b in forward.values()}
    assert len(texts) == len(forward)
    assert pairs(sampler(seed=1).batch(0, 0)["text"]) != pairs(forward[0, 0]["text"])


def test_every_observation_is_drawn_about_equally_often():
    sampler = by_instance(batch_size=11)
    drawn = np.concatenate(
        [sampler.batch(e, 0)["text"].observation[sampler.batch(e, 0)["text"].instance == 10] for e in range(700)]
    )
    share = np.bincount(drawn, minlength=7) / 700
    assert np.abs(share - 3 / 7).max() < 0.08  # four standard deviations


def test_captions_each_once_an_epoch_with_their_own_image():
    sampler = CaptionSampler(COUNTS, IDS, anchor="text", batch_size=8, seed=0)
    batches = [sampler.batch(3, s) for s in range(len(sampler))]
    texts = [p for b in batches for p in pairs(b["text"])]
    assert len(texts) == len(set(texts)) == 40
    for b in batches:
        assert b["image"].instance.tolist() == b["text"].instance.tolist()
        assert (b["image"].observation < COUNTS["image"][b["image"].instance]).all()


def test_false_negatives_of_caption_sampling_are_as_many_as_expected():
    sampler = CaptionSampler(COUNTS, IDS, anchor="text", batch_size=8, seed=0)
    met = []
    for epoch in range(300):
        for step in range(len(sampler)):
            rows = np.unique(sampler.batch(epoch, step)["text"].instance, return_counts=True)[1]
            met.append((rows * (rows - 1) // 2).sum())
    # B (B - 1) / 2 pairs times the chance that two captions share an instance
    count_I = COUNTS["text"]
    same = (count_I * (count_I - 1)).sum() / (count_I.sum() * (count_I.sum() - 1))
    assert np.mean(met) == pytest.approx(8 * 7 / 2 * same, rel=0.1)


@pytest.mark.parametrize(
    ("counts", "ids", "says"),
    [
        (
            {"image": np.array([1, 2]), "text": np.array([3, 0])},
            ["a", "b"],
            "text: 1 instance.*without an observation: 'b'",
        ),
    ],
)
def test_data_that_cannot_be_sampled_is_refused(counts, ids, says):
    with pytest.raises(DataError, match=says):
        InstanceSampler(counts, ids, batch_size=2, per_instance={"image": 1, "text": 1}, seed=0)
    with pytest.raises(DataError, match=says):
        CaptionSampler(counts, ids, anchor="text", batch_size=2, seed=0)


def test_one_image_and_five_captions_give_one_row_and_five():
    counts = {"image": np.ones(6, dtype=int), "text": np.full(6, 5)}
    batch = InstanceSampler(counts, IDS[:6], batch_size=6, per_instance={"image": 1, "text": 5}, seed=0).batch(0, 0)
    assert (len(batch["image"].instance), len(batch["text"].instance)) == (6, 30)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch_size": 12}, r"12 is not in \[2, 11\]"),
        ({"batch_size": 1}, "batch_size"),
    ],
)
def test_options_out_of_range_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        by_instance(**change)


def test_a_step_that_does_not_exist_is_refused():
    with pytest.raises(IndexError, match="steps 0 to 1"):
        by_instance().batch(0, 2)

"""What every batch of every sampler owes, for any counts, sizes and seeds."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.data.sampling import CaptionSampler, InstanceSampler
from mmcontrast.errors import DataError, TrainingError
from mmcontrast.methods.tuple_infonce.negatives import derangement
from mmcontrast.training.batching import batches

COUNTS = st.lists(st.integers(1, 5), min_size=2, max_size=9)
SEEDS = st.integers(0, 1000)


def many(counts: list[int]) -> dict[str, np.ndarray]:
    return {"image": np.array(counts), "text": np.array(counts[::-1])}


def names(counts: list[int]) -> list[str]:
    return [f"i{k}" for k in range(len(counts))]


@given(COUNTS, st.integers(1, 6), st.sampled_from(["ragged", "repeat"]), SEEDS, st.data())
def test_a_batch_by_instance(
    counts: list[int], wanted: int, short: Literal["ragged", "repeat"], seed: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(2, len(counts)))
    held = many(counts)
    per_instance = dict.fromkeys(held, wanted)
    made = [
        InstanceSampler(held, names(counts), batch_size=size, per_instance=per_instance, seed=seed, short=short)
        for _ in range(2)
    ]
    seen: list[int] = []
    for step in range(len(made[0])):
        batch, again = (sampler.batch(3, step) for sampler in made)
        for modality, rows in batch.items():
            assert (rows.instance == again[modality].instance).all()
            assert (rows.observation == again[modality].observation).all()
            assert ((rows.observation >= 0) & (rows.observation < held[modality][rows.instance])).all()
            per = Counter(rows.instance.tolist())
            assert len(per) == size
            drawn = Counter(zip(rows.instance.tolist(), rows.observation.tolist(), strict=True))
            for instance, times in per.items():
                there = int(held[modality][instance])
                assert times == (wanted if short == "repeat" else min(wanted, there))
                # none twice while others are left
                own = [n for (i, _), n in drawn.items() if i == instance]
                assert max(own) - min(own) <= 1
                assert len(own) == min(wanted, there)
        assert set(batch["image"].instance) == set(batch["text"].instance)
        seen += sorted(set(batch["image"].instance.tolist()))
    assert len(seen) == len(set(seen)) == size * len(made[0])


@given(COUNTS, SEEDS, st.data())
def test_a_batch_by_caption(counts: list[int], seed: int, data: st.DataObject) -> None:
    held = many(counts)
    size = data.draw(st.integers(2, sum(counts)))
    sampler = CaptionSampler(held, names(counts), anchor="text", batch_size=size, seed=seed)
    shown: list[tuple[int, int]] = []
    for step in range(len(sampler)):
        batch = sampler.batch(0, step)
        assert (batch["image"].instance == batch["text"].instance).all()
        for modality, rows in batch.items():
            assert len(rows.instance) == size
            assert ((rows.observation >= 0) & (rows.observation < held[modality][rows.instance])).all()
        shown += zip(batch["text"].instance.tolist(), batch["text"].observation.tolist(), strict=True)
    assert len(shown) == len(set(shown)) == size * len(sampler)


@given(COUNTS, st.integers(0, 8))
def test_an_instance_without_an_observation_is_named(counts: list[int], at: int) -> None:
    spoiled = many(counts)
    spoiled["image"][at % len(counts)] = 0
    with pytest.raises(DataError, match=f"image: 1 instance.*'i{at % len(counts)}'"):
        CaptionSampler(spoiled, names(counts), anchor="text", batch_size=2, seed=0)


@given(st.integers(1, 300), st.one_of(st.just("full"), st.integers(2, 350)), SEEDS)
def test_an_epoch_shows_every_row_once(n: int, size: int | str, seed: int) -> None:
    epoch = batches(n, size, torch.Generator().manual_seed(seed))
    assert torch.cat(epoch).sort().values.tolist() == list(range(n))
    lengths = [len(batch) for batch in epoch]
    assert max(lengths) - min(lengths) <= 1
    if size != "full":
        assert max(lengths) <= int(size)
    if n >= 2 and size != "full" and int(size) > 2:
        assert min(lengths) >= 2
    again = batches(n, size, torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(epoch, again, strict=True))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=24), SEEDS)
def test_nobody_borrows_from_their_own_scene(scenes: list[int], seed: int) -> None:
    scenes_B = torch.tensor(scenes)
    if len(set(scenes)) < 2:
        with pytest.raises(TrainingError, match="batch"):
            derangement(len(scenes), torch.Generator().manual_seed(seed), scenes_B)
        return
    sources_B = derangement(len(scenes), torch.Generator().manual_seed(seed), scenes_B)
    assert (scenes_B[sources_B] != scenes_B).all()
    if 2 * max(Counter(scenes).values()) <= len(scenes):
        assert sources_B.sort().values.tolist() == list(range(len(scenes)))


@given(st.integers(2, 200), SEEDS)
def test_a_derangement_moves_every_row(n: int, seed: int) -> None:
    sources_B = derangement(n, torch.Generator().manual_seed(seed))
    assert (sources_B != torch.arange(n)).all()
    assert sources_B.sort().values.tolist() == list(range(n))

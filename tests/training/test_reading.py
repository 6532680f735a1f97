"""Batches of real inputs: alike for any number of workers and ranks, and from any step on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcontrast import paths
from mmcontrast.data.inputs import Decoders, EncodedImages
from mmcontrast.data.loading import Table, load_split
from mmcontrast.errors import DataError
from mmcontrast.methods.base import Batch
from mmcontrast.training.batching import RowFeed, in_chunks
from mmcontrast.training.distributed import World
from tests.real_inputs import NAME, rows, write_file
from tests.training.real_cells import numbered

CPU = torch.device("cpu")
ONE = World(0, 1, CPU)
TWO = [World(rank, 2, CPU) for rank in range(2)]
N = 26


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with closing(Decoders(2, pin=False)) as made:
        yield made


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A part of the rows, in an order of its own, as a seed has it."""
    path = write_file(tmp_path / paths.prepared(NAME, "train"), rows(N, 0))
    whole = load_split(path, tmp_path / paths.mapped(NAME, "train"))
    return numbered(whole).take(torch.randperm(N, generator=torch.Generator().manual_seed(0))[:20])


def epoch(table: Table, world: World = ONE, start: int = 0) -> list[tuple[Batch, slice]]:
    return list(RowFeed(table, 7, world).epoch(0, torch.Generator().manual_seed(5), start))


def content(batch: Batch) -> list[tuple[str, bytes]]:
    """Bits, NaN included."""
    found = [*batch.inputs.items(), ("labels", batch.labels), *((f"has {m}", x) for m, x in batch.present.items())]
    return [(f"{name} {tuple(x.shape)}", x.numpy().tobytes()) for name, x in found]


def joined(shares: list[Batch]) -> Batch:
    return Batch(
        {m: torch.cat([s.inputs[m] for s in shares]) for m in shares[0].inputs},
        torch.cat([s.labels for s in shares]),
        None,
        None,
        {m: torch.cat([s.present[m] for s in shares]) for m in shares[0].present},
    )


def test_workers_give_the_same_batches_and_leave_the_global_generator_alone(table: Table, decoders: Decoders) -> None:
    plain, state = epoch(table), torch.get_rng_state()
    ahead = epoch(replace(table, decoders=decoders))
    assert torch.equal(torch.get_rng_state(), state)
    assert [rows for _, rows in ahead] == [rows for _, rows in plain]
    assert [content(batch) for batch, _ in ahead] == [content(batch) for batch, _ in plain]
    assert len(plain) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_the_ranks_shares_are_the_batch_padding_included(table: Table, decoders: Decoders, workers: int) -> None:
    whole = [content(batch) for batch, _ in epoch(table)]
    read = replace(table, decoders=decoders) if workers else table
    shares = zip(*(epoch(read, world) for world in TWO), strict=True)
    assert [content(joined([batch for batch, _ in both])) for both in shares] == whole
    lengths = [[int((~b.inputs["track"].isnan()).any(-1).sum(1).max()) for b, _ in epoch(table, w)] for w in TWO]
    assert any(a != b for a, b in zip(*lengths, strict=True)), "a rank alone would have padded to another length"


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_at_any_step(table: Table, decoders: Decoders, workers: int) -> None:
    read = replace(table, decoders=decoders) if workers else table
    whole = [content(batch) for batch, _ in epoch(table)]
    for start in range(4):
        assert [content(batch) for batch, _ in epoch(read, start=start)] == whole[start:]


def test_nothing_is_decoded_in_vain(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    original = EncodedImages.__getitem__

    def counting(self: EncodedImages, index: torch.Tensor) -> torch.Tensor:
        decoded.append(len(index))
        return original(self, index)

    monkeypatch.setattr(EncodedImages, "__getitem__", counting)
    epoch(table, TWO[0], start=2)
    assert decoded == [3]


def test_what_was_left_in_the_middle_does_not_disturb_what_comes_next(table: Table, decoders: Decoders) -> None:
    read = replace(table, decoders=decoders)
    begun = RowFeed(read, 7, ONE).epoch(0, torch.Generator().manual_seed(1))
    next(begun)
    assert [content(batch) for batch, _ in epoch(read)] == [content(batch) for batch, _ in epoch(table)]
    with pytest.raises(RuntimeError, match="two readers at once"):
        next(begun)


@pytest.mark.parametrize("workers", [0, 2])
def test_chunks_are_all_rows_in_order(
    table: Table, decoders: Decoders, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmcontrast.training.batching.EVAL_INSTANCES", 8)
    read = replace(table, decoders=decoders) if workers else table
    chunks = list(in_chunks(read, CPU))
    assert [len(chunk.labels) for chunk in chunks] == [8, 8, 4]
    for m in ("picture", "vector"):
        assert torch.equal(torch.cat([chunk.inputs[m] for chunk in chunks]), table.inputs[m][slice(None)])
    for m, has_N in table.present.items():
        assert torch.equal(torch.cat([chunk.present[m] for chunk in chunks]), has_N)


def test_a_picture_that_cannot_be_decoded_is_named_by_a_worker_too(tmp_path: Path, decoders: Decoders) -> None:
    given = rows(12, 0)
    given["picture"][10] = b"no picture"
    path = write_file(tmp_path / paths.prepared(NAME, "train"), given)
    table = numbered(load_split(path, tmp_path / "copies"))
    told = r"train\.parquet: modality 'picture', row 10 \(from 0\): the picture cannot be decoded"
    with pytest.raises(DataError, match=told):
        epoch(replace(table, decoders=decoders))
    # the processes go on
    whole = replace(table.take(torch.arange(10)), decoders=decoders)
    assert len(epoch(whole)) == 2
    np.testing.assert_array_equal(epoch(whole)[0][0].labels, epoch(replace(whole, decoders=None))[0][0].labels)

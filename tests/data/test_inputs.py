"""Inputs on the disk, of different lengths, as files of pictures: the same tensors as from memory, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmcontrast.data.inputs import Ragged, Texts, View, part
from mmcontrast.data.loading import held_out, holdout, load_split, load_whole
from mmcontrast.data.pictures import decode
from mmcontrast.errors import DataError
from tests import real_inputs
from tests.real_inputs import MODALITIES, picture, real_cell, rows, write_file

N = 26
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
ORDER = torch.tensor([25, 0, 7, 7, 12, 5])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_file(tmp_path / "real/train.parquet", rows(N, 0))


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything is mapped, in pieces of a few rows."""
    monkeypatch.setattr("mmcontrast.data.loading.MAPPED_FROM", 0)
    monkeypatch.setattr("mmcontrast.data.parquet.PIECE_ROWS", 5)
    return tmp_path / "copies"


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bits, NaN included."""
    return a.shape == b.shape and a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


def test_rows_from_the_disk_are_those_from_memory(path: Path, copies: Path) -> None:
    memory, disk = load_split(path), load_split(path, copies)
    assert len(list(copies.glob("*.arrow"))) == 1
    assert isinstance(memory.inputs["vector"], torch.Tensor)
    assert not isinstance(disk.inputs["vector"], torch.Tensor)
    for index in (slice(None), slice(3, 9), ORDER, ORDER[:0]):
        for name in ("picture", "track", "vector"):
            assert same(memory.inputs[name][index], disk.inputs[name][index])
        assert memory.inputs["title"][index] == disk.inputs["title"][index]
    assert list(memory.inputs["title"]) == list(disk.inputs["title"]) == rows(N, 0)["title"]
    for name, has_N in memory.present.items():
        assert torch.equal(has_N, disk.present[name])


def test_values_and_what_stands_for_a_row_that_lacks_them(path: Path) -> None:
    got, given = load_split(path), rows(N, 0)
    assert set(got.present) == {"picture", "track", "vector"}
    for name, has_N in got.present.items():
        assert has_N.tolist() == [value is not None for value in given[name]]
    track = got.inputs["track"][slice(None)]
    assert track.shape == (N, 7, 2)
    assert track.dtype == torch.float32
    for i in range(N):
        steps = given["track"][i] or []
        assert track[i, : len(steps)].tolist() == steps
        assert track[i, len(steps) :].isnan().all()
        assert got.inputs["vector"][i].tolist() == (given["vector"][i] or [0, 0, 0])
    pictures = got.inputs["picture"][slice(None)]
    assert pictures.shape == (N, 3, 6, 8)
    assert pictures.dtype == torch.uint8
    assert not pictures[0].any()
    np.testing.assert_array_equal(pictures[3], decode(given["picture"][3], [3, 6, 8]))


def test_a_view_is_the_rows_in_its_order_and_no_copy(path: Path, copies: Path) -> None:
    for table in (load_split(path), load_split(path, copies)):
        once = table.take(ORDER)
        twice = once.take(torch.tensor([3, 1]))
        for name in ("picture", "track", "vector"):
            assert same(once.inputs[name][slice(None)], table.inputs[name][ORDER])
            assert same(twice.inputs[name][torch.tensor([1, 0])], table.inputs[name][torch.tensor([0, 7])])
            assert twice.inputs[name].base is table.inputs[name]
        assert list(once.inputs["title"]) == [table.inputs["title"][i] for i in ORDER.tolist()]
        assert once.present["picture"].tolist() == table.present["picture"][ORDER].tolist()


def test_padding_is_to_the_longest_row_of_the_whole_batch() -> None:
    lengths = torch.tensor([1, 3, 2, 0])
    ids = Ragged([np.arange(6)], [np.array([0, 1, 4, 6, 6])], fill=-1)
    assert torch.equal(ids.lengths, lengths)
    assert ids[torch.tensor([0, 2])].tolist() == [[0, -1], [4, 5]]
    assert ids[torch.tensor([3])].tolist() == [[-1]]
    whole = torch.tensor([0, 1, 2])
    for x, shift in ((ids, 0), (View(ids, torch.tensor([3, 0, 1, 2])), 1)):
        shares = [part(x, whole + shift, shard).tensor() for shard in (slice(0, 1), slice(1, 3))]
        assert torch.cat(shares).tolist() == [[0, -1, -1], [1, 2, 3], [4, 5, -1]]
    for row in (4, -1):
        with pytest.raises(IndexError, match="of 4"):
            ids.padded(torch.tensor([row]), 3) if row == 4 else ids.places.of(torch.tensor([row]))


def test_a_copy_is_used_again_and_a_damaged_one_is_made_again(
    path: Path, copies: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_split(path, copies).inputs["vector"][slice(None)]
    (copy,) = copies.glob("*.arrow")
    content, written = copy.read_bytes(), copy.stat().st_mtime_ns
    load_split(path, copies)
    assert copy.stat().st_mtime_ns == written
    for damaged in (content[: len(content) // 2], content[:2000] + b"\0" + content[2001:], b""):
        assert damaged != content
        copy.unlink()  # a mapped file is never written to: the process that has it would see the change
        copy.write_bytes(damaged)
        caplog.clear()
        assert same(load_split(path, copies).inputs["vector"][slice(None)], expected)
        assert "not as it was written; it is made again from" in caplog.text
        assert copy.read_bytes() == content


def test_another_preparation_has_a_copy_of_its_own_and_the_old_one_goes(path: Path, copies: Path) -> None:
    load_split(path, copies)
    (old,) = copies.glob("*.arrow")
    (copies / ".draft").write_bytes(b"what a process left that was killed")
    write_file(path, rows(N, 1))
    got = load_split(path, copies).inputs["vector"][slice(1, 2)]
    assert got[0].tolist() == rows(N, 1)["vector"][1]
    assert not old.exists()
    assert sorted(p.suffix for p in copies.iterdir()) == ["", ".arrow"]


def test_pictures_to_decode_are_mapped_whatever_their_size_and_small_vectors_are_not(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    small = write_file(tmp_path / "real/val.parquet", {"vector": rows(4, 0)["vector"]})
    assert isinstance(load_split(small, copies).inputs["vector"], torch.Tensor)
    assert not copies.exists()
    load_split(write_file(tmp_path / "real/test.parquet", rows(4, 0)), copies)
    assert list(copies.glob("*.arrow"))


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"title": [None] * 8}, "column 'title' has empty cells"),
        ({"track": [[[0.0, float("nan")]]] * 8}, "modality 'track' holds a number that is not finite"),
        ({"vector": [[1.0, 2.0, float("inf")]] * 8}, "modality 'vector' holds a number that is not finite"),
    ],
)
def test_what_is_not_accepted_is_refused_when_it_is_opened(
    tmp_path: Path, copies: Path, on_disk: bool, change: dict[str, list[Any]], says: str
) -> None:
    path = write_file(tmp_path / "real/train.parquet", rows(8, 0) | change)
    with pytest.raises(DataError, match=rf"train\.parquet: {says}.*run `mmcontrast data prepare real`"):
        load_split(path, copies if on_disk else None)
    assert not list(copies.glob("*.arrow"))


@pytest.mark.parametrize(("steps", "limit"), [(0, 7), (3, 2)])
def test_a_sequence_of_no_step_or_of_too_many_is_named(tmp_path: Path, steps: int, limit: int) -> None:
    wrong = rows(8, 0) | {"track": [[[0.0, 1.0]], [[0.0, 1.0]] * steps]}
    del wrong["picture"], wrong["title"], wrong["vector"]
    short = {"track": MODALITIES["track"].model_copy(update={"shape": [limit, 2]})}
    path = write_file(tmp_path / "real/train.parquet", wrong, short)
    told = rf"'track', row 1 \(from 0\): a sequence of {steps} steps; accepted are 1 to {limit}; run"
    with pytest.raises(DataError, match=told):
        load_split(path)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no picture", "cannot identify image file"),
        (b"", "cannot identify image file"),
        (picture(PIXELS)[:100], "truncated"),
        (picture(PIXELS, "JPEG")[:-60], "Truncated"),
        (picture(PIXELS.reshape(8, 6, 3)), "8 x 6 pixels in place of 6 x 8"),
    ],
)
def test_a_picture_that_cannot_be_decoded_is_named(
    tmp_path: Path, copies: Path, on_disk: bool, data: bytes, says: str
) -> None:
    given = rows(12, 0)
    given["picture"][10] = data
    table = load_split(write_file(tmp_path / "real/train.parquet", given), copies if on_disk else None)
    told = rf"train\.parquet: modality 'picture', row 10 \(from 0\): .*({says})"
    with pytest.raises(DataError, match=told + ".*run `mmcontrast data prepare real`"):
        table.take(torch.tensor([1, 10])).inputs["picture"][slice(None)]


def test_all_seeds_share_one_copy(tmp_path: Path) -> None:
    real_inputs.write_data(tmp_path)
    cell = real_cell()
    whole = load_whole(cell, tmp_path)
    seeds = [held_out(cell, whole, seed) for seed in (0, 1)]
    assert seeds[0]["train"].ids != seeds[1]["train"].ids
    for tables in seeds:
        assert len(tables["train"]) + len(tables["val"]) == N
        assert tables["test"] is whole["test"]
        for split in ("train", "val"):
            assert all(x.base is whole["train"].inputs[m] for m, x in tables[split].inputs.items())


@pytest.mark.parametrize(
    ("target", "labels", "wrong", "says"),
    [
        ("multilabel", [[0, 1], [1, 1], [0, 0]], [0, 2], "0 or 1 for each of 2 labels"),
        ("regression", [[0.5, -1e3], [7.0, 0.0], [0.0, 0.0]], [0.0, float("nan")], "a finite number for each of 2"),
    ],
)
def test_labels_that_are_no_classes(
    tmp_path: Path, copies: Path, target: str, labels: list[Any], wrong: list[float], says: str
) -> None:
    path, inputs = tmp_path / "real/train.parquet", {"vector": rows(3, 0)["vector"]}
    write_file(path, inputs, target=target, labels=labels)
    for table in (load_split(path), load_split(path, copies)):
        assert table.target == target
        assert table.labels.dtype == torch.float32
        assert table.take(torch.tensor([2, 1])).labels.tolist() == [labels[2], labels[1]]
    write_file(path, inputs, target=target, labels=[*labels[:2], wrong])
    with pytest.raises(DataError, match=rf"train\.parquet: column 'label' must hold {says}.*prepare real`"):
        load_split(path)


def test_a_split_of_another_target_is_refused(tmp_path: Path) -> None:
    real_inputs.write_data(tmp_path)
    cell = real_cell().model_copy(update={"target": "multilabel"})
    with pytest.raises(DataError, match=r"prepared with target: classes, and .*real\.yaml says target: multilabel"):
        load_whole(cell, tmp_path)


def test_labels_that_are_no_classes_are_not_stratified() -> None:
    several = torch.ones(20, 3)
    train, val = holdout(several, 0.25, seed=1)
    assert (len(train), len(val)) == (15, 5)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(20))


def test_texts_are_refused_until_they_are_numbers(path: Path) -> None:
    table = load_split(path)
    assert isinstance(table.inputs["title"], Texts)
    for some in (table, table.take(ORDER)):
        with pytest.raises(DataError, match="modality 'title' holds texts; they are made into word pieces first"):
            some.refuse_texts()

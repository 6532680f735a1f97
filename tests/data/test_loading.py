"""Tensors are what was prepared, splits belong together, and every label can be learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmcontrast import paths
from mmcontrast.config import CellConfig, Engine, Model, Optimizer, Selection, Stage
from mmcontrast.data import table
from mmcontrast.data.instances import Stream
from mmcontrast.data.loading import holdout, load_dataset, load_split
from mmcontrast.data.parquet import write_parquet
from mmcontrast.data.prepare import mogonet, prepare
from mmcontrast.errors import DataError
from mmcontrast.training.batching import RowFeed, rows_of
from mmcontrast.training.distributed import World
from tests.data.written import feature_names, write_split


@pytest.fixture
def cell(raw_rosmap: Any, small: Any, tmp_path: Path) -> CellConfig:
    """A cell on the small published split, prepared below tmp_path; 8 training rows, no val."""
    dataset, raw = raw_rosmap(small.mogonet_files())
    prepare("rosmap", dataset, raw, tmp_path / "data/prepared/rosmap")
    return CellConfig(
        dataset="rosmap",
        method="m",
        variant="base",
        implementation="concat",
        modalities=dataset.modalities,
        classes=dataset.classes,
        metrics=dataset.metrics,
        objective={},
        model=Model(width=4, encoder_hidden=[], head_hidden=[]),
        pretrain=None,
        finetune=Stage(epochs=1, batch_size="full", optimizer=Optimizer(lr=0.1)),
        selection=Selection(holdout=0.25),
        seeds=[0],
        engine=Engine(),
    )


def rewrite(root: Path, split: str, **change: Any) -> None:
    """Write a split of the small dataset again with other labels or ids."""
    path = root / paths.prepared("rosmap", split)
    content, described = table.read_split(path)
    old = load_split(path)
    names = {m: feature_names(content.schema, m) for m in old.inputs}
    modalities = change.get("modalities", old.modalities)
    layout = table.schema("rosmap", split, modalities, described["classes"], "minmax", names)
    inputs = {m: old.inputs[m].numpy() for m in modalities}
    labels = np.array(change.get("labels", old.labels.tolist()))
    write_split(path, layout, change.get("ids", old.ids), labels, inputs)


def test_tensors_and_names(cell: CellConfig, tmp_path: Path) -> None:
    got = load_split(tmp_path / paths.prepared("rosmap", "test"))
    assert len(got) == 4
    assert got.ids == [f"test-{i:04d}" for i in range(4)]
    assert got.labels.tolist() == [0, 1, 0, 1]
    assert got.labels.dtype == torch.int64
    assert {m: tuple(x.shape) for m, x in got.inputs.items()} == {
        "mrna": (4, 4),
        "methylation": (4, 3),
        "mirna": (4, 2),
    }
    assert all(x.dtype == torch.float32 and x.is_contiguous() for x in got.inputs.values())
    assert got.modalities == cell.modalities
    assert got.classes == ["no", "yes"]
    content, _ = table.read_split(tmp_path / paths.prepared("rosmap", "test"))
    np.testing.assert_array_equal(got.inputs["mirna"], np.array(content["mirna"].to_pylist(), dtype=np.float32))


def test_vectors_are_not_copied(cell: CellConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, described = table.read_split(tmp_path / paths.prepared("rosmap", "train"))
    monkeypatch.setattr("mmcontrast.data.loading.read_split", lambda _: (content, described))
    got = load_split(tmp_path / "train.parquet")
    for name, x in got.inputs.items():
        assert x.data_ptr() == content[name].chunk(0).flatten().buffers()[1].address


def test_an_empty_split_has_shapes_too(cell: CellConfig, tmp_path: Path) -> None:
    got = load_split(tmp_path / paths.prepared("rosmap", "val"))
    assert len(got) == 0
    assert {m: tuple(x.shape) for m, x in got.inputs.items()} == {
        "mrna": (0, 4),
        "methylation": (0, 3),
        "mirna": (0, 2),
    }


def test_take_keeps_rows_together(cell: CellConfig, tmp_path: Path) -> None:
    train = load_split(tmp_path / paths.prepared("rosmap", "train"))
    got = train.take(torch.tensor([5, 0]))
    assert got.ids == ["train-0005", "train-0000"]
    assert got.labels.tolist() == [1, 0]
    assert torch.equal(got.inputs["mrna"][:], train.inputs["mrna"][[5, 0]])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_holdout_is_stratified_and_complete(share: float) -> None:
    labels = torch.tensor([0] * 10 + [1] * 30 + [2])
    train, val = holdout(labels, share, seed=3)
    assert sorted(train.tolist() + val.tolist()) == list(range(41))
    assert labels[val].bincount(minlength=3).tolist() == [round(10 * share), round(30 * share), 0]
    assert train.dtype == val.dtype == torch.int64


def test_holdout_follows_the_seed() -> None:
    labels = torch.arange(60) % 3
    assert torch.equal(holdout(labels, 0.2, 1)[1], holdout(labels, 0.2, 1)[1])
    assert not torch.equal(holdout(labels, 0.2, 1)[1], holdout(labels, 0.2, 2)[1])


def test_without_a_val_split_a_share_of_train_is_held_out(cell: CellConfig, tmp_path: Path) -> None:
    got = load_dataset(cell, tmp_path, seed=0)
    assert {split: len(t) for split, t in got.items()} == {"train": 6, "val": 2, "test": 4}
    assert sorted(got["val"].labels.tolist()) == [0, 1]
    assert set(got["train"].ids) | set(got["val"].ids) == {f"train-{i:04d}" for i in range(8)}
    assert list(got["train"].inputs) == list(cell.modalities)
    others = [load_dataset(cell, tmp_path, seed=s)["val"].ids for s in range(6)]
    assert len({tuple(ids) for ids in others}) > 1


def test_a_holdout_of_zero_trains_on_all(cell: CellConfig, tmp_path: Path) -> None:
    everything = cell.model_copy(update={"selection": Selection(holdout=0.0)})
    got = load_dataset(everything, tmp_path, seed=0)
    assert {split: len(t) for split, t in got.items()} == {"train": 8, "val": 0, "test": 4}


def test_a_published_val_split_is_used_as_it_is(cell: CellConfig, raw_tcga: Any, small: Any, tmp_path: Path) -> None:
    dataset, raw = raw_tcga(small.tcga_files())
    prepare("tcga_brca", dataset, raw, tmp_path / "data/prepared/tcga_brca")
    other = cell.model_copy(update={"dataset": "tcga_brca", "classes": dataset.classes})
    one, two = load_dataset(other, tmp_path, seed=0), load_dataset(other, tmp_path, seed=1)
    assert {split: len(t) for split, t in one.items()} == {"train": 10, "val": 5, "test": 5}
    assert one["train"].ids == two["train"].ids


def test_a_holdout_that_leaves_nothing_is_refused(cell: CellConfig, tmp_path: Path) -> None:
    tiny = cell.model_copy(update={"selection": Selection(holdout=0.01)})
    with pytest.raises(DataError, match=r"selection\.holdout 0\.01 of 8 training rows leaves none to validate on"):
        load_dataset(tiny, tmp_path, seed=0)


def test_a_label_unseen_in_train(cell: CellConfig, tmp_path: Path) -> None:
    rewrite(tmp_path, "train", labels=[0] * 8)
    with pytest.raises(
        DataError, match=r"rosmap: label 1 \(yes\) is in the test split \(2 rows\) but in no row of train"
    ):
        load_dataset(cell, tmp_path, seed=0)


def test_a_label_that_is_no_class(cell: CellConfig, tmp_path: Path) -> None:
    rewrite(tmp_path, "test", labels=[0, 1, 2, 1])
    with pytest.raises(DataError, match=r"test\.parquet: column 'label' goes from 0 to 2, and there are 2 classes"):
        load_dataset(cell, tmp_path, seed=0)


def test_splits_of_different_preparations_are_refused(cell: CellConfig, tmp_path: Path) -> None:
    rewrite(tmp_path, "test", ids=["test-0000", "train-0003", "test-0002", "test-0003"])
    with pytest.raises(DataError, match=r"id 'train-0003' is in train and in test .* with a split that keeps"):
        load_dataset(cell, tmp_path, seed=0)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (
            {"classes": ["yes", "no"]},
            r"prepared with classes: \['no', 'yes'\], and params/datasets/rosmap\.yaml says classes: \['yes",
        ),
        (
            {"modalities": "reversed"},
            r"prepared with modalities: mrna vector \[4\], .* modalities: mirna vector \[2\], ",
        ),
    ],
)
def test_files_prepared_for_other_params(cell: CellConfig, tmp_path: Path, update: Any, message: str) -> None:
    if update.get("modalities") == "reversed":
        update = {"modalities": dict(reversed(cell.modalities.items()))}
    with pytest.raises(DataError, match=r"train\.parquet: " + message + r".*run `mmcontrast data prepare rosmap`"):
        load_dataset(cell.model_copy(update=update), tmp_path, seed=0)


def with_scenes(raw_rosmap: Any, small: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prepare the small split with a video for every two rows; the videos of train."""
    dataset, raw = raw_rosmap(small.mogonet_files(), scenes="video")
    stream = mogonet.stream

    def grouped(*args: Any) -> Stream:
        got = stream(*args)
        return replace(
            got, instances=[replace(one, group=f"{one.split}-{i // 2}") for i, one in enumerate(got.instances)]
        )

    monkeypatch.setattr(mogonet, "stream", grouped)
    prepare("rosmap", dataset, raw, root / "data/prepared/rosmap")
    return [f"train-{i // 2}" for i in range(8)]


def test_scenes_go_with_their_rows_into_batches(
    cell: CellConfig, raw_rosmap: Any, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = with_scenes(raw_rosmap, small, tmp_path, monkeypatch)
    marked = cell.model_copy(update={"scenes": "video", "selection": Selection(holdout=0.0)})
    train = load_dataset(marked, tmp_path, seed=0)["train"]
    assert train.scenes is not None
    of = dict(zip(train.ids, videos, strict=True))
    for taken in (train, train.take(torch.tensor([5, 0, 4]))):
        assert taken.scenes is not None
        numbers = dict(zip(taken.ids, taken.scenes.tolist(), strict=True))
        assert all((of[a] == of[b]) == (numbers[a] == numbers[b]) for a in numbers for b in numbers)
    feed = RowFeed(train, 3, World(0, 1, torch.device("cpu")))
    seen = []
    for batch, _ in feed.epoch(0, torch.Generator().manual_seed(0)):
        assert batch.scenes is not None
        for x, scene in zip(batch.inputs["mrna"], batch.scenes, strict=True):
            (row,) = (train.inputs["mrna"] == x).all(dim=1).nonzero()[:, 0].tolist()
            assert scene == train.scenes[row]
            seen.append(row)
    assert sorted(seen) == list(range(8))


def test_data_without_scenes_give_none_and_are_refused_where_params_say_there_are(
    cell: CellConfig, tmp_path: Path
) -> None:
    assert rows_of(load_dataset(cell, tmp_path, seed=0)["train"], slice(None), torch.device("cpu")).scenes is None
    with pytest.raises(DataError, match=r"prepared with scenes: None, and .*rosmap\.yaml says scenes: video; run"):
        load_dataset(cell.model_copy(update={"scenes": "video"}), tmp_path, seed=0)


def test_scenes_of_a_reader_that_knows_none_are_refused(raw_rosmap: Any, small: Any, tmp_path: Path) -> None:
    dataset, raw = raw_rosmap(small.mogonet_files(), scenes="video")
    with pytest.raises(
        DataError, match=r"rosmap\.yaml: scenes says 'video', and instance 'train-0000' has none; remove"
    ):
        prepare("rosmap", dataset, raw, tmp_path / "out")


def test_one_split_of_other_params(cell: CellConfig, tmp_path: Path) -> None:
    rewrite(tmp_path, "test", modalities={"mrna": cell.modalities["mrna"]})
    with pytest.raises(DataError, match=r"test\.parquet: prepared with modalities: mrna vector \[4\], and"):
        load_dataset(cell, tmp_path, seed=0)


def test_a_truncated_file(cell: CellConfig, tmp_path: Path) -> None:
    path = tmp_path / paths.prepared("rosmap", "train")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"rosmap/train\.parquet: damaged, .*run `mmcontrast data prepare rosmap`"):
        load_dataset(cell, tmp_path, seed=0)


def test_not_prepared(cell: CellConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.parquet: no such file; run `mmcontrast data prepare rosmap`"):
        load_dataset(cell, tmp_path / "elsewhere", seed=0)


def test_other_numbers_than_were_prepared_are_refused(cell: CellConfig, tmp_path: Path) -> None:
    """A split of another preparation fits in every other way; the datasheet says that it is not this one."""
    path = tmp_path / paths.prepared("rosmap", "train")
    content, _ = table.read_split(path)
    at = content.column_names.index("mrna")
    other = np.zeros(len(content) * 4, np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(other), type=content.schema.field("mrna").type)
    write_parquet(content.set_column(at, content.schema.field("mrna"), column), path)
    with pytest.raises(DataError, match=r"train\.parquet: changed since it was prepared \(sha256 .*run `mmcontrast"):
        load_dataset(cell, tmp_path, seed=0)
    (path.parent / "datasheet.json").write_text("[")
    with pytest.raises(DataError, match=r"datasheet\.json: not a datasheet"):
        load_dataset(cell, tmp_path, seed=0)


def test_a_number_that_is_not_finite_is_refused(cell: CellConfig, tmp_path: Path) -> None:
    path = tmp_path / paths.prepared("rosmap", "train")
    content, _ = table.read_split(path)
    at = content.column_names.index("mrna")
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(np.full(len(content) * 4, np.nan, np.float32)), type=content.schema.field("mrna").type
    )
    write_parquet(content.set_column(at, content.schema.field("mrna"), column), path)
    with pytest.raises(DataError, match=r"train\.parquet: modality 'mrna' holds a number that is not finite"):
        load_split(path)


def test_a_dataset_that_names_itself_is_trained_on_whole_and_probed_with_a_part(
    cell: CellConfig, tmp_path: Path
) -> None:
    got = load_dataset(cell.model_copy(update={"probe_from": "rosmap"}), tmp_path, seed=0)
    assert {split: len(t) for split, t in got.items()} == {"train": 8, "val": 2, "test": 4, "probe": 6}
    assert set(got["probe"].ids) | set(got["val"].ids) == set(got["train"].ids)


def test_probes_of_another_dataset_are_fitted_on_its_train_and_validated_on_a_part_of_it(
    cell: CellConfig, tmp_path: Path
) -> None:
    folder = tmp_path / paths.prepared("rosmap", "train")
    other = tmp_path / paths.prepared("other", "train")
    other.parent.mkdir(parents=True)
    other.write_bytes(folder.read_bytes())
    # rows of this train that the other one has too are no leak: probes never see this train
    probed = cell.model_copy(update={"probe_from": "other"})
    assert ("other", "train") in probed.data
    got = load_dataset(probed, tmp_path, seed=0)
    assert {split: len(t) for split, t in got.items()} == {"train": 8, "val": 2, "test": 4, "probe": 6}
    other.write_bytes((tmp_path / paths.prepared("rosmap", "test")).read_bytes())
    with pytest.raises(DataError, match="id 'test-0000' is in probe and in test"):
        load_dataset(probed.model_copy(update={"selection": Selection(holdout=0.0)}), tmp_path, seed=0)

"""Images and multifold modalities: written by column type, read back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mmcontrast.config import Modality
from mmcontrast.data import table
from mmcontrast.data.loading import load_split
from mmcontrast.errors import DataError

IMAGE = Modality(kind="image", shape=[3, 2, 2])
MANY = {
    "image": IMAGE.model_copy(update={"multifold": True}),
    "text": Modality(kind="text", shape=[], multifold=True),
}
COUNTS = [2, 1, 3]
PIXELS = np.arange(6 * 12, dtype=np.uint8).reshape(6, 3, 2, 2)
TEXTS = [["a", "b"], ["c"], ["d", "e"]]


def pixels(images: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), type=table.column_type(IMAGE))


def written(path: Path, modalities: dict[str, Modality], columns: dict[str, pa.Array]) -> Path:
    layout = table.schema("d", "train", modalities, ["no", "yes"], "none", {})
    path.parent.mkdir(parents=True, exist_ok=True)
    n = len(next(iter(columns.values())))
    ids, labels = pa.array([f"i{k}" for k in range(n)]), pa.array([k % 2 for k in range(n)], pa.int64())
    arrays = [ids, labels, *(column.cast(layout.field(name).type) for name, column in columns.items())]
    pq.write_table(pa.Table.from_arrays(arrays, schema=layout), path)
    return path


@pytest.fixture
def multifold(tmp_path: Path) -> Path:
    starts = pa.array(np.cumsum([0, *COUNTS]), pa.int32())
    columns = {"image": pa.ListArray.from_arrays(starts, pixels(PIXELS)), "text": pa.array(TEXTS)}
    return written(tmp_path / "d/train.parquet", MANY, columns)


def test_images_come_back_as_bytes(tmp_path: Path) -> None:
    path = written(
        tmp_path / "d/train.parquet", {"one": IMAGE, "two": IMAGE}, {m: pixels(PIXELS) for m in ("one", "two")}
    )
    got = load_split(path)
    assert got.inputs["two"].dtype == torch.uint8
    np.testing.assert_array_equal(got.inputs["two"], PIXELS)
    np.testing.assert_array_equal(got.take(torch.tensor([4, 0])).inputs["one"][:], PIXELS[[4, 0]])


def test_observations_come_back_with_their_instance(multifold: Path) -> None:
    got = load_split(multifold)
    assert got.inputs == {}
    assert len(got) == 3
    image, text = got.observations["image"], got.observations["text"]
    assert (len(image), image.counts.tolist(), image.instance.tolist()) == (6, COUNTS, [0, 0, 1, 2, 2, 2])
    np.testing.assert_array_equal(image.flat, PIXELS)
    assert (text.flat, text.offsets.tolist()) == (["a", "b", "c", "d", "e"], [0, 2, 3, 5])


def test_rows_take_their_observations_along(multifold: Path) -> None:
    got = load_split(multifold).take(torch.tensor([2, 0]))
    assert (got.ids, got.observations["text"].flat) == (["i2", "i0"], ["d", "e", "a", "b"])
    assert got.observations["image"].offsets.tolist() == [0, 3, 5]
    np.testing.assert_array_equal(got.observations["image"].flat[:], PIXELS[[3, 4, 5, 0, 1]])
    assert len(got.take(torch.tensor([], dtype=torch.int64)).observations["image"]) == 0


def test_an_empty_cell_inside_a_list_is_refused(multifold: Path) -> None:
    content = pq.read_table(multifold)
    holed = content.set_column(3, "text", pa.array([["a", None], ["c"], ["d"]]))
    pq.write_table(holed.replace_schema_metadata(content.schema.metadata), multifold)
    with pytest.raises(DataError, match="column 'text' has empty cells; run `mmcontrast data prepare d`"):
        load_split(multifold)


def test_another_number_of_pixels_is_refused(tmp_path: Path, multifold: Path) -> None:
    other = written(
        tmp_path / "e/train.parquet",
        {"image": Modality(kind="image", shape=[3, 1, 4]), "two": IMAGE},
        {"image": pixels(PIXELS), "two": pixels(PIXELS)},
    )
    content, metadata = pq.read_table(other), pq.read_schema(multifold).metadata
    renamed = content.rename_columns(["id", "label", "image", "text"]).replace_schema_metadata(metadata)
    pq.write_table(renamed, other)
    with pytest.raises(DataError, match=r"column 'image': fixed_size_list.*\[12\], expected list"):
        load_split(other)

"""What is written is read back, by us and by others; what is damaged or foreign is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcontrast.config import Modality
from mmcontrast.data import table
from mmcontrast.errors import DataError
from tests.data.written import feature_names, write_split

MODALITIES = {"mrna": Modality(kind="vector", shape=[3]), "mirna": Modality(kind="vector", shape=[2])}
NAMES = {"mrna": ["a", "b", "ç|1"], "mirna": ["d", "e"]}
X = {"mrna": np.arange(12, dtype=np.float64).reshape(4, 3) / 7, "mirna": np.arange(8.0).reshape(4, 2)}
IDS = ["p0", "p1", "p2", "p3"]
LABELS = np.array([0, 1, 1, 0])
LAYOUT = table.schema("d", "train", MODALITIES, ["no", "yes"], "minmax", NAMES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    out = tmp_path / "d" / "train.parquet"
    write_split(out, LAYOUT, IDS, LABELS, X)
    return out


def test_round_trip(path: Path) -> None:
    content, described = table.read_split(path)
    assert content["id"].to_pylist() == IDS
    assert content["label"].to_pylist() == LABELS.tolist()
    got = np.array(content["mrna"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(got, X["mrna"].astype(np.float32))
    assert described["modalities"] == {n: {"kind": m.kind, "shape": m.shape} for n, m in MODALITIES.items()}
    assert feature_names(content.schema, "mrna") == NAMES["mrna"]


def test_polars_reads_it_as_it_is(path: Path) -> None:
    frame = pl.read_parquet(path)
    assert frame.schema == {
        "id": pl.String,
        "label": pl.Int64,
        "mrna": pl.Array(pl.Float32, 3),
        "mirna": pl.Array(pl.Float32, 2),
    }


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "val.parquet"
    write_split(path, LAYOUT, [], LABELS[:0], {n: x[:0] for n, x in X.items()})
    content, _ = table.read_split(path)
    assert content.num_rows == 0
    assert content.schema.field("mrna").type.list_size == 3


def test_equal_content_gives_equal_bytes(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "again.parquet"
    write_split(other, LAYOUT, IDS, LABELS, {n: np.asfortranarray(x) for n, x in X.items()})
    assert other.read_bytes() == path.read_bytes()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d/test\.parquet: no such file; run `mmcontrast data prepare d`"):
        table.read_split(tmp_path / "d" / "test.parquet")


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_file(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train\.parquet: damaged, or not a Parquet file .*mmcontrast data prepare d`"):
        table.read_split(path)


def test_a_hole_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40:80] = bytes(40)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"train\.parquet: damaged"):
        table.read_split(path)


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"id": ["a"], "label": [0]}).write_parquet(path)
    with pytest.raises(DataError, match=r"x\.parquet: not written by `mmcontrast data prepare`"):
        table.read_split(path)


def rewritten(path: Path, content: pa.Table, metadata: bytes | None = None) -> Path:
    metadata = metadata or LAYOUT.metadata[table.METADATA_KEY]
    pq.write_table(content.replace_schema_metadata({table.METADATA_KEY: metadata}), path)
    return path


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (b"{", "metadata not understood"),
        (b"[]", "metadata not understood"),
        (b'{"modalities": {"mrna": {"kind": "smell", "shape": []}}}', "metadata not understood"),
        (b'{"modalities": {}, "dataset": "d", "split": "train"}', "metadata without classes, scaling"),
    ],
)
def test_metadata_that_is_wrong(path: Path, metadata: bytes, message: str) -> None:
    content = pq.read_table(path)
    with pytest.raises(DataError, match=r"train\.parquet: " + message):
        table.read_split(rewritten(path, content, metadata))


def test_columns_that_do_not_fit_the_metadata(path: Path) -> None:
    content = pq.read_table(path)
    with pytest.raises(
        DataError, match=r"columns \['id', 'label', 'mrna'\], expected \['id', 'label', 'mrna', 'mirna'\]"
    ):
        table.read_split(rewritten(path, content.drop_columns(["mirna"])))
    wide = content.set_column(3, "mirna", content["mrna"])
    with pytest.raises(DataError, match=r"column 'mirna': fixed_size_list.*\[3\], expected fixed_size_list.*\[2\]"):
        table.read_split(rewritten(path, wide))


def test_empty_cells(path: Path) -> None:
    content = pq.read_table(path)
    holes = pa.array([[1.0, None], [1, 2], [1, 2], [1, 2]], pa.list_(pa.float32(), 2))
    with pytest.raises(DataError, match="column 'mirna' has empty cells"):
        table.read_split(rewritten(path, content.set_column(3, "mirna", holes)))
    with pytest.raises(DataError, match="column 'label' has empty cells"):
        table.read_split(rewritten(path, content.set_column(1, "label", pa.array([0, None, 1, 0], pa.int64()))))


def test_further_tasks_have_columns_of_their_own_and_leave_files_without_any_as_they_were(
    path: Path, tmp_path: Path
) -> None:
    tasks = {"colour": np.array([2, 0, 1, 0])}
    layout = table.schema("d", "train", MODALITIES, ["no", "yes"], "minmax", NAMES, {"colour": ["r", "g", "b"]})
    write_split(tmp_path / "more.parquet", layout, IDS, LABELS, X, tasks)
    content, described = table.read_split(tmp_path / "more.parquet")
    assert content.column_names == ["id", "label", "label_colour", "mrna", "mirna"]
    assert content["label_colour"].to_pylist() == [2, 0, 1, 0]
    assert described["tasks"] == {"colour": ["r", "g", "b"]}

    assert table.schema("d", "train", MODALITIES, ["no", "yes"], "minmax", NAMES, {}).metadata == LAYOUT.metadata
    write_split(tmp_path / "none.parquet", LAYOUT, IDS, LABELS, X, {})
    assert (tmp_path / "none.parquet").read_bytes() == path.read_bytes()
    assert set(json.loads(LAYOUT.metadata[table.METADATA_KEY])) == set(table.METADATA_FIELDS)


INPUTS = {
    "pen": Modality(kind="sequence", shape=[9, 4], optional=True),
    "photo": Modality(kind="image", shape=[3, 8, 8], encoded=True, optional=True),
    "caption": Modality(kind="text", shape=[], optional=True),
}


def test_the_layout_of_sequences_pictures_and_texts_that_may_be_missing(tmp_path: Path) -> None:
    layout = table.schema("d", "train", INPUTS, ["no", "yes"], "none", {})
    step = pa.list_(pa.float32(), 4)
    kinds = [str(layout.field(m).type).replace(" not null", "") for m in INPUTS]
    assert kinds == [str(kind) for kind in (pa.list_(step), pa.binary(), pa.string())]
    cells = {"id": ["a", "b"], "label": [0, 1], "pen": [[[1, 2, 3, 4]], None], "photo": [None, b"x"]}
    content = pa.table({**cells, "caption": [None, ""]}, layout)
    pq.write_table(content, tmp_path / "train.parquet")
    got, described = table.read_split(tmp_path / "train.parquet")
    assert got.equals(content)
    assert described["modalities"]["photo"] == {
        "kind": "image",
        "shape": [3, 8, 8],
        "optional": True,
        "encoded": True,
    }
    gap = pa.array([[[1, None, 3, 4]], None], pa.list_(step))
    pq.write_table(content.set_column(2, "pen", gap), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet: column 'pen' has empty cells"):
        table.read_split(tmp_path / "train.parquet")


@pytest.mark.parametrize(("target", "item"), [("multilabel", pa.uint8()), ("regression", pa.float32())])
def test_labels_that_are_no_classes(tmp_path: Path, target: str, item: pa.DataType) -> None:
    layout = table.schema("d", "train", {"caption": INPUTS["caption"]}, ["x", "y"], "none", {}, target=target)
    content = pa.table({"id": ["a"], "label": [[1, 0]], "caption": ["c"]}, layout)
    assert content["label"].type == pa.list_(pa.field("item", item, nullable=False), 2)
    pq.write_table(content, tmp_path / "train.parquet")
    assert table.read_split(tmp_path / "train.parquet")[1]["target"] == target
    described = layout.metadata[table.METADATA_KEY].replace(target.encode(), b"clases")
    pq.write_table(content.replace_schema_metadata({table.METADATA_KEY: described}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"metadata not understood \(target 'clases'; did you mean 'classes'"):
        table.read_split(tmp_path / "train.parquet")


def test_scenes_have_a_column_and_leave_files_without_any_as_they_were(path: Path, tmp_path: Path) -> None:
    layout = table.schema("d", "train", MODALITIES, ["no", "yes"], "minmax", NAMES, scenes="video")
    out = tmp_path / "d" / "scenes.parquet"
    write_split(out, layout, IDS, LABELS, X, scenes=["b", "a", "b", "c"])
    content, described = table.read_split(out)
    assert content.column_names == ["id", "label", "scene", "mrna", "mirna"]
    assert content["scene"].to_pylist() == ["b", "a", "b", "c"]
    assert described["scenes"] == "video"
    assert "scenes" not in table.read_split(path)[1]
    out = rewritten(out, content.drop_columns(["scene"]), layout.metadata[table.METADATA_KEY])
    with pytest.raises(DataError, match=r"columns \['id', 'label', 'mrna', 'mirna'\], expected .*'scene'"):
        table.read_split(out)

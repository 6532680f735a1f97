"""A dataset of vectors of frozen encoders: the library's own, row for row, and everything else as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mmcontrast.config import Dataset, Grid, Modality, Pretrained
from mmcontrast.config.grid import check_datasets
from mmcontrast.data import parquet
from mmcontrast.data.loading import load_split
from mmcontrast.data.outside import preparer
from mmcontrast.data.prepare import features, prepare
from mmcontrast.data.table import column_type
from mmcontrast.errors import ConfigError, DataError
from mmcontrast.pipeline.plan import dataset_plans
from tests import real_inputs
from tests.grids import grid_of
from tests.multifold_data import SIZES, write_multifold
from tests.tiny_pretrained import WIDTH, write_encoder

pytest.importorskip("transformers")
ROOT = Path(__file__).parents[2]
RANDOM = {"kind": "random", "train": 0.5, "val": 0.2, "test": 0.3, "seed": 0}


def derived(tmp_path: Path, **values: Any) -> Dataset:
    base = grid_of().datasets["emoji"].model_dump(mode="json")
    vectors = {m: {"kind": "vector", "shape": [WIDTH], "multifold": True} for m in ("image", "text")}
    encoders = {
        "image": {"folder": str(tmp_path / "vit"), "tuning": "frozen", "pooling": "cls"},
        "text": {"folder": str(tmp_path / "bert"), "tuning": "frozen", "tokens": 5},
    }
    changed = {
        "split": {"kind": "published", **SIZES},
        "sources": [],
        "features_of": "emoji",
        "encoders": encoders,
        "modalities": vectors,
        "prepare": {},
    }
    return Dataset.model_validate(base | {"rows": sum(SIZES.values())} | changed | values)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_multifold(tmp_path)
    for name in ("vit", "bert"):
        write_encoder(name, tmp_path / name)
    return tmp_path


def test_every_vector_is_the_librarys_and_labels_are_kept(checkout: Path) -> None:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    spec, out = derived(checkout), checkout / "data/prepared/features"
    assert preparer("features", spec) == "features"
    sheet = prepare("features", spec, checkout / "none", out)
    before, after = (load_split(checkout / f"data/prepared/{name}/train.parquet") for name in ("emoji", "features"))
    assert (after.ids, after.labels.tolist()) == (before.ids, before.labels.tolist())
    text, image = (after.observations[m] for m in ("text", "image"))
    assert text.offsets.tolist() == before.observations["text"].offsets.tolist()
    tokenizer, bert = AutoTokenizer.from_pretrained("bert"), AutoModel.from_pretrained("bert", dtype=torch.float64)
    vit = AutoModel.from_pretrained("vit", dtype=torch.float64)
    side = AutoImageProcessor.from_pretrained("vit").crop_size["height"]
    with torch.no_grad():
        for row in (0, 3, 17):
            one = before.observations["text"].flat[row]
            ids = tokenizer(one, truncation=True, max_length=5, return_tensors="pt")["input_ids"]
            wanted = bert(input_ids=ids).last_hidden_state.mean(1)[0]
            torch.testing.assert_close(text.flat[row].double(), wanted, rtol=0, atol=1e-6)
            small = torch.nn.functional.interpolate(
                before.observations["image"].flat[row][None].double() / 255,
                (side, side),
                mode="bicubic",
                antialias=True,
            ).clamp(0, 1)
            mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.25, 0.3, 0.2]).view(3, 1, 1)
            wanted = vit(pixel_values=(small - mean) / std).last_hidden_state[0, 0]
            torch.testing.assert_close(image.flat[row].double(), wanted, rtol=0, atol=1e-5)
    said = sheet["report"]["encoders"]
    assert (said["text"]["type"], said["text"]["longest"], said["image"]["pictures"]["side"]) == ("bert", 5, side)
    assert said["text"]["cut"] > 0
    assert set(said["image"]["files"]) >= {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert sheet["report"]["features_of"]["dataset"] == "emoji"
    again = {p.name: p.read_bytes() for p in out.iterdir()}
    prepare("features", spec, checkout / "none", out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == again


def test_how_rows_are_batched_changes_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for batch, rows in ((32, 512), (3, 5)):
        monkeypatch.setattr(parquet, "BATCH_ROWS", rows)
        out = checkout / f"data/prepared/by_{batch}"
        prepare("features", derived(checkout, prepare={"batch": batch}), checkout, out)
        found.append(pq.read_table(out / "train.parquet").to_pydict())
    assert found[0] == found[1]


def test_a_row_that_lacks_the_modality_lacks_its_vector() -> None:
    one, several = (Modality(kind="sequence", shape=[3, 1], multifold=multifold) for multifold in (False, True))
    rows = [[[1.0], [2.0]], None, [[5.0]]]

    def last(values: Sequence[Any]) -> np.ndarray:
        return np.array([value[-1] for value in values])

    column = pa.array(rows, column_type(one.model_copy(update={"optional": True})))
    found = features._encoded(features._values(column, one), one, last)
    assert [None if v is None else v.tolist() for v in found] == [[2], None, [5]]
    column = pa.array([[rows[0], rows[2]], [rows[2]]], column_type(several))
    found = features._encoded(features._values(column, several), several, last)
    assert [[v.tolist() for v in row] for row in found] == [[[2], [5]], [[5]]]
    assert features._encoded([None], one, last) == [None]


def of_files(root: Path, files: list[bytes | None]) -> list[Any]:
    """The features of a base whose pictures are stored as files."""
    photo = Modality(kind="image", shape=[3, 8, 8], encoded=True, optional=True)
    for split in SIZES:
        real_inputs.write_file(root / f"data/prepared/files/{split}.parquet", {"photo": files}, {"photo": photo})
    changed = {
        "features_of": "files",
        "modalities": {"photo": {"kind": "vector", "shape": [WIDTH], "optional": True}},
        "encoders": {"photo": {"folder": str(root / "vit"), "tuning": "frozen", "pooling": "cls"}},
        "retrieval": None,
        "target": "classes",
        "metrics": ["acc"],
    }
    made = features.stream("features", derived(root, **changed), root / "none").instances
    return [instance.values["photo"] for instance in made]


def test_files_of_pictures_are_decoded_and_one_that_cannot_be_is_named(checkout: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    files = [real_inputs.picture(x) for x in pixels]
    first, lacking, last = of_files(checkout, [files[0], None, files[1]])[:3]
    assert lacking is None
    spec = Pretrained(folder=str(checkout / "vit"), tuning="frozen", pooling="cls")
    out, options = Modality(kind="vector", shape=[WIDTH]), features.FeatureOptions()
    encode = features.Frozen(Modality(kind="image", shape=[3, 8, 8]), out, spec, options, "here")
    np.testing.assert_array_equal([first, last], encode(list(pixels.transpose(0, 3, 1, 2))))
    told = r"files/train\.parquet: instance 'train-1': modality 'photo': the picture cannot be decoded \(.*trunc"
    with pytest.raises(DataError, match=told + ".*run `mmcontrast data prepare files`"):
        of_files(checkout, [files[0], files[1][:100]])


def test_every_picture_of_a_row_is_decoded() -> None:
    several = Modality(kind="image", shape=[3, 6, 8], encoded=True, multifold=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    (both,) = features._decoded([[real_inputs.picture(x) for x in pixels]], several, ["a"], Path("none"), "photo")
    np.testing.assert_array_equal(both, pixels.transpose(0, 3, 1, 2))


def test_a_base_that_is_not_there_or_another_width_is_said(checkout: Path) -> None:
    out = checkout / "data/prepared/features"
    with pytest.raises(DataError, match=r"nowhere/train\.parquet: .*run `mmcontrast data prepare nowhere`"):
        prepare("features", derived(checkout, features_of="nowhere"), checkout, out)
    vectors = {m: {"kind": "vector", "shape": [7], "multifold": True} for m in ("image", "text")}
    with pytest.raises(ConfigError, match=rf"encoders\.image: the encoder's vectors are \[{WIDTH}\], .* \[7\]"):
        prepare("features", derived(checkout, modalities=vectors), checkout, out)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"rows": 1, "split": {"kind": "random", "train": 0.5, "val": 0.2, "test": 0.3, "seed": 0}},
            "rows: not that of",
        ),
        ({"features_of": "emojis"}, r"no dataset 'emojis'; did you mean 'emoji'"),
        ({"classes": ["a", "b"]}, "classes: not that of 'emoji', whose features these are"),
        ({"encoders": {"text": {"folder": "a", "tuning": "frozen"}}}, r"modalities\.image: 'emoji' has .*'image'"),
    ],
)
def test_features_are_of_the_same_instances(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    grid = Grid(ROOT)
    rows = grid.datasets["emoji"].rows
    whole = {"rows": rows, "split": {"kind": "published", "train": rows - 20, "val": 10, "test": 10}}
    grid.datasets["features"] = derived(tmp_path, **whole)
    check_datasets(grid)
    grid.datasets["features"] = derived(tmp_path, **whole | values)
    with pytest.raises(ConfigError, match=rf"datasets/features\.yaml: .*{says}"):
        check_datasets(grid)


def test_features_without_encoders_or_of_trained_ones_are_refused(tmp_path: Path) -> None:
    for values, says in (
        ({"encoders": {}}, "features_of: goes with `encoders`"),
        ({"encoders": {"text": {"folder": "a"}}}, "give `tuning: frozen`"),
        ({"features_of": None, "encoders": {}}, "give `sources`"),
    ):
        with pytest.raises(ValueError, match=says):
            derived(tmp_path, **values)


def test_the_plan_holds_the_encoders_files_and_code_but_not_what_is_fetched(checkout: Path) -> None:
    ((_, text),) = dataset_plans("features", derived(checkout))
    plan = json.loads(text)
    assert {Path(f).name for f in plan["files"]} >= {"model.safetensors", "config.json", "tokenizer.json"}
    assert "mmcontrast/models/pretrained.py" in plan["code"]
    (checkout / "data/raw/features").mkdir(parents=True)
    (checkout / "bert").rename(checkout / "data/raw/features/bert")
    fetched = {"text": Pretrained(folder="data/raw/features/bert", tuning="frozen").model_dump(exclude_none=True)}
    values = derived(checkout).model_dump(mode="json")
    values["encoders"]["text"] = fetched["text"]
    ((_, text),) = dataset_plans("features", Dataset.model_validate(values))
    assert {Path(f).parts[-2] for f in json.loads(text)["files"]} == {"vit"}
    ((_, text),) = dataset_plans("emoji", Grid(ROOT).datasets["emoji"].model_copy(update={"sources": []}))
    assert "files" not in json.loads(text)

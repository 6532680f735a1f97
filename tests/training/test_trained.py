"""A trained model gives of raw rows what training stored of them, for every method and kind of input."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import mmcontrast
from mmcontrast.config import CellConfig
from mmcontrast.data.loading import load_split
from mmcontrast.data.scaling import write_fitted
from mmcontrast.errors import DataError
from mmcontrast.evaluation.columns import column, output_column
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.evaluation.scores import score
from mmcontrast.methods.registry import implementations
from mmcontrast.paths import Layout
from mmcontrast.trained import TrainedModel, exported_epoch
from mmcontrast.training.cell import run_stage
from tests import multifold_data, raw_rows
from tests.tiny_pretrained import write_encoder

LAYOUT = Layout("tests")
# one of the methods of params/ for each implementation, and the kinds that it takes
METHODS = {"instance_contrast": "siglip", "pairwise": "cross_self", "tuple_contrast": "symile"}
# whose embeddings are made of labels, which new rows do not have
OF_LABELS = {"oracle"}
NO_MIXTURES = ("vital", "photo")
KINDS = {"mixup": NO_MIXTURES, "raw": ("vital", "photo", "pen"), "factorcl": ("vital", "pen")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").symlink_to(Path(__file__).parents[2] / "src")
    return tmp_path


def trained(cell: CellConfig) -> tuple[TrainedModel, Path]:
    """The model of the last stage, and the folder of its outputs."""
    for stage in cell.stages:
        run_stage(cell, stage, LAYOUT)
    stage_folder = Path(LAYOUT.stage(cell.name, cell.last_stage))
    return mmcontrast.load(Path(LAYOUT.run(cell.name, ""))), stage_folder


def stored(folder: Path, name: str) -> pl.DataFrame:
    """Of the test split, in the order of the data."""
    return pl.read_parquet(folder / f"{name}.parquet").filter(split="test")


def check(cell: CellConfig, raw: dict[str, Any]) -> None:
    model, folder = trained(cell)
    embeddings = stored(folder, "embeddings")
    names = [c.removeprefix("embedding").removeprefix("@") for c in embeddings.columns if c.startswith("embedding")]
    for readout in names:
        again = model.embed(raw, readout)
        np.testing.assert_allclose(again, embeddings[column(readout)].to_numpy(), rtol=0, atol=1e-6)
        assert again.std(0).max() > 1e-3
    outputs = model.predict(raw) if cell.target == "regression" else model.predict_proba(raw)
    if cell.scored_by == "classifier":
        epoch = exported_epoch(folder / "models/seed3.safetensors")
        expected = stored(folder, "predictions").filter(epoch=epoch)[output_column(cell.target)].to_numpy()
        np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-6)
    else:
        hold_to_scores(cell, model, outputs, embeddings["label"].to_numpy())
    if cell.target == "classes":
        assert model.predict(raw).tolist() == np.array(cell.classes)[outputs.argmax(1)].tolist()
    if cell.target == "multilabel":
        assert model.predict(raw).tolist() == (outputs > 0.5).tolist()


def hold_to_scores(cell: CellConfig, model: TrainedModel, outputs: np.ndarray, labels: np.ndarray) -> None:
    """What the probe predicts of raw rows has the scores that evaluation stores, for every metric."""
    files = [Path(f"{name}.parquet") for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, Path(LAYOUT.scored(cell.name, cell.last_stage, "probe")), *files)
    scored = pl.read_parquet(files[0]).filter(split="test", protocol="selected")
    for metric in cell.metrics:
        expected = scored.filter(metric=metric)["value"].item()
        assert score(metric, labels, outputs) == pytest.approx(expected, rel=1e-4)
    assert outputs.std(0).max() > 1e-3
    assert model.embeddings is not None
    model.embeddings.rename("elsewhere.parquet")
    with pytest.raises(DataError, match=r"no classifier, and its probe is fitted to embeddings\.parquet of its run"):
        mmcontrast.load(Path(LAYOUT.run(cell.name, ""))).predict({})
    Path("elsewhere.parquet").rename(model.embeddings)


@pytest.mark.parametrize("target", ["multilabel", "regression"])
@pytest.mark.parametrize("method", ["concat", "cross"])
def test_other_targets_are_predicted_too(folder: Path, method: str, target: str) -> None:
    kinds = ("vital", "pen")
    raw_rows.write(folder, kinds, target)
    check(raw_rows.cell_of(method, kinds, target=target), raw_rows.raw(kinds))
    model = mmcontrast.load(Path(LAYOUT.run(f"{raw_rows.NAME}/{method}/base", "")))
    if target == "regression":
        with pytest.raises(DataError, match="predicts quantities, which have no probabilities"):
            model.predict_proba(raw_rows.raw(kinds))


def test_tensors_where_they_are_asked_for(folder: Path) -> None:
    raw_rows.write(folder, ("vital", "pen"))
    model, _ = trained(raw_rows.cell_of("concat", ("vital", "pen")))
    raw = raw_rows.raw(("vital", "pen"))
    z, probs = model.embed(raw, as_torch=True), model.predict_proba(raw, as_torch=True)
    assert z.dtype == probs.dtype == torch.float32
    np.testing.assert_array_equal(z.numpy(), model.embed(raw))
    np.testing.assert_array_equal(probs.numpy(), model.predict_proba(raw))


def test_a_label_at_one_half_is_not_predicted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As scores count it."""
    raw_rows.write(folder, ("vital", "pen"), "multilabel")
    model, _ = trained(raw_rows.cell_of("concat", ("vital", "pen"), target="multilabel"))
    half = torch.tensor([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]])
    monkeypatch.setattr("mmcontrast.trained.predict", lambda *_: half)
    assert model.predict({m: x[:1] for m, x in raw_rows.raw(("vital", "pen")).items()}).tolist() == [[0, 1]]


@pytest.mark.parametrize("implementation", sorted(set(implementations()) - OF_LABELS))
def test_raw_rows_of_every_kind_give_what_training_stored(folder: Path, implementation: str) -> None:
    kinds = KINDS.get(implementation, tuple(raw_rows.KINDS))
    raw_rows.write(folder, kinds)
    check(raw_rows.cell_of(METHODS.get(implementation, implementation), kinds), raw_rows.raw(kinds))


@pytest.mark.parametrize("implementation", sorted(OF_LABELS))
def test_what_embeds_labels_takes_no_new_rows(folder: Path, implementation: str) -> None:
    raw_rows.write(folder, ("vital",))
    with pytest.raises(DataError, match=f"{implementation} embeds labels, which new rows do not have"):
        trained(raw_rows.cell_of(implementation, ("vital",)))


@pytest.mark.parametrize("tuning", ["full", "frozen", "lora"])
def test_a_pretrained_encoder_is_not_needed_any_more(folder: Path, tuning: str) -> None:
    pytest.importorskip("transformers")
    kinds = ("photo", "note")
    raw_rows.write(folder, kinds)
    given: dict[str, Any] = {"tuning": tuning}
    if tuning == "lora":
        pytest.importorskip("peft")
        given["lora"] = {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["query", "v_proj"]}
    pretrained = {"text": {"folder": "bert"} | given, "photo": {"folder": "vit"} | given}
    for spec in pretrained.values():
        write_encoder(spec["folder"], folder / spec["folder"])
    cell = raw_rows.cell_of("concat", kinds)
    model = cell.model.model_validate(cell.model.model_dump() | {"pretrained": pretrained, "text": None})
    cell = cell.model_copy(update={"model": model})
    before, _ = trained(cell)
    expected = before.embed(raw_rows.raw(kinds))
    for name in ("bert", "vit"):
        shutil.rmtree(folder / name)
    models = Path(LAYOUT.stage(cell.name, "finetune", "models"))
    again = mmcontrast.load(models)
    stored_z = stored(models.parent, "embeddings")["embedding"].to_numpy()
    np.testing.assert_allclose(again.embed(raw_rows.raw(kinds)), stored_z, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(again.embed(raw_rows.raw(kinds)), expected)
    assert again.cell == cell
    assert not list(models.rglob("model.safetensors"))
    (models / "encoders/text/tokenizer_config.json").write_text("{}")
    with pytest.raises(DataError, match=r"encoders/text/tokenizer_config\.json: not what training wrote there"):
        mmcontrast.load(models)


def raw_observations(root: Path) -> dict[str, Any]:
    table = load_split(root / "data/prepared/emoji/test.parquet")
    out = {}
    for m, of in table.observations.items():
        ends = of.offsets.tolist()
        flat = of.flat if isinstance(of.flat, list) else [x.numpy() for x in of.flat]
        out[m] = [flat[a:b] for a, b in pairwise(ends)]
    return out


@pytest.mark.parametrize("method", ["mxm_clr", "mil_nce"])
def test_observations_of_raw_rows_are_those_that_are_ranked(folder: Path, method: str) -> None:
    multifold_data.write_multifold(folder)
    cell = multifold_data.small_cell(method, epochs=2).model_copy(update={"seeds": [0]})
    model, stage_folder = trained(cell)
    raw, epoch = raw_observations(folder), exported_epoch(stage_folder / "models/seed0.safetensors")
    kept = stored(stage_folder, "embeddings").filter(epoch=epoch)
    found = model.observations(raw)
    ids = load_split(folder / "data/prepared/emoji/test.parquet").ids
    for m, (z, row) in found.items():
        of = kept.filter(modality=m)
        np.testing.assert_allclose(z, of["embedding"].to_numpy(), rtol=0, atol=1e-6)
        assert [ids[i] for i in row] == of["id"].to_list()
    # queries alone, as in a search; and each row's mean observation, zeros where it has none
    texts = {"text": raw["text"]}
    np.testing.assert_allclose(model.observations(texts)["text"][0], found["text"][0], rtol=0, atol=1e-6)
    whole, half = model.embed(raw), model.embed(texts | {"image": [None, *raw["image"][1:]]})
    np.testing.assert_allclose(half[1:], whole[1:], rtol=0, atol=1e-6)
    width = whole.shape[1] // 2
    np.testing.assert_allclose(half[0, width:], whole[0, width:], rtol=0, atol=1e-6)
    assert not half[0, :width].any()
    with pytest.raises(DataError, match="has no classifier"):
        model.predict(raw)
    # classes by their texts: of each row's first text the drawings' mean row is as near as it says
    texts = {f"class {k}": row[0] for k, row in enumerate(raw["text"][:4])}
    names, similarity = model.zero_shot({"image": raw["image"]}, texts)
    (image, of), (text, whose) = found["image"], found["text"]
    mean = np.stack([image[of == i].mean(0) for i in range(len(ids))])
    first = text[[np.flatnonzero(whose == k)[0] for k in range(4)]]
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True) @ first.T
    np.testing.assert_allclose(similarity, expected, rtol=0, atol=1e-5)
    assert names.tolist() == [f"class {k}" for k in expected.argmax(1)]
    with pytest.raises(DataError, match=r"row 1 \(from 0\) has no input"):
        model.zero_shot({"image": [raw["image"][0], None]}, texts)
    with pytest.raises(DataError, match="modalities are image, text, and text came as inputs"):
        model.zero_shot({"text": raw["text"]}, texts)


def test_frames_paths_and_missing_rows(folder: Path) -> None:
    raw_rows.write(folder)
    model, _ = trained(raw_rows.cell_of("cross"))
    raw = raw_rows.raw()
    expected = model.embed(raw)
    numbers = np.stack(raw["vital"])
    # by the names of its columns, in any order, with what is no feature left aside
    named = {"height": numbers[:, 2], "age": numbers[:, 0], "pulse": numbers[:, 0], "weight": numbers[:, 1]}
    np.testing.assert_array_equal(model.embed(raw | {"vital": pl.DataFrame(named)}), expected)
    np.testing.assert_array_equal(model.embed(raw | {"vital": torch.tensor(numbers)}), expected)
    # what the trained encoders make of each modality is side by side
    width = model.cell.model.width
    for k, m in enumerate(raw):
        alone = model.embed({m: raw[m][:1]})
        np.testing.assert_allclose(
            alone[0, k * width : (k + 1) * width], expected[0, k * width : (k + 1) * width], atol=1e-6
        )
        assert not np.delete(alone[0], range(k * width, (k + 1) * width)).any()


def test_what_the_model_does_not_take_is_refused_by_name(folder: Path) -> None:
    raw_rows.write(folder)
    model, _ = trained(raw_rows.cell_of("concat"))
    raw = raw_rows.raw()
    numbers = pl.DataFrame({"pulse": [1.0], "weight": [2.0]})
    wrong: list[tuple[dict[str, Any], str]] = [
        (raw | {"notes": raw["note"]}, "no modality 'notes'; did you mean 'note'"),
        ({}, "inputs: none; give as many of each modality, at least one row"),
        (raw | {"note": []}, "9 rows of 'vital', .*0 rows of 'note'; give as many"),
        (raw | {"note": "a text"}, "modality 'note': a single str; give a list"),
        (raw | {"note": [3, *raw["note"][1:]]}, r"modality 'note', row 0 \(from 0\): int, expected a text"),
        (raw | {"vital": np.zeros((9, 4))}, r"modality 'vital', row 0 \(from 0\): shape \[4\], expected \[3\]"),
        (raw | {"vital": [["a", 1, 2]] * 9}, "modality 'vital', row 0 .*could not convert string"),
        (raw | {"vital": numbers}, "1 of 3 features are no columns of it, such as 'height'"),
        (raw | {"pen": numbers}, "modality 'pen': a frame; accepted for vectors alone"),
        (raw | {"photo": [b"no picture"] * 9}, "modality 'photo', row 0 .*the picture cannot be decoded"),
        (raw | {"photo": ["nowhere.png"] * 9}, "nowhere.png: no such picture"),
        (
            {m: x for m, x in raw.items() if m != "note"},
            "row 0 .*has no 'note', and concat was trained where every row",
        ),
        ({m: [None] for m in raw}, r"row 0 \(from 0\) has no input, every modality is missing"),
    ]
    for given, told in wrong:
        with pytest.raises(DataError, match=told):
            model.embed(given)
    with pytest.raises(DataError, match="readout 'encoder': concat has none of that name"):
        model.embed(raw, "encoder")
    # what rows of the data may lack, new ones may lack too
    lacking = raw | {"photo": None, "pen": [None] * 9}
    assert np.isfinite(model.predict_proba(lacking)).all()


def test_a_scaler_that_did_not_travel_is_missed(folder: Path) -> None:
    raw_rows.write(folder)
    write_fitted(Path("data/prepared/raw_rows"), {}, {})
    model, _ = trained(raw_rows.cell_of("concat"))
    with pytest.raises(DataError, match="nothing was kept with the model that scales 'vital'; train the cell again"):
        model.embed(raw_rows.raw())

"""A pretrained CLIP on Flickr30K's layout, from files to scores; a BERT and a ViT, stopped and on two ranks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from mmcontrast import paths
from mmcontrast.config import CellConfig, Dataset, Pretrained
from mmcontrast.data.fetch import fetch
from mmcontrast.data.prepare import prepare
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.paths import Layout
from mmcontrast.training.cell import fingerprint, run_stage
from mmcontrast.training.distributed import World
from tests import multifold_data
from tests.flickr_files import write_flickr
from tests.grids import grid_of
from tests.tiny_pretrained import SIDE, write_encoder
from tests.training import resuming
from tests.training.ranks import Ranks

ROOT = Path(__file__).parents[2]
LAYOUT = Layout("tests")
SIZES = {"train": 12, "val": 10, "test": 10}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("transformers")
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    write_encoder("clip", tmp_path / "pretrained/tiny")
    raw = Path("data/raw/flickr30k")
    write_flickr(raw, [split for split, n in SIZES.items() for _ in range(n)])
    spec = dataset()
    fetch("flickr30k", spec, raw)
    prepare("flickr30k", spec, raw, Path(paths.prepared("flickr30k", "train")).parent)
    return tmp_path


def dataset() -> Dataset:
    values = grid_of().datasets["flickr30k"].model_dump(mode="json")
    values["modalities"]["image"]["shape"] = [3, SIDE, SIDE]
    return Dataset.model_validate(values | {"rows": sum(SIZES.values()), "split": {"kind": "published"} | SIZES})


def cell_of(variant: str) -> CellConfig:
    cell = grid_of().cell("flickr30k", "mxm_clr", variant)
    assert cell.pretrain is not None
    tiny = {m: spec.model_copy(update={"folder": "pretrained/tiny"}) for m, spec in cell.model.pretrained.items()}
    return cell.model_copy(
        update={
            "pretrain": cell.pretrain.model_copy(update={"epochs": 2, "batch_size": 6}),
            "model": cell.model.model_copy(update={"width": 12, "pretrained": tiny}),
            "modalities": dataset().modalities,
            "seeds": [0],
            "engine": cell.engine.model_copy(update={"backend": "torch"}),
        }
    )


@pytest.mark.parametrize("variant", ["clip_finetuned", "clip_frozen"])
def test_from_files_to_scores(checkout: Path, variant: str) -> None:
    cell = cell_of(variant)
    run_stage(cell, "pretrain", LAYOUT)
    stored = Path(LAYOUT.stage(cell.name, "pretrain", "embeddings.parquet"))
    frame = pl.read_parquet(stored).filter(split="test", epoch=1)
    counts = dict(frame.group_by("modality").len().iter_rows())
    assert counts == {"image": 10, "text": 50}
    np.testing.assert_allclose(np.linalg.norm(frame["embedding"].to_numpy(), axis=1), 1, atol=1e-5)
    out = [checkout / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, stored, *out)
    metrics = pl.read_parquet(out[0])
    # each text's nearest image, by plain numpy
    image, text = (frame.filter(modality=m) for m in ("image", "text"))
    nearest = (text["embedding"].to_numpy() @ image["embedding"].to_numpy().T).argmax(1)
    right = np.mean(image["id"].to_numpy()[nearest] == text["id"].to_numpy())
    last = metrics.filter(metric="text_to_image/rr1", split="test", protocol="last")["value"].to_list()
    assert last == [pytest.approx(right)]
    assert 0 < right < 1


def test_other_weights_are_another_stage(checkout: Path) -> None:
    cell = cell_of("clip_frozen")
    before = fingerprint(cell, "pretrain", None)
    assert fingerprint(cell, "pretrain", None) == before
    path = checkout / "pretrained/tiny/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert fingerprint(cell, "pretrain", None) != before


BOTH = {"text": "bert", "image": "vit"}


def bert_and_vit(ranks: int = 1, **values: Any) -> CellConfig:
    """Trained with a rate of their own, on the ragged images and texts that the other tests resume on."""
    cell = resuming.small("emoji/mxm_clr/base", ranks=ranks)
    spec = {"lr": 1e-3} | values
    given = {m: Pretrained.model_validate({"folder": f"pretrained/{name}"} | spec) for m, name in BOTH.items()}
    return cell.model_copy(update={"model": cell.model.model_copy(update={"pretrained": given, "text": None})})


@pytest.fixture
def trained_encoders(checkout: Path) -> Path:
    for name in BOTH.values():
        write_encoder(name, checkout / "pretrained" / name)
    multifold_data.write_multifold(checkout)
    return checkout


def test_a_text_and_a_picture_encoder_resume_to_the_bit(trained_encoders: Path) -> None:
    undisturbed, interrupted, number = resuming.with_and_without_stops(bert_and_vit(), "killed")
    assert number >= 3
    assert interrupted == undisturbed


def weights_of_ranks(world: World, root: str) -> dict[str, Any]:
    """A job of each rank: the trained weights, on rank 0."""
    before = Path.cwd()
    os.chdir(root)
    try:
        cell = bert_and_vit(ranks=2)
        run_stage(cell, "pretrain", LAYOUT)
        file = Path(LAYOUT.stage(cell.name, "pretrain", "models/seed3.safetensors"))
        return {k: v.numpy() for k, v in load_file(file).items()} if world.rank == 0 else {}
    finally:
        os.chdir(before)


@pytest.mark.slow
def test_two_ranks_train_them_as_one_does(trained_encoders: Path, ranks: Ranks) -> None:
    shared = ranks.call(weights_of_ranks, str(trained_encoders))[0]
    cell = bert_and_vit()
    shutil.rmtree(LAYOUT.stage(cell.name, "pretrain"))
    run_stage(cell, "pretrain", LAYOUT)
    alone = load_file(Path(LAYOUT.stage(cell.name, "pretrain", "models/seed3.safetensors")))
    assert alone.keys() == shared.keys()
    # a bias of the keys moves all scores of a query alike: its gradient is rounding, of which Adam makes whole steps
    compared = {n: w for n, w in alone.items() if not n.endswith(("key.bias", "k_proj.bias"))}
    assert len(alone) - len(compared) == 4  # two layers each
    for name, value in compared.items():
        np.testing.assert_allclose(shared[name], value.numpy(), rtol=1e-3, atol=2e-5, err_msg=name)

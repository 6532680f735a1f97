"""A pretrained CLIP on Flickr30K's layout, from files to scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmcontrast import paths
from mmcontrast.config import CellConfig, Dataset, Grid, PretrainedCLIP
from mmcontrast.data.fetch import fetch
from mmcontrast.data.prepare import prepare
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.paths import Layout
from mmcontrast.training.cell import fingerprint, run_stage
from tests.flickr_files import write_flickr
from tests.tiny_clip import SIDE, WIDTH, write_clip

ROOT = Path(__file__).parents[2]
LAYOUT = Layout("tests")
SIZES = {"train": 12, "val": 10, "test": 10}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("transformers")
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "pretrained/tiny")
    raw = Path("data/raw/flickr30k")
    write_flickr(raw, [split for split, n in SIZES.items() for _ in range(n)])
    spec = dataset()
    fetch("flickr30k", spec, raw)
    prepare("flickr30k", spec, raw, Path(paths.prepared("flickr30k", "train")).parent)
    return tmp_path


def dataset() -> Dataset:
    values = Grid(ROOT).datasets["flickr30k"].model_dump(mode="json")
    values["modalities"]["image"]["shape"] = [3, SIDE, SIDE]
    return Dataset.model_validate(values | {"rows": sum(SIZES.values()), "split": {"kind": "published"} | SIZES})


def cell_of(variant: str) -> CellConfig:
    cell = Grid(ROOT).cell("flickr30k", "mxm_clr", variant)
    assert cell.pretrain is not None
    assert cell.model.clip is not None
    clip = PretrainedCLIP(folder="pretrained/tiny", frozen=cell.model.clip.frozen)
    return cell.model_copy(
        update={
            "pretrain": cell.pretrain.model_copy(update={"epochs": 2, "batch_size": 6}),
            "model": cell.model.model_copy(update={"width": WIDTH, "clip": clip}),
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

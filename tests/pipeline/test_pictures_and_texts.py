"""Pictures and texts in the files of N24News, by M3CoL's own params but smaller: from raw files to the report.

Once with a vision transformer and a BERT that are trained, once with vectors of the same two, frozen, as a stage of its
own. Both encoders are tiny and random, as transformers saves them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from tests import tiny_pretrained

pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
SECTIONS = ["Health", "Books"]
WORDS = {"Health": "a cat ran over a cat", "Books": "two dogs and a dog"}
SIZES = {"train": 48, "dev": 16, "test": 24}
SUITE = {
    "description": "Files of N24News.",
    "datasets": ["news", "news_frozen"],
    "experiments": ["news"],
    "seeds": [0, 1],
    "engine": {"backend": "torch"},
}
EXPERIMENT = {
    "title": "News",
    "caption": "Pictures and headlines.",
    "kind": "table",
    "datasets": ["news", "news_frozen"],
    "cells": [{"method": "concat"}, {"method": "m3col"}],
    "reference": {"method": "m3col"},
}


def write_news(raw: Path) -> None:
    """Half the articles of a section have its colour in their picture, the other half its words in their headline."""
    for split, n in SIZES.items():
        items = []
        for i in range(n):
            section, image_id = SECTIONS[i % 2], f"{split}{i}"
            by_picture = i % 4 < 2
            level = (40, 200)[i % 2] if by_picture else 120
            noise = np.random.default_rng([n, i]).integers(-20, 20, (12, 16, 3))
            (raw / "imgs").mkdir(parents=True, exist_ok=True)
            Image.fromarray((level + noise).astype(np.uint8)).save(raw / "imgs" / f"{image_id}.jpg")
            headline = f"and {i}" if by_picture else f"{WORDS[section]} {i}"
            items.append({"section": section, "image_id": image_id, "headline": headline, "caption": "x"})
        (raw / "news").mkdir(exist_ok=True)
        (raw / "news" / f"nytimes_{split}.json").write_text(json.dumps(items), encoding="utf-8")


def put(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    logs = "\n".join(log.read_text()[-2000:] for log in sorted(folder.rglob("logs/**/*.log")))
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}{logs[-6000:]}"
    return done.stdout


def of_the_papers_files(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The dataset of the paper's headlines and what M3CoL's params say of it, at the size of this folder."""
    data = yaml.safe_load((folder / "params/datasets/n24news_headline.yaml").read_text())
    side = tiny_pretrained.SIDE
    data |= {"classes": SECTIONS, "rows": sum(SIZES.values())}
    data["split"] = {"kind": "published", "train": SIZES["train"], "val": SIZES["dev"], "test": SIZES["test"]}
    data["modalities"]["image"]["shape"] = [3, side, side]
    of_it = yaml.safe_load((folder / "params/methods/m3col.yaml").read_text())["datasets"]["n24news_headline"]
    of_it["model"] |= {"width": 16, "head_hidden": [16]}
    for name, encoder in of_it["model"]["pretrained"].items():
        encoder |= {"folder": f"pretrained/{name}", "lr": 2.0e-3}
    of_it["model"]["pretrained"]["text"]["tokens"] = tiny_pretrained.LONGEST
    of_it["finetune"] |= {"epochs": 12, "batch_size": 16, "optimizer": {"lr": 2.0e-3}}
    return data, of_it


@pytest.mark.slow
def test_from_the_papers_files_to_the_report(tmp_path: Path) -> None:
    run(tmp_path, "mmcontrast", "init", "work")
    folder = tmp_path / "work"
    write_news(folder / "data/raw/news")
    tiny_pretrained.write_encoder("vit", folder / "pretrained/image")
    tiny_pretrained.write_encoder("bert", folder / "pretrained/text")
    data, of_it = of_the_papers_files(folder)
    put(folder / "params/datasets/news.yaml", data)
    frozen = {m: {"folder": f"pretrained/{m}", "tuning": "frozen", "pooling": "cls"} for m in ("image", "text")}
    vectors = {m: {"kind": "vector", "shape": [tiny_pretrained.WIDTH]} for m in frozen}
    of_vectors = {"title": "News, vectors", "features_of": "news", "sources": [], "encoders": frozen, "prepare": {}}
    of_vectors["modalities"] = vectors
    put(folder / "params/datasets/news_frozen.yaml", {k: v for k, v in data.items() if k != "reader"} | of_vectors)
    file = folder / "params/methods/m3col.yaml"  # the concatenation takes its recipe from there
    content = yaml.safe_load(file.read_text())
    plain = {k: v for k, v in of_it["model"].items() if k != "pretrained"} | {"encoder_hidden": [16]}
    content["datasets"] |= {"news": of_it, "news_frozen": {"model": plain, "finetune": of_it["finetune"]}}
    put(file, content)
    put(folder / "params/suites/news.yaml", SUITE)
    put(folder / "params/experiments/news.yaml", EXPERIMENT)
    run(folder, "snakemake", "--cores", "2", "--config", "suite=news")

    scores = pl.read_parquet(folder / "build/news/reports/results.parquet")
    scores = scores.filter(split="test", protocol="selected", metric="acc")
    by_cell = {(d, m): v for d, m, v in scores.group_by("dataset", "method").agg(pl.mean("value")).iter_rows()}
    assert set(by_cell) == {(d, m) for d in ("news", "news_frozen") for m in ("concat", "m3col")}
    # either input alone tells the section of half the articles: 75 % is the most it can have
    assert all(value > 0.8 for (dataset, _), value in by_cell.items() if dataset == "news"), by_cell
    assert all(value > 0.6 for value in by_cell.values()), by_cell
    table = (folder / "build/news/reports/tables/news/news.md").read_text(encoding="utf-8")
    assert "| M3CoL |" in table

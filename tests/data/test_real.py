"""The real sets, where they can be had: counts, scaling and what the papers' files are known to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmcontrast import paths
from mmcontrast.config import Grid
from mmcontrast.data.fetch import fetch
from mmcontrast.data.loading import load_split
from mmcontrast.data.prepare import prepare
from mmcontrast.errors import FetchError


def fetch_and_prepare(root: Path, out: Path, name: str) -> dict[str, Any]:
    dataset = Grid(root).datasets[name]
    fetch(name, dataset, out / paths.raw_dir(name))
    return prepare(name, dataset, out / paths.raw_dir(name), (out / paths.datasheet(name)).parent)


@pytest.mark.mirror
def test_rosmap(root: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCONTRAST_MIRROR", str(mirror))
    sheet = fetch_and_prepare(root, tmp_path, "rosmap")
    assert sheet["splits"]["train"] == {"rows": 245, "classes": {"control": 118, "alzheimer": 127}}
    assert sheet["splits"]["val"]["rows"] == 0
    assert sheet["splits"]["test"] == {"rows": 106, "classes": {"control": 51, "alzheimer": 55}}
    assert sheet["warnings"] == []
    train = load_split(tmp_path / paths.prepared("rosmap", "train"))
    for x in train.inputs.values():
        assert x.shape == (245, 200)
        torch.testing.assert_close(x.amin(0), torch.zeros(200))
        torch.testing.assert_close(x.amax(0), torch.ones(200))


@pytest.mark.mirror
def test_mogonet_brca_is_told_file_by_file_where_it_is_incomplete(
    root: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror holds a part of this set; without a network the first missing file is named."""
    monkeypatch.setenv("MMCONTRAST_MIRROR", str(mirror))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("mmcontrast.data.download.download", _no_network)
    with pytest.raises(FetchError, match=r"BRCA/1_tr\.csv could not be fetched"):
        fetch("mogonet_brca", Grid(root).datasets["mogonet_brca"], tmp_path / "raw")


def _no_network(url: str, folder: Path, size: int | None = None) -> Path:
    raise FetchError(f"{url}: cannot connect")


@pytest.mark.network
def test_tcga_brca(root: Path, tmp_path: Path) -> None:
    sheet = fetch_and_prepare(root, tmp_path, "tcga_brca")
    totals = {c: sum(s["classes"][c] for s in sheet["splits"].values()) for c in sheet["classes"]}
    assert totals == {"LumA": 419, "HER2": 46, "LumB": 140, "Basal": 130, "Normal": 34}
    assert {split: s["rows"] for split, s in sheet["splits"].items()} == {"train": 461, "val": 154, "test": 154}
    assert sheet["warnings"] == []
    train = load_split(tmp_path / paths.prepared("tcga_brca", "train"))
    assert [tuple(x.shape) for x in train.inputs.values()] == [(461, 200), (461, 400), (461, 100)]
    for x in train.inputs.values():
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(x.std(0, unbiased=False), 1, atol=1e-5)

"""Oracles: codes of the truth, and what a probe of them scores on Trifeature, whichever seed draws its split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmcontrast.config import CellConfig
from mmcontrast.data.prepare import trifeature as tri
from mmcontrast.data.prepare import xor3
from mmcontrast.errors import ConfigError
from mmcontrast.evaluation.probe_predictions import probe_predictions
from mmcontrast.evaluation.scores import score
from mmcontrast.evaluation.stored import Embeddings
from mmcontrast.methods.base import Batch, build_method
from tests.grids import grid_of

GRID = grid_of()
DATA = GRID.datasets["trifeature_mid"]


def oracle(variant: str) -> CellConfig:
    return GRID.cell("trifeature_mid", "oracle", variant).model_copy(update={"seeds": [0]})


def test_codes_are_one_hot_and_a_product_has_a_unit_for_each_combination() -> None:
    labels = torch.tensor([0, 3, 1])
    tasks = {"unique1": torch.tensor([7, 0, 1]), "unique2": torch.tensor([0, 0, 2]), "colour2": torch.tensor([7, 2, 2])}
    batch = Batch({}, labels, tasks=tasks)
    assert build_method(oracle("main")).embed(batch).tolist() == torch.eye(4)[labels].tolist()
    additive, product = (build_method(oracle(v)).embed(batch) for v in ("additive", "product"))
    assert additive.shape == (3, 4 + 3 * 8)
    assert additive.sum(1).tolist() == [4] * 3
    assert torch.equal(product[:, :28], additive)
    assert product[:, 28:].argmax(1).tolist() == [7 * 8 + 7, 2, 8 + 2]


def test_what_no_label_tells_and_what_would_be_trained_is_refused() -> None:
    cell = oracle("main")
    with pytest.raises(ConfigError, match="dataset 'trifeature_mid' has no task of classes 'unique3'; did you mean"):
        build_method(cell.model_copy(update={"objective": {"factors": ["unique3"]}}))
    with pytest.raises(ConfigError, match="nothing is trained here"):
        build_method(cell.model_copy(update={"pretrain": cell.pretrain.model_copy(update={"epochs": 1})}))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch):
    """drawn(seed): the pairs of trifeature_mid as a seed draws them, without their pixels."""
    monkeypatch.setattr(tri, "render_images", lambda params, listed: np.zeros((len(listed.names), 1), np.uint8))

    def draw(seed: int) -> dict:
        data = DATA.model_copy(update={"generate": DATA.generate | {"seed": seed}})
        rows: dict = {}
        for one in tri.stream("x", data, Path()).instances:
            rows.setdefault(one.split, []).append(one)
        return rows

    return draw


def embedded(cell: CellConfig, rows: dict) -> dict:
    """(0, split) -> an oracle's embeddings of it."""
    out = {}
    for split, of in rows.items():
        tasks = {t: np.array([one.tasks[t] for one in of]) for t in cell.tasks}
        labels = np.array([one.label for one in of])
        batch = Batch({}, torch.from_numpy(labels), tasks={t: torch.from_numpy(y) for t, y in tasks.items()})
        weights = {t: np.array([one.weights[t] for one in of]) for t in of[0].weights}
        z = build_method(cell).embed(batch).detach().numpy()
        out[0, split] = Embeddings([one.id for one in of], labels, z, tasks, {}, weights)
    return out


def scores(cell: CellConfig, rows: dict, tasks: tuple[str, ...]) -> list[float]:
    found, parts = [], embedded(cell, rows)
    for task in tasks:
        test = probe_predictions(parts, cell, task)[0][""][0, "test"]
        found.append(100 * score("balanced_acc", test.labels, test.probs[0], test.weights))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_floor_and_ceiling_of_every_task(drawn, seed: int) -> None:
    rows, chance = drawn(seed), pytest.approx(12.5, abs=3)
    tasks = ("", "unique1", "unique2", "synergy", "shape_new", "unique1_new", "unique2_new", "synergy_new")
    assert scores(oracle("main"), rows, tasks) == [100, chance, chance, 50, 100, chance, chance, 50]
    assert scores(oracle("additive"), rows, tasks) == [100, 100, 100, 50, 100, 100, 100, 50]
    assert scores(oracle("product"), rows, tasks) == [100] * 8


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(2, 10))])
def test_synergy_of_ten_drawn_splits(drawn, seed: int) -> None:
    rows, tasks = drawn(seed), ("synergy", "synergy_new")
    assert [scores(oracle(v), rows, tasks) for v in ("main", "additive", "product")] == [[50, 50], [50, 50], [100, 100]]


def test_parity_takes_all_three_modalities() -> None:
    data = GRID.datasets["xor3"]
    parts: dict = {}
    for one in xor3.stream("xor3", data, Path()).instances:
        parts.setdefault(one.split, []).append(one)
    found = []
    for variant in ("bits", "bits_of_two", "bits_of_three"):
        cell = GRID.cell("xor3", "oracle", variant).model_copy(update={"seeds": [0]})
        test = probe_predictions(embedded(cell, parts), cell, "parity")[0][""][0, "test"]
        found.append(100 * score("acc", test.labels, test.probs[0]))
    assert found == [50, 50, 100]

"""Probes on few labels per class: which cases they are given, and that all methods are given the same."""

from __future__ import annotations

import zlib

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import Optimizer, Stage
from mmcontrast.evaluation import probe_predictions
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.evaluation.probe import fit_probe
from mmcontrast.evaluation.probe_predictions import DRAWS, drawn_rows, few_label_scores
from mmcontrast.evaluation.scores import score
from mmcontrast.evaluation.stored import read_embeddings
from tests.evaluation.test_probe_predictions import ROWS, embeddings_of
from tests.evaluation.test_readouts import with_views

COUNTS = [1, 5]


@pytest.fixture
def cell(make_cell):
    stage = Stage(epochs=3, batch_size="full", optimizer=Optimizer(lr=0.1))
    return make_cell(finetune=None, pretrain=stage).model_copy(update={"label_counts": COUNTS})


@pytest.mark.parametrize("per_class", [1, 5, 20])
def test_as_many_of_each_class_are_drawn_or_all_that_it_has(per_class: int) -> None:
    labels = np.repeat([0, 1, 3], [50, 7, 2])
    rows = drawn_rows(labels, per_class, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [per_class, min(per_class, 7), 0, min(per_class, 2)]
    assert len(set(rows.tolist())) == len(rows)
    fewer = drawn_rows(labels, 1, np.random.default_rng(0))
    assert set(fewer) <= set(rows)
    others = drawn_rows(labels, per_class, np.random.default_rng(1))
    assert not np.array_equal(rows, others)


def test_every_case_is_drawn_about_as_often_as_any_other_of_its_class() -> None:
    labels, generator = np.arange(40) % 2, np.random.default_rng(0)
    counts = sum(np.bincount(drawn_rows(labels, 5, generator), minlength=40) for _ in range(4000))
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(4000 * 0.25 * 0.75))


def test_a_score_is_the_mean_over_draws_of_probes_on_these_cases_alone(cell, write) -> None:
    """Recomputed with the plain probe; features are scaled by all training cases."""
    embeddings = read_embeddings(write(embeddings_of(cell)), cell)
    frame = few_label_scores(embeddings, cell, "")
    assert frame["metric"].unique(maintain_order=True).to_list() == [f"{m}:{k}" for k in COUNTS for m in cell.metrics]
    seed = cell.seeds[1]
    train, val, test = (embeddings[seed, split] for split in ROWS)
    values = []
    for draw in range(DRAWS):
        generator = np.random.default_rng([zlib.crc32(b"toy"), seed, draw])
        rows = drawn_rows(train.labels, 5, generator)
        probe = fit_probe(train.z[rows], train.labels[rows], val.z, val.labels, 3, scaled_by=train.z)
        values.append(score("acc", test.labels, probe.predict(test.z)))
    found = frame.filter(seed=seed, split="test", metric="acc:5")
    assert found["value"].item() == pytest.approx(np.mean(values), abs=1e-12)
    assert found["n"].item() == ROWS["test"]
    assert len(set(values)) > 1


def test_every_method_is_given_the_same_cases(cell, write, monkeypatch) -> None:
    given: dict[str, list[tuple[int, ...]]] = {}
    fit = probe_predictions.fit_on

    def seen(embeddings, of, seed, task="", readout="", rows=None):
        given.setdefault(of.method, []).append((seed, *rows))
        return fit(embeddings, of, seed, task, readout, rows)

    monkeypatch.setattr(probe_predictions, "fit_on", seen)
    embeddings = read_embeddings(write(embeddings_of(cell)), cell)
    for method in ("comm", "cross"):
        few_label_scores(embeddings, cell.model_copy(update={"method": method, "variant": method}), "")
    assert given["comm"] == given["cross"]
    assert len(set(given["comm"])) == len(cell.seeds) * DRAWS * len(COUNTS)


def test_they_stand_beside_the_scores_of_all_labels(cell, write, tmp_path) -> None:
    out = [tmp_path / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, write(with_views(embeddings_of(cell, spread=0.7))), *out)
    metrics, _, intervals = map(pl.read_parquet, out)
    counted = {f"{m}{readout}:{k}" for m in cell.metrics for k in COUNTS for readout in ("", "@encoders")}
    assert counted < set(metrics["metric"])
    # not of what is left without a modality, whose probe is that of the whole
    assert not [m for m in metrics["metric"].unique() if ":" in m and "without" in m]
    assert not [m for m in intervals["metric"] if ":" in m]
    mean = {m: metrics.filter(metric=m, split="test")["value"].mean() for m in ("acc:1", "acc:5", "acc")}
    assert mean["acc:1"] < mean["acc:5"] <= mean["acc"] + 0.02


def test_counts_decide_the_evaluation_and_no_training(cell) -> None:
    plain = cell.model_copy(update={"label_counts": []})
    assert cell.of_stage("pretrain") == plain.of_stage("pretrain")
    assert cell.of_stage("evaluate") != plain.of_stage("evaluate")
    assert "label_counts" not in plain.model_dump()

"""Further readouts of an embedding: which probe scores them, and what their scores are called."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import Optimizer, Stage
from mmcontrast.config.metrics import measure, metric_name, parse_metric_name
from mmcontrast.errors import DataError
from mmcontrast.evaluation.columns import column, fitted_on, readouts_of
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.evaluation.stored import read_embeddings
from tests.evaluation.test_probe_predictions import embeddings_of


@pytest.fixture
def cell(make_cell):
    stage = Stage(epochs=3, batch_size="full", optimizer=Optimizer(lr=0.1))
    return make_cell(finetune=None, pretrain=stage)


def array(values: np.ndarray) -> pl.Series:
    return pl.Series(values.astype(np.float32), dtype=pl.Array(pl.Float32, values.shape[1]))


def with_views(frame: pl.DataFrame) -> pl.DataFrame:
    """encoders tells nothing; without_a is the embedding negated, which turns its own probe round."""
    z = frame["embedding"].to_numpy()
    noise = np.random.default_rng(0).normal(size=z.shape)
    return frame.with_columns(array(noise).alias(column("encoders")), array(-z).alias(column("without_a")))


def test_names() -> None:
    assert readouts_of(["id", "embedding", "embedding@encoders", "embedding@without_a"]) == [
        "",
        "encoders",
        "without_a",
    ]
    assert [fitted_on(v) for v in ("", "encoders", "without_a")] == ["", "encoders", ""]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("acc", ("acc", "", "", None)),
        ("shared/acc@encoders", ("acc", "shared", "encoders", None)),
        ("balanced_acc:5", ("balanced_acc", "", "", 5)),
        ("unique1_new/acc@encoders:20", ("acc", "unique1_new", "encoders", 20)),
        ("image_to_text/rr1", ("rr1", "image_to_text", "", None)),
    ],
)
def test_a_score_is_named_by_its_metric_task_readout_and_labels(name: str, parts: tuple) -> None:
    assert metric_name(*parts) == name
    assert parse_metric_name(name) == parts
    assert measure(name) == measure(parts[0])


def test_a_view_of_its_own_has_a_probe_of_its_own_and_a_lacking_one_that_of_the_whole(cell, write, tmp_path):
    out = [tmp_path / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, write(with_views(embeddings_of(cell, spread=0.5))), *out)
    metrics, curves, intervals = map(pl.read_parquet, out)
    expected = [metric_name(m, readout=v) for v in ("", "without_a", "encoders") for m in cell.metrics]
    for frame in (metrics, intervals):
        assert set(frame["metric"]) == set(expected)
    assert set(expected) < set(curves["metric"])
    value = {m: metrics.filter(split="test", metric=m)["value"].mean() for m in expected}
    chance = 1 / len(cell.classes)
    assert value["acc"] > 0.8
    assert abs(value["acc@encoders"] - chance) < 0.25
    assert value["acc@without_a"] < chance


def test_a_view_that_is_not_finite_is_named(cell, write):
    frame = with_views(embeddings_of(cell))
    broken = frame["embedding@encoders"].to_numpy().copy()
    broken[0, 0] = np.nan
    with pytest.raises(DataError, match=r"the embedding@encoders of case .* is not finite"):
        read_embeddings(write(frame.with_columns(array(broken).alias(column("encoders")))), cell)

"""Gains over the same readout untrained, and the readout that a method is shown by."""

from __future__ import annotations

import polars as pl
import pytest

from mmcontrast.evaluation.gains import gains

CELL = ("toy", "comm", "shared")
SCORES = {  # variant -> metric -> (validation, test) of seeds 0 and 1
    "shared": {"acc": ((0.5, 0.75), (0.9, 0.8)), "acc@encoders": ((0.8, 0.6), (0.7, 0.5)), "mse:5": ((3, 3), (2, 1))},
    "shared_untrained": {"acc": ((0.9, 0.9), (0.4, 0.5)), "mse:5": ((3, 3), (5, 3))},
}


@pytest.fixture
def results() -> pl.DataFrame:
    rows = [
        ("toy", "comm", variant, seed, "selected", split, metric, float(values[seed]))
        for variant, of in SCORES.items()
        for metric, splits in of.items()
        for split, values in zip(("val", "test"), splits, strict=True)
        for seed in (0, 1)
    ]
    names = ("dataset", "method", "variant", "seed", "protocol", "split", "metric", "value")
    return pl.DataFrame(rows, schema=names, orient="row")


def test_a_gain_is_the_difference_to_the_same_readout_of_the_twin_by_seed(results: pl.DataFrame) -> None:
    assert gains(results, CELL, "acc") == pytest.approx({0: 0.5, 1: 0.3})
    # lower is better, so that less is a gain
    assert gains(results, CELL, "mse:5") == pytest.approx({0: 3.0, 1: 2.0})
    # the twin has no such readout, and no other one stands in for it
    assert gains(results, CELL, "acc@encoders") == {}
    assert gains(results, CELL, "acc", ("toy", "comm", "shared")) == {0: 0.0, 1: 0.0}

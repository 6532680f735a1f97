"""Which epoch each protocol takes, on predictions whose best epochs are known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mmcontrast.evaluation.evaluate import chosen_epochs, curves, metrics_of
from mmcontrast.evaluation.scores import score
from mmcontrast.evaluation.stored import Predictions, read_predictions

SURE, UNSURE = 0.9, 0.6


def prediction(right_by_epoch: list[list[float]], epochs: list[int] | None = None) -> Predictions:
    """Two classes; each number is the probability of the true class of a case at an epoch."""
    labels = np.arange(len(right_by_epoch[0])) % 2
    p = np.array(right_by_epoch, dtype=np.float32)
    probs = np.where(labels[None, :, None] == np.arange(2), p[..., None], 1 - p[..., None])
    return Predictions([str(i) for i in range(len(labels))], labels, probs, epochs or list(range(len(p))))


def selected_epoch(validation: Predictions) -> int:
    predictions = {(0, "val"): validation, (0, "test"): validation}
    return chosen_epochs(predictions, [0], ["acc"])["selected", "acc"][0]


def test_selected_epoch_is_the_best_on_validation() -> None:
    assert selected_epoch(prediction([[SURE, 0.1], [SURE, SURE], [0.1, 0.1]])) == 1


def test_ties_go_to_the_lower_cross_entropy() -> None:
    assert selected_epoch(prediction([[UNSURE, UNSURE], [UNSURE, UNSURE], [SURE, SURE]])) == 2


def test_full_ties_go_to_the_earliest_epoch() -> None:
    assert selected_epoch(prediction([[0.1, SURE], [UNSURE, SURE], [UNSURE, SURE]], [3, 7, 11])) == 7


def test_optimistic_takes_each_metrics_own_best_test_epoch_and_selected_one_for_all() -> None:
    # epoch 0 has the best ranking and the worst threshold; epoch 1 the reverse
    test = prediction([[0.49, 0.9, 0.49, 0.9], [0.6, 0.1, 0.6, 0.6], [0.1, 0.1, 0.1, 0.1]])
    assert score("auc", test.labels, test.probs[0]) > score("auc", test.labels, test.probs[1])
    assert score("acc", test.labels, test.probs[0]) < score("acc", test.labels, test.probs[1])
    val = prediction([[0.1, 0.1], [0.1, 0.1], [SURE, SURE]])
    epochs = chosen_epochs({(0, "val"): val, (0, "test"): test}, [0], ["acc", "auc"])
    assert epochs["optimistic", "acc"] == [1]
    assert epochs["optimistic", "auc"] == [0]
    assert epochs["selected", "acc"] == epochs["selected", "auc"] == [2]
    assert epochs["last", "acc"] == [2]


def test_without_a_validation_split_nothing_is_selected() -> None:
    epochs = chosen_epochs({(0, "test"): prediction([[SURE, SURE]])}, [0], ["acc"])
    assert {p for p, _ in epochs} == {"last", "optimistic"}


@pytest.mark.parametrize("splits", [("val", "test"), ("test",)])
def test_metrics_are_the_scores_at_the_chosen_epochs(make_cell, make_predictions, write, splits) -> None:
    cell = make_cell(selection={"holdout": 0.2 if "val" in splits else 0.0})
    frame = make_predictions(cell, splits=splits)
    predictions = read_predictions(write(frame), cell)
    epochs = chosen_epochs(predictions, cell.seeds, cell.metrics)
    rows = metrics_of(
        {key: len(p.ids) for key, p in predictions.items()}, curves(predictions, cell.metrics), epochs, cell.seeds
    )
    expected_splits = {"last": set(splits), "selected": set(splits), "optimistic": {"test"}}
    for (protocol,), part in rows.group_by("protocol"):
        assert set(part["split"]) == expected_splits[str(protocol)]
    for seed, _protocol, split, metric, value, n, epoch in rows.iter_rows():
        part = frame.filter((pl.col("seed") == seed) & (pl.col("split") == split) & (pl.col("epoch") == epoch))
        assert value == pytest.approx(score(metric, part["label"].to_numpy(), part["probs"].to_numpy()))
        assert n == len(part)


def test_optimistic_is_never_below_the_others(make_cell, make_predictions, write) -> None:
    cell = make_cell()
    predictions = read_predictions(write(make_predictions(cell)), cell)
    epochs = chosen_epochs(predictions, cell.seeds, cell.metrics)
    rows = metrics_of(
        {key: len(p.ids) for key, p in predictions.items()}, curves(predictions, cell.metrics), epochs, cell.seeds
    )
    wide = rows.filter(pl.col("split") == "test").pivot("protocol", index=["seed", "metric"], values="value")
    assert (wide["optimistic"] >= wide["selected"]).all()
    assert (wide["optimistic"] >= wide["last"]).all()
    assert (wide["optimistic"] > wide["selected"]).any()


def test_curves_hold_every_epoch_once(make_cell, make_predictions, write) -> None:
    cell = make_cell()
    predictions = read_predictions(write(make_predictions(cell)), cell)
    curve = curves(predictions, cell.metrics)
    assert set(curve["metric"]) == {*cell.metrics, "cross_entropy"}
    assert not curve.select("seed", "epoch", "split", "metric").is_duplicated().any()
    assert len(curve) == len(cell.seeds) * 3 * 2 * 4

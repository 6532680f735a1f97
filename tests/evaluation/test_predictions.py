"""What is wrong with a predictions file is said with the cell, the seed and the case."""

from __future__ import annotations

import re

import polars as pl
import pytest

from mmcontrast.errors import DataError
from mmcontrast.evaluation.stored import read_predictions

SEED_1 = pl.col("seed") == 1
TEST = pl.col("split") == "test"
LAST = pl.col("epoch") == 5
CASE = pl.col("id") == "test--0"


def without(condition: pl.Expr):
    return lambda f: f.filter(~condition)


def changed(condition: pl.Expr, **values: pl.Expr):
    return lambda f: f.with_columns(
        *(pl.when(condition).then(v).otherwise(pl.col(k)).cast(f.schema[k]).alias(k) for k, v in values.items())
    )


def probs(*values: float):
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        chosen = frame.select(SEED_1 & TEST & LAST & CASE).to_series()
        rows = [list(values) if c else p for c, p in zip(chosen, frame["probs"].to_list(), strict=True)]
        return frame.with_columns(pl.Series("probs", rows, dtype=pl.Array(pl.Float32, 3)))

    return change


NAN = float("nan")
FAULTS = {
    "seed missing": (without(SEED_1), r"holds seeds \[0, 2\], and the suite lists"),
    "seed too many": (
        lambda f: pl.concat([f, f.filter(SEED_1).with_columns(seed=pl.lit(9, pl.Int64))]),
        r"holds seeds \[0, 1, 2, 9\], and the suite lists",
    ),
    "NaN": (probs(NAN, 0.5, 0.5), r"seed 1, test: epoch 5, case test--0: \[nan, 0.5, 0.5\] are not probabilities"),
    "negative": (probs(-0.5, 0.5, 1.0), "seed 1, test: epoch 5, case test--0"),
    "sum": (probs(0.5, 0.5, 0.5), "are not probabilities"),
    "epoch of one seed": (without(SEED_1 & (pl.col("epoch") == 3)), "seed 1, .*: evaluated at other epochs"),
    "last epoch": (without(LAST), "the last evaluated epoch is 3, and training ends at 5"),
    "row lost": (without(SEED_1 & TEST & LAST & CASE), "seed 1, test: not the same id, label at every epoch of"),
    "row twice": (
        lambda f: pl.concat([f, f.filter(SEED_1 & TEST & LAST & CASE)]),
        "not the same id, label at every epoch",
    ),
    "row twice at every epoch": (
        lambda f: pl.concat([f, f.filter(SEED_1 & TEST & CASE)]),
        "seed 1, test: a case has more than one row",
    ),
    "case renamed": (
        changed(SEED_1 & TEST & CASE, id=pl.lit("other")),
        "seed 1: other test instances or labels than seed 0",
    ),
    "label of one seed": (changed(SEED_1 & TEST & CASE, label=pl.lit(2)), "seed 1: other test instances or labels"),
    "label of one epoch": (
        changed(SEED_1 & TEST & CASE & LAST, label=pl.lit(2)),
        "not the same id, label at every epoch",
    ),
    "label out of range": (changed(TEST & CASE, label=pl.lit(3)), "label: 3 of case test--0; accepted are 0 to 2"),
    "label empty": (changed(TEST & CASE, label=pl.lit(None)), "column label has rows without a value"),
    "no test": (without(TEST), "no rows of the test split"),
    "no test of one seed": (without(TEST & SEED_1), "seed 1: no rows of the test split"),
    "no val": (without(~TEST), "seed 0: no rows of the val split"),
    "val of one seed": (without(~TEST & SEED_1), "seed 1: no rows of the val split"),
    "split": (changed(TEST, split=pl.lit("train")), "split 'train'; accepted are val, test"),
    "column": (lambda f: f.drop("probs"), "no column probs; expected seed, epoch"),
    "width": (
        lambda f: f.with_columns(pl.Series("probs", [[0.5, 0.5]] * len(f), dtype=pl.Array(pl.Float32, 2))),
        "expected 3 float32, one a class",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(make_cell, make_predictions, write, fault: str) -> None:
    cell = make_cell()
    change, message = FAULTS[fault]
    path = write(change(make_predictions(cell)))
    with pytest.raises(DataError, match=message) as caught:
        read_predictions(path, cell)
    assert str(path) in str(caught.value)
    if fault != "column":
        assert cell.name in str(caught.value)


def test_missing_file_says_what_to_run(make_cell, tmp_path) -> None:
    with pytest.raises(DataError, match=re.escape("run `mmcontrast finetune toy/m3col/base` first")):
        read_predictions(tmp_path / "none.parquet", make_cell())


def test_rows_in_any_order_give_the_same_arrays(make_cell, make_predictions, write) -> None:
    cell = make_cell()
    frame = make_predictions(cell)
    straight = read_predictions(write(frame), cell)
    shuffled = read_predictions(write(frame.sample(fraction=1, shuffle=True, seed=3)), cell)
    assert straight.keys() == shuffled.keys() == {(s, split) for s in cell.seeds for split in ("val", "test")}
    for key, one in straight.items():
        assert one.ids == shuffled[key].ids
        assert one.epochs == shuffled[key].epochs == [1, 3, 5]
        assert (one.probs == shuffled[key].probs).all()


def test_a_dataset_without_validation_needs_none_where_nothing_is_held_out(make_cell, make_predictions, write) -> None:
    cell = make_cell(selection={"holdout": 0.0})
    found = read_predictions(write(make_predictions(cell, splits=("test",))), cell)
    assert set(found) == {(s, "test") for s in cell.seeds}

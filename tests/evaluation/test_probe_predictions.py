"""A cell without finetune is scored by a probe: selected on validation, test predicted once, faults named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import Optimizer, Stage
from mmcontrast.errors import DataError
from mmcontrast.evaluation import logistic, probe
from mmcontrast.evaluation.columns import CURVES_SCHEMA, METRICS_SCHEMA
from mmcontrast.evaluation.evaluate import evaluate_cell
from mmcontrast.evaluation.probe_predictions import probe_predictions
from mmcontrast.evaluation.scores import score
from mmcontrast.evaluation.stored import read_embeddings

EPOCHS = 7
ROWS = {"train": 60, "val": 24, "test": 30}


@pytest.fixture
def cell(make_cell):
    stage = Stage(epochs=EPOCHS, batch_size="full", optimizer=Optimizer(lr=0.1))
    return make_cell(finetune=None, pretrain=stage)


def embeddings_of(cell, splits=ROWS, spread: float = 1.5) -> pl.DataFrame:
    """Classes around centres, the same test cases for every seed."""
    centres = np.random.default_rng(0).normal(size=(len(cell.classes), 5))
    parts = []
    for seed in cell.seeds:
        for s, (split, n) in enumerate(splits.items()):
            rng = np.random.default_rng([s, 0 if split == "test" else seed + 1])
            labels = np.arange(n) % len(cell.classes)
            z = centres[labels] + spread * np.random.default_rng([s, seed + 9]).normal(size=(n, 5))
            parts.append(
                pl.DataFrame(
                    {
                        "seed": np.full(n, seed, dtype=np.int64),
                        "split": [split] * n,
                        "id": [f"{split}-{i}" for i in rng.permutation(n)]
                        if split != "test"
                        else [f"t-{i}" for i in range(n)],
                        "label": labels.astype(np.int64),
                        "embedding": pl.Series(z.astype(np.float32), dtype=pl.Array(pl.Float32, 5)),
                    }
                )
            )
    return pl.concat(parts)


def evaluate(cell, frame: pl.DataFrame, write: Callable[[pl.DataFrame], Path], folder: Path) -> list[pl.DataFrame]:
    paths = [folder / f"{name}.parquet" for name in ("metrics", "curves", "intervals")]
    evaluate_cell(cell, write(frame), *paths)
    return [pl.read_parquet(p) for p in paths]


def test_what_no_seed_changes_is_fitted_once(cell, write, monkeypatch):
    fits = []
    fit = probe.fit_probe
    monkeypatch.setattr(probe, "fit_probe", lambda *a, **k: fits.append(1) or fit(*a, **k))
    first = embeddings_of(cell).filter(pl.col("seed") == cell.seeds[0])
    same = pl.concat([first.with_columns(pl.lit(s, dtype=pl.Int64).alias("seed")) for s in cell.seeds])
    alike, _ = probe_predictions(read_embeddings(write(same), cell), cell)
    assert len(fits) == 1
    assert len({alike[""][s, "test"].probs.tobytes() for s in cell.seeds}) == 1
    probe_predictions(read_embeddings(write(embeddings_of(cell)), cell), cell)
    assert len(fits) == 1 + len(cell.seeds)


def test_rows_are_selected_of_the_last_epoch_on_val_and_test(cell, write, tmp_path) -> None:
    metrics, curves, intervals = evaluate(cell, embeddings_of(cell), write, tmp_path)
    assert dict(metrics.schema) == METRICS_SCHEMA
    assert dict(curves.schema) == CURVES_SCHEMA | {"strength": pl.Float64}
    assert set(metrics["protocol"]) == set(intervals["protocol"]) == {"selected"}
    assert set(metrics["epoch"]) == set(curves["epoch"]) == {EPOCHS - 1}
    counts = dict(metrics.select("split", "n").unique().iter_rows())
    assert counts == {"val": ROWS["val"], "test": ROWS["test"]}
    assert len(metrics) == len(cell.seeds) * len(cell.metrics) * 2
    for _, split, metric, average, low, high, n_seeds, n_cases, _ in intervals.iter_rows():
        values = metrics.filter(split=split, metric=metric)["value"]
        assert average == pytest.approx(values.mean())
        assert low < average < high
        assert (n_seeds, n_cases) == (len(cell.seeds), ROWS["test"])


def test_the_loss_of_every_strength_is_kept(cell, write, tmp_path) -> None:
    """The least is the chosen one's, whose cross-entropy on validation it is."""
    _, curves, _ = evaluate(cell, embeddings_of(cell), write, tmp_path)
    for seed in cell.seeds:
        of_seed = curves.filter(seed=seed, split="val")
        tried, scored = (of_seed.filter(metric=m) for m in ("probe_loss", "cross_entropy"))
        assert tried["strength"].to_list() == list(probe.STRENGTHS)[: len(tried)]
        assert tried["value"].min() == pytest.approx(scored["value"].item(), rel=1e-6)
        assert 2 < len(tried["value"].unique()) == len(tried)
    assert curves.filter(pl.col("metric") != "probe_loss")["strength"].null_count() == len(curves) - len(
        curves.filter(metric="probe_loss")
    )


def test_scores_are_those_of_the_probe(cell, write, tmp_path) -> None:
    frame = embeddings_of(cell)
    metrics, *_ = evaluate(cell, frame, write, tmp_path)
    for seed in cell.seeds:
        x, v, t = (frame.filter(seed=seed, split=s) for s in ROWS)
        fitted = probe.fit_probe(
            x["embedding"].to_numpy(), x["label"].to_numpy(), v["embedding"].to_numpy(), v["label"].to_numpy(), 3
        )
        expected = score("acc", t["label"].to_numpy(), fitted.predict(t["embedding"].to_numpy()))
        found = metrics.filter(seed=seed, split="test", metric="acc")["value"].item()
        assert found == pytest.approx(expected)
        assert found > 0.5


def test_the_released_probes_second_fit_is_of_train_and_validation(cell, write, tmp_path) -> None:
    frame = embeddings_of(cell)
    changed = cell.model_copy(update={"objective": {"compat": {"probe_refit": True}}})
    found = probe_predictions(read_embeddings(write(frame), changed), changed)[0][""]
    for seed in cell.seeds:
        x, v, t = (frame.filter(seed=seed, split=s).sort("id") for s in ROWS)
        both = [of[column].to_numpy() for of in (x, v) for column in ("embedding", "label")]
        expected = probe.fit_probe(*both, 3, refit_on_val=True).predict(t["embedding"].to_numpy())
        np.testing.assert_allclose(found[seed, "test"].probs[0], expected, atol=1e-6)
        plain = probe.fit_probe(*both, 3).predict(t["embedding"].to_numpy())
        assert not np.allclose(expected, plain)


def test_the_test_split_chooses_nothing_and_is_predicted_once(cell, write, monkeypatch) -> None:
    """Other test labels and embeddings leave the fitted probes and the validation scores as they were."""
    frame = embeddings_of(cell)
    seen: list[int] = []
    plain = probe.Probe.predict
    monkeypatch.setattr(probe.Probe, "predict", lambda self, z: (seen.append(len(z)), plain(self, z))[1])
    first = probe_predictions(read_embeddings(write(frame), cell), cell)[0][""]
    assert seen.count(ROWS["test"]) == len(cell.seeds)
    test = pl.col("split") == "test"
    spoiled = frame.with_columns(label=pl.when(test).then(2 - pl.col("label")).otherwise(pl.col("label")))
    second = probe_predictions(read_embeddings(write(spoiled), cell), cell)[0][""]
    for seed in cell.seeds:
        for split in ("val", "test"):
            np.testing.assert_array_equal(first[seed, split].probs, second[seed, split].probs)


def test_seeds_of_equal_embeddings_share_their_fits_and_others_do_not(cell, write, monkeypatch) -> None:
    frame, fits = embeddings_of(cell), []
    lbfgs = logistic.minimize
    monkeypatch.setattr(logistic, "minimize", lambda *args, **more: (fits.append(1), lbfgs(*args, **more))[1])
    for largest in (1500, 0):  # both kinds of solver
        monkeypatch.setattr(logistic, "LARGEST_HESSIAN", largest)
        probe._fits.cache_clear()
        fits.clear()
        apart = probe_predictions(read_embeddings(write(frame), cell), cell)[0][""]
        of_all, first, last = len(fits), cell.seeds[0], cell.seeds[-1]
        alike = pl.concat([frame.filter(seed=first).with_columns(seed=pl.lit(s, pl.Int64)) for s in cell.seeds])
        probe._fits.cache_clear()
        fits.clear()
        shared = probe_predictions(read_embeddings(write(alike), cell), cell)[0][""]
        assert 0 < len(fits) < of_all
        np.testing.assert_array_equal(shared[last, "test"].probs, shared[first, "test"].probs)
        np.testing.assert_array_equal(shared[last, "test"].probs, apart[first, "test"].probs)
        assert not np.array_equal(apart[last, "test"].probs, apart[first, "test"].probs)


def test_equal_embeddings_in_any_order_of_splits_give_equal_bytes(cell, write, tmp_path) -> None:
    frame = embeddings_of(cell)
    evaluate(cell, frame, write, tmp_path / "a")
    evaluate(cell, frame.sort("split", "seed"), write, tmp_path / "b")
    for name in ("metrics", "curves", "intervals"):
        first, second = ((tmp_path / f / f"{name}.parquet").read_bytes() for f in "ab")
        assert first == second


def spoil(frame: pl.DataFrame, where: pl.Expr, **values: pl.Expr) -> pl.DataFrame:
    return frame.with_columns(pl.when(where).then(v).otherwise(pl.col(c)).alias(c) for c, v in values.items())


def damaged(frame: pl.DataFrame, value: float) -> pl.DataFrame:
    """One number of the first row replaced."""
    z = frame["embedding"].to_numpy().copy()
    z[0, 0] = value
    return frame.with_columns(embedding=pl.Series(z, dtype=pl.Array(pl.Float32, 5)))


IS = {name: pl.col("split") == name for name in ROWS}
LAST_SEED = pl.col("seed") == 2
FAULTS = [
    (lambda f: f.drop("label"), "no column label"),
    (lambda f: f.with_columns(pl.col("embedding").cast(pl.List(pl.Float32))), "expected float32 of one width"),
    (lambda f: f.filter(~LAST_SEED), r"holds seeds \[0, 1\]"),
    (lambda f: f.filter(~IS["val"]), "seed 0, val: no rows of this split; .*selection.holdout above 0"),
    (lambda f: f.filter(~(IS["test"] & LAST_SEED)), "seed 2, test: no rows of this split$"),
    (lambda f: pl.concat([f, f.filter(IS["train"] & LAST_SEED)]), "seed 2, train: a case has more than one row"),
    (lambda f: f.with_columns(label=pl.col("label") + 1), r"label: 3 of case .*; accepted are 0 to 2"),
    (lambda f: damaged(f, np.inf), r"seed 0, train: the embedding of case train-\d+ is not finite"),
    (lambda f: spoil(f, IS["test"] & LAST_SEED, id=pl.col("id") + "x"), "seed 2: other test instances or labels"),
    (lambda f: spoil(f, IS["train"], label=pl.lit(0)), "toy/m3col/base, seed 0: probe: .*all of one class"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=[m for _, m in FAULTS])
def test_faults_are_named_and_leave_no_file(cell, write, tmp_path, change, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(cell, change(embeddings_of(cell)), write, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_file_says_what_to_run(cell, tmp_path) -> None:
    with pytest.raises(DataError, match="run `mmcontrast pretrain toy/m3col/base` first"):
        evaluate_cell(cell, tmp_path / "none.parquet", *[tmp_path / f for f in "abc"])

"""Further label tasks: each is probed on its own, and named in every score."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import Optimizer, Stage
from mmcontrast.errors import DataError
from mmcontrast.evaluation.evaluate import evaluate_cell

ROWS = {"train": 40, "val": 20, "test": 20}
WHERE = ("metrics", "curves", "intervals")


@pytest.fixture
def cell(make_cell):
    stage = Stage(epochs=3, batch_size="full", optimizer=Optimizer(lr=0.1))
    return make_cell(
        finetune=None,
        pretrain=stage,
        seeds=[0, 1],
        metrics=["acc"],
        classes=["a", "b"],
        tasks={"size": ["s", "m", "l"], "noise": ["no", "yes"]},
    )


@pytest.fixture
def frame(cell):
    """The embedding tells the size, and nothing of the label and the noise."""
    parts = []
    for seed in cell.seeds:
        for s, (split, n) in enumerate(ROWS.items()):
            rng = np.random.default_rng([s, 0 if split == "test" else 1 + seed])
            size = rng.permutation(np.arange(n) % 3)
            z = np.eye(3)[size] + 0.01 * rng.normal(size=(n, 3))
            parts.append(
                pl.DataFrame(
                    {
                        "seed": np.full(n, seed),
                        "split": [split] * n,
                        "id": [f"{split}-{i:02d}" for i in range(n)],
                        "label": rng.permutation(np.arange(n) % 2),
                        "label_size": size,
                        "label_noise": rng.permutation(np.arange(n) % 2),
                        "embedding": pl.Series(z.astype(np.float32), dtype=pl.Array(pl.Float32, 3)),
                    }
                )
            )
    return pl.concat(parts)


def evaluate(cell, frame, write, folder):
    evaluate_cell(cell, write(frame), *[folder / f"{name}.parquet" for name in WHERE])
    return [pl.read_parquet(folder / f"{name}.parquet") for name in WHERE]


def test_each_task_is_scored_with_its_own_labels(cell, frame, write, tmp_path):
    metrics, curves, intervals = evaluate(cell, frame, write, tmp_path)
    assert metrics.filter(metric="size/acc")["value"].to_list() == [1.0] * 4
    assert metrics.filter(split="test", metric="acc")["value"].max() < 0.9
    assert metrics.filter(split="test", metric="noise/acc")["value"].max() < 0.9
    assert intervals["metric"].to_list() == ["acc", "size/acc", "noise/acc"]
    of_each = ("acc", "cross_entropy", "probe_loss")
    assert set(curves["metric"]) == {f"{t}{m}" for t in ("", "size/", "noise/") for m in of_each}


def test_a_task_leaves_the_scores_of_the_label_as_they_are(cell, frame, write, tmp_path):
    alone = cell.model_copy(update={"tasks": {}})
    without = evaluate(alone, frame.drop("label_size", "label_noise"), write, tmp_path / "without")
    for one, all_tasks in zip(without, evaluate(cell, frame, write, tmp_path / "with"), strict=True):
        assert one.equals(all_tasks.filter(~pl.col("metric").str.contains("/")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("label_size"), "no column label_size; expected .*label_size, label_noise"),
        (
            lambda f: f.with_columns(label_size=pl.col("label_size") + 1),
            "label_size: 3 of case .*.* are 0 to 2",
        ),
        (lambda f: f.with_columns(label_noise=pl.lit(None, pl.Int64)), "column label_noise has rows without a value"),
        (lambda f: f.with_columns(label_noise=pl.lit(0, pl.Int64)), "task noise, seed 0: probe: .*all of one class"),
    ],
)
def test_faults_of_a_task_are_named(cell, frame, write, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        evaluate(cell, change(frame), write, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_probe_of_a_class_weighted_task_finds_a_rare_class(cell, write, tmp_path):
    """One feature that says little of a class of one in five: alike weights find it, plain ones bet on the others.

    The class is half a standard deviation off, so that the best threshold has a balanced accuracy of .599; there are
    enough cases for sampling to move it by two hundredths alone.
    """
    rows = {"train": 2000, "val": 1000, "test": 1000}
    parts = []
    for s, (split, n) in enumerate(rows.items()):
        rare = (np.arange(n) % 5 == 0).astype(np.int64)
        z = (0.5 * rare + np.random.default_rng(s).normal(size=n))[:, None]
        parts.append(
            pl.DataFrame(
                {
                    "seed": np.zeros(n, np.int64),
                    "split": [split] * n,
                    "id": [f"{split}-{i:04d}" for i in range(n)],
                    "label": np.arange(n) % 2,
                    "label_rare": rare,
                    "embedding": pl.Series(z.astype(np.float32), dtype=pl.Array(pl.Float32, 1)),
                }
            )
        )
    task = {"tasks": {"rare": ["no", "yes"]}, "metrics": ["balanced_acc"], "seeds": [0]}

    def scores(weighted):
        one = cell.model_copy(update={**task, "class_weighted": weighted})
        metrics, *_ = evaluate(one, pl.concat(parts), write, tmp_path / "-".join(["out", *weighted]))
        found = metrics.filter(metric="rare/balanced_acc")
        return dict(zip(found["split"], found["value"], strict=True))

    plain, alike = scores([]), scores(["rare"])
    for split in ("val", "test"):
        assert plain[split] < 0.52
        assert 0.55 < alike[split] < 0.65

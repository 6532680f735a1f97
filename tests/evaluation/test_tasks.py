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
    assert set(curves["metric"]) == {f"{t}{m}" for t in ("", "size/", "noise/") for m in ("acc", "cross_entropy")}


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
            "label_size: labels from 1 to 3; accepted are 0",
        ),
        (lambda f: f.with_columns(label_noise=pl.lit(None, pl.Int64)), "column label_noise has rows without a value"),
        (lambda f: f.with_columns(label_noise=pl.lit(0, pl.Int64)), "task noise, seed 0: probe: .*all of one class"),
    ],
)
def test_faults_of_a_task_are_named(cell, frame, write, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        evaluate(cell, change(frame), write, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_probe_of_a_class_weighted_task_finds_a_rare_class(cell, frame, write, tmp_path):
    """One feature that says little of a class of one in five: alike weights find it, plain ones bet on the others."""
    rng = np.random.default_rng(0)
    rare = np.concatenate([np.arange(n) % 5 == 0 for _ in cell.seeds for n in ROWS.values()])
    z = (0.5 * rare + rng.normal(size=len(rare)))[:, None]
    changed = frame.with_columns(
        label_noise=pl.Series(rare.astype(np.int64)),
        embedding=pl.Series(z.astype(np.float32), dtype=pl.Array(pl.Float32, 1)),
    )
    cell = cell.model_copy(update={"metrics": ["balanced_acc"]})

    def score(weighted):
        one = cell.model_copy(update={"class_weighted": weighted})
        metrics, *_ = evaluate(one, changed, write, tmp_path / "-".join(["out", *weighted]))
        return metrics.filter(split="val", metric="noise/balanced_acc")["value"].mean()

    assert score([]) == 0.5
    assert score(["noise"]) > 0.55

"""What moved between two results tables, and between two commits of a checkout."""

from __future__ import annotations

import math

import polars as pl
import pytest

from mmcontrast.pipeline.compare import CompareError, compare, comparison_table, results_of
from mmcontrast.report.tables.formats import to_markdown
from tests.pipeline.conftest import Checkout

ROWS = [
    # method, seed, value
    ("m3col", 0, 0.70),
    ("m3col", 1, 0.72),
    ("m3col", 2, 0.74),
    ("concat", 0, 0.60),
    ("concat", 1, 0.61),
    ("concat", 2, 0.62),
]


def results(rows: list[tuple[str, int, float]], experiment: str = "e", metric: str = "acc") -> pl.DataFrame:
    return pl.DataFrame(
        [
            (experiment, "d", m, "base", s, "selected", split, metric, v, 10)
            for m, s, v in rows
            for split in ("val", "test")
        ],
        schema=["experiment", "dataset", "method", "variant", "seed", "protocol", "split", "metric", "value", "n"],
        orient="row",
    )


def test_nothing_moved() -> None:
    found = compare(results(ROWS), results(list(reversed(ROWS)), experiment="another"))
    assert found == ([], 2, [], [])


def test_a_difference_is_paired_by_seed_and_signed_after_minus_before() -> None:
    changed = [(m, s, v + (0.01 * (s + 1) if m == "m3col" else 0)) for m, s, v in ROWS]
    found = compare(results(ROWS), results(changed))
    (moved,) = found.moved
    assert (moved.key, moved.difference.n, found.unmoved) == (("d", "m3col", "base", "selected", "acc"), 3, 1)
    assert moved.before == pytest.approx(0.72)
    assert moved.after == pytest.approx(0.74)
    assert moved.difference.mean == pytest.approx(0.02)
    half = 4.302653 * 0.01 / math.sqrt(3)  # t at 97.5 % with two degrees of freedom
    assert moved.difference[1:3] == pytest.approx((0.02 - half, 0.02 + half))
    assert 0 < moved.difference.p < 0.2
    text = to_markdown(comparison_table(found, "v1", "v2"))
    assert "| d/m3col/base: Accuracy | 72.0 | 74.0 | +2.0 [−0.5, +4.5] | 0.074 | 3 |" in text
    assert "1 score moved, 1 did not." in text


def test_only_seeds_of_both_are_compared() -> None:
    fewer = [(m, s, v + 0.1) for m, s, v in ROWS if s == 1]
    found = compare(results(ROWS), results(fewer))
    assert [(m.difference.n, m.before) for m in found.moved] == [(1, 0.61), (1, 0.72)]
    assert all(math.isnan(m.difference.low) for m in found.moved)
    assert compare(results(ROWS), results([("m3col", 9, 0.1)])).moved == []


def test_cells_of_one_version_are_named() -> None:
    found = compare(results(ROWS[:3]), results(ROWS[3:]))
    assert (found.only_before, found.only_after) == (["d/m3col/base"], ["d/concat/base"])
    assert "Only in v2: d/concat/base." in to_markdown(comparison_table(found, "v1", "v2"))


@pytest.mark.slow
def test_two_commits_of_a_checkout(finished: Checkout) -> None:
    finished.commit("before")
    assert "0 scores moved" in finished.mmcontrast("compare", "HEAD")
    finished.edit("params/methods/concat.yaml", "finetune", value={"optimizer": {"lr": 0.1}})
    finished("dvc", "repro")
    finished.commit("after")
    text = finished.mmcontrast("compare", "HEAD~1", "HEAD")
    assert "synthetic/concat/base: Accuracy" in text
    assert "synthetic/m3col" not in text
    assert finished.mmcontrast("compare", "HEAD~1").count("concat") == text.count("concat")
    with pytest.raises(CompareError, match=r"no-such: reports/results\.parquet cannot be had .*`workspace`"):
        results_of("no-such", finished.root)

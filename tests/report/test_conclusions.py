"""What is said follows from the numbers, and never says more than they do."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from scipy import stats

from mmcontrast.config import CellRef, Grid
from mmcontrast.paths import Layout
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.experiment import findings
from mmcontrast.report.outputs import own_cells
from mmcontrast.report.page import optimism
from mmcontrast.report.results import summarise
from mmcontrast.report.tables.published import reproduction_sentences, reproductions, verdict_on
from tests.report.made_up_study import REPO

EXPERIMENT, DATASET, METRIC, CASES = "m3col_omics", "rosmap", "acc", 106
NO_INTERVALS = pl.DataFrame(
    schema=dict.fromkeys(("dataset", "method", "variant", "protocol", "split", "metric"), pl.String)
    | dict.fromkeys(("mean", "low", "high"), pl.Float64)
)


@pytest.fixture
def grid() -> Grid:
    return Grid(REPO, "paper", ["rosmap", "tcga_brca"])


def table(
    scores: dict[tuple[str, str], list[float]], protocol: str = "selected", dataset: str = DATASET
) -> pl.DataFrame:
    """A results table with one score a seed of each (method, variant)."""
    rows = [
        (EXPERIMENT, dataset, m, v, seed, protocol, "test", METRIC, float(value), CASES)
        for (m, v), values in scores.items()
        for seed, value in enumerate(values)
    ]
    columns = ["experiment", "dataset", "method", "variant", "seed", "protocol", "split", "metric", "value", "n"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def around(mean: float, seeds: int = 5) -> list[float]:
    """Scores of that mean, and of a spread of their own for every mean."""
    noise = np.random.default_rng(int(1000 * mean)).normal(size=seeds)
    return list(mean + 0.002 * (noise - noise.mean()))


def evidence(grid: Grid, results: pl.DataFrame) -> Evidence:
    return Evidence(grid, Layout(), results, NO_INTERVALS)


def released(grid: Grid, values: list[float]) -> dict[str, list]:
    """Row -> (ours under each protocol) of the released size, where a row is of what the authors' code gave."""
    cell = ("m3col", "released_full_train")
    results = pl.concat([table({cell: values}, protocol=p) for p in ("last", "optimistic")])
    results = results.with_columns(experiment=pl.lit("m3col_released_protocol"))
    found = reproductions(evidence(grid, results), "m3col_released_protocol")
    return {one.row.row: [one, best] for one, best in found if one.metric == METRIC}


def test_ours_agrees_or_differs_by_welchs_test(grid: Grid) -> None:
    ours = [0.84, 0.86, 0.85, 0.83, 0.87]
    row = "Released code with --multi_mixup, patched to run"
    _, best = released(grid, ours)[row]
    expected = stats.ttest_ind_from_stats(85, 100 * np.std(ours, ddof=1), 5, 84.9, 3.2, 6, equal_var=False)
    assert best.difference.p == pytest.approx(expected.pvalue)
    assert best.verdict == "agrees"
    assert re.match(r"agrees: \+0\.1 \[.*\] points, 5 runs of ours and 6 of theirs", verdict_on(best))
    _, best = released(grid, [v - 0.2 for v in ours])[row]
    assert verdict_on(best).startswith("differs: ")


@pytest.mark.parametrize(
    ("values", "row", "says"),
    [
        ([0.84, 0.86, 0.85], "M3CoL", "cannot be judged: the number of runs is not printed; 3 runs of ours"),
        (
            [0.84, 0.86],
            "Released code with --multi_mixup, patched to run",
            "cannot be judged: 2 runs of ours, and it takes 3",
        ),
    ],
)
def test_what_cannot_be_judged_says_why(grid: Grid, values: list[float], row: str, says: str) -> None:
    one, best = released(grid, values)[row]
    assert [verdict_on(r) for r in (one, best)] == [says, says]


def test_published_numbers_are_compared_under_both_protocols(grid: Grid) -> None:
    low, high = {("m3col", "base"): around(0.81)}, {("m3col", "base"): around(0.8865)}
    results = pl.concat([table(low), table(high, protocol="optimistic")])
    found = reproductions(evidence(grid, results), EXPERIMENT)
    (pair,) = found
    assert [r.protocol for r in pair] == ["selected", "optimistic"]
    printed = next(p for p in grid.published(EXPERIMENT).rows if p.dataset == DATASET and p.method == "m3col")
    assert {r.published for r in pair} == {printed.values[METRIC]}
    (sentence,) = reproduction_sentences(found)
    assert "M3CoL is published as 88.7 ± 0.94. Ours, epoch selected on validation 81.0" in sentence
    assert "cannot be judged: the number of runs is not printed; 5 runs of ours; best epoch on the test" in sentence


def test_one_number_beside_several_cells_says_which_is_meant(grid: Grid) -> None:
    scores = {("m3col", "base"): around(0.81), ("m3col", "full_train"): around(0.82)}
    results = table(scores).with_columns(experiment=pl.lit("m3col_released_protocol"))
    said = reproduction_sentences(reproductions(evidence(grid, results), "m3col_released_protocol"))
    assert ["Ours (M3CoL), epoch" in said[0], "Ours (M3CoL, all of train), epoch" in said[1]] == [True, True]


def test_without_a_validation_split_the_last_epoch_is_compared(grid: Grid) -> None:
    results = table({("m3col", "base"): around(0.81)}, protocol="last")
    ((one, best),) = reproductions(evidence(grid, results), EXPERIMENT)
    assert (one.protocol, best) == ("last", None)


def test_optimism_is_the_mean_gain_of_the_selecting_metric() -> None:
    gains = {("m3col", "base"): 0.04, ("concat", "base"): 0.02}
    selected = {c: around(0.8) for c in gains}
    best = {c: around(0.8 + gain) for c, gain in gains.items()}
    results = pl.concat([table(selected), table(best, protocol="optimistic")])
    twice = pl.concat([summarise(results), summarise(results).with_columns(experiment=pl.lit("other"))])
    found = optimism(twice, {DATASET: METRIC})
    assert found == (pytest.approx(3.0), pytest.approx(1.0), 2), "a cell of two experiments counts once"
    assert optimism(summarise(table(selected)), {DATASET: METRIC}) is None


def test_a_suite_with_overrides_allows_no_finding(grid: Grid) -> None:
    results = table({("concat", "base"): around(0.5), ("m3col", "base"): around(0.9)})
    said = findings(evidence(grid, results), EXPERIMENT)
    assert any("M3CoL is published as" in s for s in said)
    smoke = Grid(REPO, "smoke")
    (only,) = findings(evidence(smoke, results), EXPERIMENT)
    assert only.startswith("No conclusion can be drawn from these numbers: the suite 'smoke' changes every cell")
    assert "finetune.epochs = " in only


def test_own_cells_are_those_of_the_papers_method(grid: Grid) -> None:
    assert {c.method for c in own_cells(grid, EXPERIMENT)} == {"m3col"}


def test_differences_are_paired_by_seed_and_leave_out_the_reference(grid: Grid) -> None:
    results = table(
        {("concat", "base"): [0.5, 0.6, 0.7], ("m3col", "base"): [0.55, 0.65, 0.75], ("mixup", "base"): [0.9]}
    )
    of = Scope(evidence(grid, results), EXPERIMENT, DATASET)
    found = of.differences(METRIC, CellRef(method="concat"))
    assert {method: (d.mean, d.n) for (method, _), d in found.items()} == {
        "m3col": (pytest.approx(0.05), 3),
        "mixup": (pytest.approx(0.4), 1),
    }


def test_seed_scores_of_a_protocol_that_does_not_exist_are_empty(grid: Grid) -> None:
    of = Scope(evidence(grid, table({("m3col", "base"): [0.5]}, "last")), EXPERIMENT, DATASET)
    assert of.scores(CellRef(method="m3col"), METRIC, "last") == {0: 0.5}
    assert of.scores(CellRef(method="m3col"), METRIC) == {}

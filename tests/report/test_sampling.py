"""Figures on negative sampling show the numbers they are given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmcontrast.config import CellConfig, CellRef
from mmcontrast.errors import ConfigError
from mmcontrast.evaluation.across import study_reward
from mmcontrast.paths import Layout
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.figures.registry import KINDS, FigureSpec, caption, figures
from mmcontrast.report.figures.style import house_style
from mmcontrast.report.figures.tuple_infonce import swept, trial_rewards
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
GRID = grid_of("tuple_ablations")
DATASET, SEEDS = "weak_modality", (0, 1, 2, 3, 4)
MODALITIES = ("strong", "middle", "weak")
ALPHAS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class MadeUp(Evidence):
    """With one history for all cells."""

    logged: pl.DataFrame | None = None

    def history(self, cell: CellConfig) -> pl.DataFrame:
        return frame([]) if self.logged is None else self.logged


def sampling(experiment: str, history: pl.DataFrame | None = None, shift: dict[str, float] | None = None) -> Scope:
    """Scores that depend on the place of a cell in its experiment, the seed, and `shift` of the metric."""
    rows = []
    for place, ref in enumerate(GRID.experiments[experiment].cells):
        for metric, by in (shift or {"acc": 0.0}).items():
            rows += [
                (experiment, DATASET, ref.method, ref.variant, s, "selected", "test", metric, score(place, s) - by, 90)
                for s in SEEDS
            ]
    columns = ["experiment", "dataset", "method", "variant", "seed", "protocol", "split", "metric", "value", "n"]
    results = pl.DataFrame(rows, schema=columns, orient="row")
    return Scope(MadeUp(GRID, Layout(), results, results.clear(), logged=history), experiment, DATASET)


def score(place: int, seed: int) -> float:
    return 0.5 + 0.05 * place + 0.001 * seed


def frame(rows: list[tuple[int, int, str, float]]) -> pl.DataFrame:
    schema = {"seed": pl.Int64, "epoch": pl.Int64, "name": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def grid_history() -> pl.DataFrame:
    """The reward falls with alpha, and has noise of its own for each seed."""
    rows = []
    for seed in SEEDS:
        for i, alpha in enumerate(ALPHAS):
            rows.append((seed, 0, f"search/trial{i}/reward", reward(i, seed)))
            rows += [(seed, 0, f"search/trial{i}/alpha_{m}", alpha) for m in MODALITIES]
    return frame(rows)


def reward(i: int, seed: int) -> float:
    return 0.6 - 0.05 * i + 0.01 * seed


def drawn(kind: str, data: Scope, narrow: bool = False):
    with house_style():
        figure = KINDS[kind].draw(data, narrow)
        figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("narrow", [False, True])
def test_alpha_against_accuracy_and_reward(narrow):
    metrics = {"acc": 0.0, "shared/acc": 0.1, "strong/acc": 0.2, "middle/acc": 0.3}
    figure = drawn("alpha", sampling("tuple_alpha", grid_history(), metrics), narrow)
    left, right = figure.axes
    # the second row is the search, which has no place on the axis
    means = [100 * np.mean([score(p, s) for s in SEEDS]) for p in (0, *range(2, len(ALPHAS) + 1))]
    assert left.lines[0].get_label() == "Accuracy"
    for line, by in zip(left.lines, metrics.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.array(means) - 100 * by)
    assert [t.get_text() for t in left.get_xticklabels()] == ["0", "0.25", "0.5", "1", "2", "4"]
    rewards = np.array([[reward(i, s) for s in SEEDS] for i in range(len(ALPHAS))])
    *seeds, mean = right.lines
    np.testing.assert_allclose(mean.get_ydata(), rewards.mean(1))
    np.testing.assert_allclose([line.get_ydata() for line in seeds], rewards.T)
    scores = 100 * np.array([[score(i, s) for s in SEEDS] for i in range(len(ALPHAS))])
    found = study_reward(rewards, scores)
    assert found.rank_correlation == -1
    text = " ".join(right.texts[0].get_text().split())
    assert f"rank correlation with accuracy {found.rank_correlation:+.2f}" in text
    assert f"over alpha {found.between:.3f}, of one seed {found.within:.3f}" in text


def test_rewards_of_a_grid_by_alpha():
    found = trial_rewards(grid_history(), "weak")
    assert list(found) == list(ALPHAS)
    assert found[0.5] == [reward(2, s) for s in SEEDS]


def test_the_path_of_a_search():
    rows = []
    for seed in SEEDS:
        for at in range(3):
            rows += [(seed, at, f"search/alpha_{m}", i + at + 0.1 * seed) for i, m in enumerate(MODALITIES)]
        for at in range(2):
            ends = (("", 0.5), ("_low", 0.4), ("_high", 0.7))
            rows += [(seed, at, f"search/reward{end}", at + value + 0.01 * seed) for end, value in ends]
            rows.append((seed, 2 * at + 1, "search/beta", 1 + at + 0.1 * seed))
    figure = drawn("search", sampling("tuple_search", frame(rows)))
    path, rewards, strength = figure.axes
    means = {line.get_label(): line.get_ydata() for line in path.lines if not line.get_label().startswith("_")}
    for i, m in enumerate(MODALITIES):
        np.testing.assert_allclose(means[m], [i + 0.2, i + 1.2, i + 2.2])
    assert len(path.lines) == len(MODALITIES) * (1 + len(SEEDS))
    np.testing.assert_allclose(rewards.lines[0].get_ydata(), [0.52, 1.52])
    np.testing.assert_allclose(strength.lines[-1].get_xydata(), [[1, 1.2], [3, 2.2]])
    of = sampling("tuple_search", frame(rows))
    assert len(drawn("search", Scope(of.evidence, "tuple_handwritten", of.dataset)).axes) == 2


def test_a_search_that_no_cell_makes_is_refused():
    with pytest.raises(ConfigError, match=r"tuple_rows\.yaml: figures: search: no cell searches by reinforce"):
        drawn("search", sampling("tuple_rows"))


def test_similarities_by_epoch():
    rows = [
        (seed, epoch, f"train/{name}", level + 0.1 * epoch + 0.01 * seed)
        for seed in SEEDS
        for epoch in range(3)
        for name, level in (("positive_similarity", 0.5), *((f"own_similarity_{m}", 0.2) for m in MODALITIES))
    ]
    data = sampling("tuple_one_modality", frame(rows))
    figure = drawn("similarity", data)
    assert len(figure.axes) == len(data.cells)
    first = figure.axes[0].lines
    assert [line.get_label() for line in first] == ["positive", *(f"{m} of another instance" for m in MODALITIES)]
    np.testing.assert_allclose(first[0].get_ydata(), [0.52, 0.62, 0.72])


def test_removed_modalities():
    shift = {"acc": 0.0} | {f"acc@without_{m}": 0.1 * (i + 1) for i, m in enumerate(MODALITIES)}
    figure = drawn("removed", sampling("tuple_removed", shift=shift))
    dots = [tuple(d.get_offsets()[0]) for d in figure.axes[0].collections]
    whole, *lacking = dots[:4]
    assert whole == pytest.approx((50.2, 0))
    assert [x for x, _ in lacking] == pytest.approx([40.2, 30.2, 20.2])


def test_every_kind_of_figure_has_a_caption_of_its_name():
    text = (ROOT / "src/mmcontrast/report/templates/captions.txt").read_text(encoding="utf-8")
    written = re.findall(r"{% macro (\w+)\(of, told\) %}", text)
    assert sorted(written) == sorted(KINDS)


def test_every_kind_has_a_caption_with_its_n():
    kinds = {
        "alpha": "tuple_alpha",
        "search": "tuple_search",
        "similarity": "tuple_one_modality",
        "removed": "tuple_removed",
    }
    for kind, experiment in kinds.items():
        of = sampling(experiment)
        text = caption(of.evidence, FigureSpec("", kind, of.experiment, of.dataset))
        assert "5 seeds" in text
        assert "90 test instances" in text or kind in ("search", "similarity")
    for kind, experiment in list(kinds.items())[:2]:
        assert kind in [spec.kind for spec in figures(GRID, experiment)]


def test_alphas_of_one_number_alone_are_swept():
    found = swept(sampling("tuple_search"))
    assert {alpha: ref.variant for alpha, ref in found.items()} == {0.0: "naive", 1.0: "base"}
    assert isinstance(found[0.0], CellRef)

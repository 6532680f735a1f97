"""Tuning: as many trials for every method, chosen on validation, kept beside what was chosen before."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmcontrast.config import CellConfig, Grid
from mmcontrast.config.methods import Choice, TunedDataset, Tuning, TuningPlan
from mmcontrast.errors import ConfigError, DivergedError
from mmcontrast.paths import Layout
from mmcontrast.pipeline.tune import probe_after_training, tune, tuned_methods

ROOT = Path(__file__).parents[2]


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "params/tuning/shared.yaml").unlink()
    return Grid(tmp_path, untuned=True)


def peaked(rates: dict[str, float], otherwise: float = 1e-3):
    """A trainer whose score is the higher, the nearer the rate is to one that each method has."""

    def train(cell: CellConfig, layout: Layout, tasks: Sequence[str] = ()) -> list[tuple[float, float]]:
        lr = getattr(cell, cell.last_stage).optimizer.lr
        distance = abs(math.log10(lr / rates.get(cell.method, otherwise)))
        return [(0.9 - distance / 10 + seed / 1e6, distance) for seed in cell.seeds]

    return train


def planned(grid: Grid, **of_tcga: Any) -> TuningPlan:
    """Plan something else for tcga_brca."""
    recipe = grid.recipes["shared"]
    datasets = {**recipe.tuning.datasets, "tcga_brca": TunedDataset(**of_tcga)}
    plan = recipe.tuning.model_copy(update={"datasets": datasets})
    grid.recipes["shared"] = recipe.model_copy(update={"tuning": plan})
    return plan


def read(file: Path) -> dict[str, dict[str, Choice]]:
    return Tuning.model_validate(yaml.safe_load(file.read_text())).choices


def test_every_method_is_tried_at_every_rate_with_every_tuning_seed(grid: Grid) -> None:
    seen = []

    def train(cell: CellConfig, layout: Layout, tasks: Sequence[str] = ()) -> list[tuple[float, float]]:
        seen.append((cell.dataset, cell.method, tuple(cell.seeds), layout.prefix))
        return peaked({"comm": 3e-3, "cross": 1e-2})(cell, layout)

    plan = grid.recipes["shared"].tuning
    choices = read(tune(grid, "shared", ["tcga_brca"], train=train))
    methods = [m for m, _ in tuned_methods(grid, "shared", "tcga_brca")]
    assert len(methods) > 8
    # not also as the variant whose probe is fitted again, nor as the untrained twin
    assert ("comm", "shared") in tuned_methods(grid, "shared", "tcga_brca")
    assert set(choices["tcga_brca"]) == set(methods)
    assert [s[1] for s in seen] == [m for m in methods for _ in plan.rates]
    assert {s[2] for s in seen} == {tuple(plan.seeds)}
    assert len({s[3] for s in seen}) == len(plan.rates)  # no trial writes over another's
    found = choices["tcga_brca"]
    assert {m: found[m].lr for m in methods} == dict.fromkeys(methods, 1e-3) | {"comm": 3e-3, "cross": 1e-2}
    for choice in found.values():
        assert [t.lr for t in choice.trials] == plan.rates
        assert {len(t.validation) for t in choice.trials} == {len(t.loss) for t in choice.trials} == {len(plan.seeds)}
        assert (choice.reason, choice.missing_side) == (None, None)


@pytest.mark.parametrize(
    ("best", "lr", "beyond"), [(2e-5, 3e-5, [3e-5, 9e-6]), (0.1, 0.09, [0.09, 0.3]), (3e-2, 3e-2, [0.09])]
)
def test_rates_go_on_beyond_an_end_until_the_best_is_between_two(
    grid: Grid, best: float, lr: float, beyond: list[float]
):
    (found,) = read(tune(grid, "shared", ["tcga_brca"], ["cross"], peaked({"cross": best})))["tcga_brca"].values()
    plan = grid.recipes["shared"].tuning
    assert (found.lr, found.reason) == (lr, None)
    assert [t.lr for t in found.trials] == [*plan.rates, *beyond]


def test_after_three_rates_beyond_an_end_the_file_says_why_the_best_is_there(grid: Grid) -> None:
    (found,) = read(tune(grid, "shared", ["tcga_brca"], ["cross"], peaked({"cross": 1e3})))["tcga_brca"].values()
    assert found.missing_side == "higher"
    assert found.reason == "the best of 9 rates, 3 beyond the plan's"


@pytest.mark.parametrize(
    ("untrained", "says"),
    [(0.9, "no rate is better than no training"), (0.6, "the lowest rate is the best")],
)
def test_of_the_lowest_rate_the_file_says_what_an_untrained_network_scores(grid: Grid, untrained: float, says: str):
    def train(cell: CellConfig, layout: Layout, tasks: Sequence[str] = ()) -> list[tuple[float, float]]:
        lr = cell.pretrain.optimizer.lr
        return [(0.8 - lr if cell.pretrain.epochs else untrained, 1.0)] * 3

    (found,) = read(tune(grid, "shared", ["tcga_brca"], ["cross"], train))["tcga_brca"].values()
    assert found.missing_side == "lower"
    assert found.reason == (
        f"{says}: the best of 9 rates, 3 beyond the plan's, scores 80 % on validation, and the untrained network "
        f"{100 * untrained:g} %"
    )


def test_equal_scores_go_to_the_lower_loss_and_what_diverged_is_never_chosen(grid: Grid) -> None:
    def train(cell: CellConfig, layout: Layout, tasks: Sequence[str] = ()) -> list[tuple[float, float]]:
        lr = cell.pretrain.optimizer.lr
        if lr > 5e-3:
            raise DivergedError("the loss is not finite")
        return [(0.5, 2.0 if lr != 3e-3 else 1.0)] * 3

    (found,) = read(tune(grid, "shared", ["tcga_brca"], ["comm"], train))["tcga_brca"].values()
    assert (found.lr, found.reason) == (3e-3, None)
    assert [t.lr for t in found.trials if not t.validation] == [1e-2, 3e-2]


def test_a_dataset_has_rates_seeds_and_tasks_of_its_own(grid: Grid) -> None:
    seen = []

    def train(cell: CellConfig, layout: Layout, tasks: Sequence[str] = ()) -> list[tuple[float, float]]:
        seen.append((cell.seeds, list(tasks)))
        return peaked({})(cell, layout)

    planned(grid, seeds=[101], rates=[3e-4, 1e-3, 3e-3], tasks=["stage"])
    (found,) = read(tune(grid, "shared", ["tcga_brca"], ["comm"], train))["tcga_brca"].values()
    assert seen == [([101], ["stage"])] * 3
    assert ([t.lr for t in found.trials], found.lr, found.tasks) == ([3e-4, 1e-3, 3e-3], 1e-3, ["stage"])


def test_a_dataset_that_takes_the_choices_of_another_is_trained_by_them(grid: Grid) -> None:
    tune(grid, "shared", ["trifeature_mid_biased"], ["cross"], peaked({}))
    lines = grid.root / "params/tuning/shared.yaml"
    tuned = Grid(grid.root, untuned=True)
    tuned.untuned, tuned.tunings = False, {"shared": Tuning.model_validate(yaml.safe_load(lines.read_text()))}
    for dataset in ("trifeature_mid", "trifeature_mid_biased"):
        assert tuned.cell(dataset, "cross", "shared").pretrain.optimizer.lr == 1e-3
    with pytest.raises(ConfigError, match=r"choices.trifeature_mid_biased: no learning rate of comm.*--datasets tri"):
        tuned.cell("trifeature_mid", "comm", "shared")


def test_other_choices_stay(grid: Grid) -> None:
    tune(grid, "shared", ["tcga_brca"], ["cross", "comm"], peaked({}))
    before = read(grid.root / "params/tuning/shared.yaml")
    tune(grid, "shared", ["weak_modality", "tcga_brca"], ["comm"], peaked({"comm": 1e-2}))
    after = read(grid.root / "params/tuning/shared.yaml")
    assert after["tcga_brca"]["cross"] == before["tcga_brca"]["cross"]
    assert {d: {m: c.lr for m, c in of.items()} for d, of in after.items()} == {
        "tcga_brca": {"comm": 1e-2, "cross": 1e-3},
        "weak_modality": {"comm": 1e-2},
    }


@pytest.mark.parametrize(
    ("recipe", "datasets", "methods", "words"),
    [
        ("sharde", None, None, r"no recipe 'sharde'.*'shared'"),
        ("shared", ["trifeature_mid"], None, "tuning.datasets: no dataset 'trifeature_mid'"),
        ("shared", ["tcga_brca"], ["com"], "no method 'com'; did you mean 'comm'"),
    ],
)
def test_what_cannot_be_tuned_is_refused(grid: Grid, recipe: str, datasets: Any, methods: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tune(grid, recipe, datasets, methods)


def test_a_trial_never_looks_at_the_test_split(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from mmcontrast.evaluation import stored
    from mmcontrast.evaluation.stored import Embeddings
    from mmcontrast.training import cell as training

    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    informative = Embeddings([str(i) for i in range(40)], labels, (labels[:, None] + rng.normal(size=(40, 3)) / 9))
    cell = grid.cell("weak_modality", "cross", "shared").model_copy(update={"seeds": [100]})
    found = {(100, "train"): informative, (100, "val"): informative}  # there is no test split to look at
    monkeypatch.setattr(training, "run_stage", lambda *_: {})
    monkeypatch.setattr(stored, "read_embeddings", lambda *_: found)
    ((score, loss),) = probe_after_training(cell, Layout("tune"))
    assert score == 1.0
    assert 0 < loss < 0.01

"""Tuning: as many trials for every method, chosen on validation, kept beside what was chosen before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from mmcontrast.config import CellConfig, Grid
from mmcontrast.errors import ConfigError
from mmcontrast.paths import Layout
from mmcontrast.pipeline.tune import probe_after_training, tune, tuned_methods

ROOT = Path(__file__).parents[2]


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "params/tuning/shared.yaml").unlink()
    return Grid(tmp_path, untuned=True)


def test_the_best_rate_on_validation_is_chosen_and_of_equals_the_first(grid: Grid) -> None:
    seen = []

    def train(cell: CellConfig, layout: Layout) -> float:
        rate = getattr(cell, cell.last_stage).optimizer.lr
        seen.append((cell.dataset, cell.method, rate, tuple(cell.seeds), layout.prefix))
        return {"comm": 0.5, "m3col": 1 - rate}.get(cell.method, rate)

    file = tune(grid, "shared", ["tcga_brca"], train)
    plan = grid.recipes["shared"].tuning
    choices = yaml.safe_load(file.read_text())["choices"]
    methods = [m for m, _ in tuned_methods(grid, "shared", "tcga_brca")]
    assert len(methods) == 9
    # not also as the variant whose probe is fitted again
    assert ("comm", "shared") in tuned_methods(grid, "shared", "tcga_brca")
    assert set(choices["tcga_brca"]) == set(methods)
    assert [s[2] for s in seen] == plan.rates * len(methods)
    assert {s[3] for s in seen} == {(plan.seed,)}
    assert len({s[4] for s in seen}) == len(plan.rates)  # no trial writes over another's
    assert choices["tcga_brca"]["comm"]["lr"] == plan.rates[0]
    assert choices["tcga_brca"]["m3col"]["lr"] == min(plan.rates)
    assert choices["tcga_brca"]["cross"]["lr"] == max(plan.rates)


def test_other_datasets_choices_stay(grid: Grid) -> None:
    tune(grid, "shared", ["tcga_brca"], lambda cell, layout: 0.5)
    before = yaml.safe_load((grid.root / "params/tuning/shared.yaml").read_text())["choices"]
    tune(grid, "shared", ["weak_modality"], lambda cell, layout: 0.5)
    after = yaml.safe_load((grid.root / "params/tuning/shared.yaml").read_text())["choices"]
    assert after["tcga_brca"] == before["tcga_brca"]
    assert set(after) == {"tcga_brca", "weak_modality"}


def test_what_cannot_be_tuned_is_refused(grid: Grid) -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'sharde'.*'shared'"):
        tune(grid, "sharde")
    with pytest.raises(ConfigError, match="does not tune on 'trifeature_mid'"):
        tune(grid, "shared", ["trifeature_mid"])


def test_a_trial_never_looks_at_the_test_split(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from mmcontrast.evaluation import embeddings as stored
    from mmcontrast.evaluation.embeddings import Embeddings
    from mmcontrast.training import cell as training

    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    informative = Embeddings([str(i) for i in range(40)], labels, (labels[:, None] + rng.normal(size=(40, 3)) / 9))
    cell = grid.cell("weak_modality", "cross", "shared").model_copy(update={"seeds": [100]})
    found = {(100, "train"): informative, (100, "val"): informative}  # there is no test split to look at
    monkeypatch.setattr(training, "run_stage", lambda *_: {})
    monkeypatch.setattr(stored, "read_embeddings", lambda *_: found)
    assert probe_after_training(cell, Layout("tune")) == 1.0

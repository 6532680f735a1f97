"""A grid made of plain objects again is the grid they were made of, as far as a report can see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmcontrast.config import Grid
from mmcontrast.config.grid import subset, whole
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
GRID = grid_of()
GRIDS = {"default": GRID, "smoke": grid_of("smoke")}
EVERYWHERE = [(suite, experiment) for suite, grid in GRIDS.items() for experiment in grid.active_experiments]


def through_json(plain: dict[str, object]) -> Grid:
    """As a job reads it: nothing but JSON, and no params/ where it runs."""
    return Grid.from_plain(json.loads(json.dumps(plain)), "/nowhere")


@pytest.mark.parametrize(("suite", "experiment"), EVERYWHERE)
def test_an_experiment_alone_is_what_it_was(suite: str, experiment: str) -> None:
    grid = GRIDS[suite]
    alone = through_json(subset(grid, experiment))
    spec = alone.experiments[experiment]
    assert alone.active_experiments == [experiment]
    assert spec == grid.experiments[experiment]
    assert alone.experiment_cells(experiment) == grid.experiment_cells(experiment)
    assert alone.cells == {name: grid.cells[name] for name in alone.cells}
    assert alone.suite.overrides == grid.suite.overrides
    assert alone.suite_name == suite
    for dataset in spec.datasets:
        assert alone.datasets[dataset] == grid.datasets[dataset]
        assert alone.seeds_of(dataset) == grid.seeds_of(dataset) or dataset not in grid.dataset_names
    for ref in spec.cells:
        own, other = alone.methods[ref.method], grid.methods[ref.method]
        assert (own.title, own.paper, own.implementation) == (other.title, other.paper, other.implementation)
        assert own.paper is None or alone.papers[own.paper].bibtex == grid.papers[own.paper].bibtex
    for name, recipe in alone.recipes.items():
        assert recipe.description == grid.recipes[name].description
    assert list(alone.methods) == list(grid.methods)
    assert spec.paper is None or alone.papers[spec.paper].title == grid.papers[spec.paper].title
    assert alone.published(experiment) == grid.published(experiment)


@pytest.mark.parametrize("experiment", GRID.active_experiments)
def test_it_holds_nothing_of_others(experiment: str) -> None:
    spec = GRID.experiments[experiment]
    files = subset(GRID, experiment)["files"]
    assert [f for f in files if f.startswith("params/experiments/")] == [GRID.files.where("experiments", experiment)]
    used = {ref.method for ref in spec.cells}
    for name in GRID.methods:
        raw = files[f"params/methods/{name}.yaml"]
        variants = {r.variant for r in spec.cells if r.method == name}
        assert set(raw.get("variants", {})) <= variants
        assert set(raw.get("datasets", {})) <= set(spec.datasets)
        if name not in used:
            assert "objective" not in raw


def test_the_whole_grid_is_what_it_was() -> None:
    again = through_json(whole(GRID))
    assert again.cells == GRID.cells
    assert again.active_experiments == GRID.active_experiments
    for kind in ("datasets", "methods", "experiments", "recipes", "tunings", "papers", "suite"):
        assert getattr(again, kind) == getattr(GRID, kind)


def test_an_untuned_selection_stays_one() -> None:
    again = through_json(whole(Grid(ROOT, "default", ["tcga_brca"], untuned=True)))
    assert again.dataset_names == ["tcga_brca"]
    assert again.cells
    assert again.untuned

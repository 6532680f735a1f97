"""The files of a report are known from params/, and are the files that get written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmcontrast import paths
from mmcontrast.config import Grid
from mmcontrast.paths import Layout
from mmcontrast.report import outputs
from mmcontrast.report.outputs import (
    curve_cells,
    experiment_outputs,
    figures,
    own_cells,
    projected_cells,
    results_outputs,
)
from tests.report.made_up_study import REPO, Made


def test_written_files_are_those_listed(reported: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "FIGURE_FORMATS", ("svg",))
    grid, layout = reported.grid, reported.layout
    listed = [*results_outputs(layout).values(), layout.report("index.html"), *map(layout.card, grid.cells)]
    for experiment in grid.active_experiments:
        listed += experiment_outputs(grid, layout, experiment)
    folder = reported.path(layout.report())
    written = [str(p.relative_to(grid.root)) for p in folder.rglob("*") if p.is_file()]
    assert sorted(written) == sorted(listed)
    assert len(set(listed)) == len(listed)


def test_every_figure_comes_in_every_format() -> None:
    grid, layout = Grid(REPO, "paper"), Layout("paper")
    for experiment in grid.active_experiments:
        listed = experiment_outputs(grid, layout, experiment)
        for figure in figures(grid, experiment):
            for suffix in (*paths.FIGURE_FORMATS, "narrow.svg"):
                assert layout.figure(figure.name, suffix) in listed
        for suffix in paths.TABLE_FORMATS:
            assert layout.table(experiment, suffix) in listed


def test_only_datasets_of_the_selection_have_figures() -> None:
    grid = Grid(REPO, "paper", ["rosmap"])
    assert {f.dataset for e in grid.active_experiments for f in figures(grid, e)} == {"rosmap"}


def test_a_tables_curves_show_each_method_once_and_no_single_modality() -> None:
    grid = Grid(REPO, "paper")
    cells = curve_cells(grid, "m3col_omics", "rosmap")
    assert len({c.method for c in cells}) == len(cells)
    for dataset in grid.dataset_names:
        assert all(grid.cell(dataset, c.method, c.variant).objective.get("modality") is None for c in cells)


def test_an_ablations_curves_show_every_cell() -> None:
    grid = Grid(REPO, "paper")
    assert curve_cells(grid, "m3col_parts", "rosmap") == grid.experiments["m3col_parts"].cells


def test_projection_shows_plain_fusion_beside_the_papers_method() -> None:
    grid = Grid(REPO, "paper")
    for experiment in ("m3col_omics", "m3col_released_protocol"):
        assert [c.method for c in projected_cells(grid, experiment, "rosmap")] == ["concat", "m3col"]
        assert {grid.methods[c.method].paper for c in own_cells(grid, experiment)} == {"m3col"}


def test_the_workflow_lists_files_without_heavy_imports() -> None:
    code = (
        "import sys, mmcontrast.report.outputs\n"
        "heavy = {'torch', 'polars', 'matplotlib', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imports {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_starts_without_heavy_imports() -> None:
    code = (
        "import sys, mmcontrast.report.page\n"
        "heavy = {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imports {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Made-up grids, built once for all tests of the report."""

from __future__ import annotations

import pytest

from mmcontrast.report import experiment as experiment_module
from mmcontrast.report import page as page_module
from mmcontrast.report.experiment import write_experiment
from mmcontrast.report.page import write_page, write_single
from mmcontrast.report.results import write_results
from tests.report.made_up_study import FEW_CELLS, ONE_DATASET, PROBED, Made, make_study


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two datasets, every cell evaluated and the results table written."""
    made = make_study(tmp_path_factory.mktemp("shared"), {"val": 24, "test": 30}, replicates=300)
    write_results(made.grid, made.layout)
    return made


@pytest.fixture(scope="session")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Cells without a classifier on a dataset of several tasks, with its table and page; figures as svg only."""
    return report(make_study(tmp_path_factory.mktemp("probed"), {"val": 20, "test": 30}, 300, PROBED))


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One dataset with every table, figure and the page. Figures as svg only: the other formats cost seconds."""
    return report(make_study(tmp_path_factory.mktemp("reported"), {"val": 24, "test": 30}, 300, ONE_DATASET, FEW_CELLS))


def report(made: Made) -> Made:
    """Write everything."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (experiment_module, page_module):
            patch.setattr(module, "FIGURE_FORMATS", ("svg",))
        write_results(made.grid, made.layout)
        for experiment in made.grid.active_experiments:
            write_experiment(made.grid, made.layout, experiment)
        write_page(made.grid, made.layout)
        write_single(made.grid, made.layout)
    return made

"""Made-up studies, built once for all tests of the report."""

from __future__ import annotations

import pytest

from mmcontrast.report import experiment as experiment_module
from mmcontrast.report import outputs as outputs_module
from mmcontrast.report import page as page_module
from mmcontrast.report.experiment import write_experiment
from mmcontrast.report.page import write_page
from mmcontrast.report.results import write_results
from tests.report.made_up_study import FEW_CELLS, ONE_DATASET, Made, make_study


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two datasets, every cell evaluated and the results table written."""
    made = make_study(tmp_path_factory.mktemp("study"), {"val": 24, "test": 30}, replicates=300)
    write_results(made.study, made.layout)
    return made


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One dataset with every table, figure and the page. Figures as svg only: the other formats cost seconds."""
    made = make_study(tmp_path_factory.mktemp("reported"), {"val": 24, "test": 30}, 300, ONE_DATASET, FEW_CELLS)
    with pytest.MonkeyPatch.context() as patch:
        for module in (experiment_module, outputs_module, page_module):
            patch.setattr(module, "FIGURE_FORMATS", ("svg",))
        write_results(made.study, made.layout)
        for experiment in made.study.active_experiments:
            write_experiment(made.study, made.layout, experiment)
        write_page(made.study, made.layout, "v1-2-gabcdef")
    return made

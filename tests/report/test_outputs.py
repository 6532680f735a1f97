"""The files of a report are known from params/, and are the files that get written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmcontrast import paths
from mmcontrast.config import Grid
from mmcontrast.config.experiments import figure_kinds, known_figure
from mmcontrast.report import experiment as experiment_module
from mmcontrast.report.experiment import write_figures
from mmcontrast.report.figures.cells import curve_cells, projected_cells
from mmcontrast.report.figures.registry import KINDS, figures
from mmcontrast.report.outputs import FRONT, PAGE, PAGES, SINGLE, experiment_outputs, own_cells, results_outputs
from tests.fresh import loaded
from tests.report.made_up_study import REPO, Made


def test_written_files_are_those_of_the_params(reported: Made) -> None:
    grid, layout = reported.grid, reported.layout
    listed = [*results_outputs(layout).values(), *map(layout.report, (FRONT, SINGLE)), *map(layout.card, grid.cells)]
    pages = ("paper-m3col", "data", "provenance", *grid.active_experiments)
    listed += [layout.report(f"{PAGES}/{page}.html") for page in pages]
    listed += map(layout.evidence, (*grid.active_experiments, PAGE))
    for experiment in grid.active_experiments:
        listed += [layout.table(experiment, suffix) for suffix in paths.TABLE_FORMATS]
        for figure in figures(grid, experiment):
            listed += [layout.figure(experiment, figure.name, suffix) for suffix in ("svg", "narrow.svg")]
    folder = reported.path(layout.report())
    written = [str(p.relative_to(grid.root)) for p in folder.rglob("*") if p.is_file()]
    assert sorted(written) == sorted(listed)
    assert len(set(listed)) == len(listed)
    folders = [f for e in grid.active_experiments for f in experiment_outputs(layout, e)]
    assert all(reported.path(f).is_dir() for f in folders)
    assert {str(p.parent.relative_to(grid.root)) for p in folder.glob("[tf]*/*/*")} <= set(folders)


def test_an_experiments_folder_holds_its_figures_alone_in_every_format(
    reported: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats: dict[str, str] = {}

    def save(_: object, files: list[Path]) -> None:
        for file in files:
            formats[file.name] = file.name.partition(".")[2]
            file.write_text("drawn")

    monkeypatch.setattr(experiment_module, "save", save)
    monkeypatch.setattr(experiment_module, "draw", lambda *_: None)
    folder = reported.path(reported.layout.figures("m3col_parts"))
    kept = {p: p.read_bytes() for p in folder.iterdir()}
    (folder / "of_another_suite.svg").write_text("old")
    try:
        write_figures(reported.evidence, "m3col_parts")
        assert {p.name for p in folder.iterdir()} == formats.keys()
        assert set(formats.values()) == {*paths.FIGURE_FORMATS, "narrow.svg"}
        monkeypatch.setattr(experiment_module, "figures", lambda *_: [])
        write_figures(reported.evidence, "m3col_parts")
        assert not list(folder.iterdir())
    finally:
        for p, content in kept.items():
            p.write_bytes(content)


def test_the_kinds_that_the_configuration_knows_are_those_that_are_drawn() -> None:
    assert figure_kinds() == {name: kind.section for name, kind in KINDS.items()}
    with pytest.raises(ValueError, match="no figure 'score'; did you mean 'scores'"):
        known_figure("score")


def test_every_file_of_figures_is_imported_with_the_package() -> None:
    folder = REPO / "src/mmcontrast/report/figures"
    loaded = {m.rpartition(".")[2] for m in sys.modules if m.startswith("mmcontrast.report.figures.")}
    assert {p.stem for p in folder.glob("*.py")} - {"__init__"} == loaded


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
    heavy = {"torch", "polars", "matplotlib", "numpy", "scipy", "sklearn"}
    assert not heavy & loaded("import mmcontrast.report.outputs")


def test_the_page_starts_without_heavy_imports() -> None:
    code = (
        "import sys, mmcontrast.report.page\n"
        "heavy = {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imports {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_evidence_alone_reads_what_cells_left() -> None:
    folder = REPO / "src/mmcontrast/report"
    readers = ("read_table(", "read_parquet(", "read_frame(", "read_json(", "load_split(", ".read_bytes()")
    reading = {p.name for p in folder.rglob("*.py") if any(reader in p.read_text() for reader in readers)}
    # the results are made of cells' scores; the page takes in the figures, and a digest of code its sources
    assert reading <= {"evidence.py", "results.py", "page.py", "provenance.py"}

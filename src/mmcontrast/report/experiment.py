"""The table and the figures of one experiment."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from mmcontrast.config import Grid
from mmcontrast.data.files import replacing
from mmcontrast.paths import FIGURE_FORMATS, Layout
from mmcontrast.report.evidence import Evidence
from mmcontrast.report.figures.registry import draw, figures
from mmcontrast.report.figures.style import NARROW_SUFFIX, house_style, save
from mmcontrast.report.tables.build import build_table
from mmcontrast.report.tables.formats import Table, to_csv, to_latex, to_markdown

RENDERERS: dict[str, Callable[[Table], str]] = {"md": to_markdown, "tex": to_latex, "csv": to_csv}


def write_experiment(grid: Grid, layout: Layout, experiment: str) -> None:
    """Fill the folders of `outputs.experiment_outputs`, and leave nothing else in them.

    Raises:
        DataError: the results, or a file of one of its cells, are missing.
    """
    evidence = Evidence.of_experiment(grid, layout, experiment)
    write_table(evidence, experiment)
    write_figures(evidence, experiment)


def write_table(evidence: Evidence, experiment: str) -> None:
    """The experiment's table as md, tex and csv."""
    table, layout = build_table(evidence, experiment), evidence.layout
    paths = {evidence.grid.root / layout.table(experiment, s): render(table) for s, render in RENDERERS.items()}
    for path, text in paths.items():
        with replacing(path) as temp:
            temp.write_text(text, encoding="utf-8")
    leave_only(evidence.grid.root / layout.tables(experiment), paths)


def write_figures(evidence: Evidence, experiment: str) -> None:
    """The experiment's figures in every format, and in a narrow layout."""
    root, layout, written = evidence.grid.root, evidence.layout, []
    with house_style():
        for spec in figures(evidence.grid, experiment):
            for narrow in (False, True):
                suffixes = (NARROW_SUFFIX,) if narrow else FIGURE_FORMATS
                paths = [root / layout.figure(experiment, spec.name, suffix) for suffix in suffixes]
                save(draw(evidence, spec, narrow), paths)
                written += paths
    leave_only(root / layout.figures(experiment), written)


def leave_only(folder: Path, paths: Iterable[Path]) -> None:
    """A folder as it is declared: there, with these files alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in set(folder.iterdir()) - set(paths):
        shutil.rmtree(old) if old.is_dir() else old.unlink()

"""reports/index.html: the whole report as one file that needs nothing else, summary first."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmcontrast.config import Grid
from mmcontrast.data.files import replacing
from mmcontrast.errors import DataError
from mmcontrast.paths import FIGURE_FORMATS, TABLE_FORMATS, Layout
from mmcontrast.report.cards import write_cards
from mmcontrast.report.evidence import Evidence
from mmcontrast.report.figures.registry import FigureSpec, caption, figures
from mmcontrast.report.figures.style import NARROW_SUFFIX
from mmcontrast.report.outputs import ALL
from mmcontrast.report.provenance import anchor, cell_records, code_version, environment, raw_checksum
from mmcontrast.report.tables.build import build_table
from mmcontrast.report.tables.formats import text_of
from mmcontrast.report.tables.published import paper_parts
from mmcontrast.report.text import wording
from mmcontrast.report.text.conclusions import optimism, verdict_on
from mmcontrast.report.text.notes import overrides_note
from mmcontrast.report.text.wording import count, definitions, points

TEMPLATES = Path(__file__).parent / "templates"


def write_page(grid: Grid, layout: Layout) -> None:
    """Write reports/index.html and the model cards it links, reports/models/.

    Of a grid `without` some cells it writes what there is of it.

    Raises:
        DataError: the results, a figure, a datasheet or a cost record are missing.
    """
    evidence = Evidence.read(grid, layout)
    environment_ = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment_.globals.update(text_of=text_of, anchor=anchor, verdict_on=verdict_on, wording=wording)
    records, code = cell_records(evidence), code_version(grid.root)
    write_cards(evidence, records, code, environment_)
    html = environment_.get_template("index.html").render(
        suite=grid.suite_name,
        description=grid.suite.description,
        warning=overrides_note(grid),
        overview=_overview(grid),
        bibliography=grid.papers,
        papers=paper_parts(evidence),
        studies=[e for e in grid.active_experiments if grid.experiments[e].paper is None],
        lost=grid.lost,
        optimism=_optimism(evidence),
        protocols=definitions(
            set(evidence.whole_summary["protocol"]),
            [(grid.datasets[cell.dataset], cell.scored_by == "probe") for cell in grid.cells.values()],
        ),
        experiments={e: _experiment(evidence, e) for e in grid.active_experiments},
        sheets=evidence.datasheets,
        cells=records,
        checksums={d: raw_checksum(sheet) for d, sheet in evidence.datasheets.items()},
        environment={"mmcontrast": code} | environment(),
    )
    with replacing(grid.root / layout.report("index.html")) as temp:
        temp.write_text(html, encoding="utf-8")
    if not grid.lost:
        shutil.rmtree(grid.root / layout.partial().report(), ignore_errors=True)


def _overview(grid: Grid) -> str:
    cells = grid.cells.values()
    datasets = ", ".join(grid.datasets[d].title for d in dict.fromkeys(c.dataset for c in cells))
    numbers = sorted({len(c.seeds) for c in cells})
    seeds = count(numbers[0], "seed") if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]} seeds"
    methods = ", ".join(grid.methods[m].title for m in dict.fromkeys(c.method for c in cells))
    return (
        f"{count(len(grid.active_experiments), 'experiment')}, {count(len(cells), 'cell')} (dataset x method x "
        f"variant), {seeds} each. Datasets: {datasets}. Methods: {methods}."
    )


def _optimism(evidence: Evidence) -> str:
    grid = evidence.grid
    found = optimism(evidence.whole_summary, {d: grid.datasets[d].metrics[0] for d in grid.dataset_names})
    if found is None or grid.suite.overrides.given():
        return ""
    gain, spread, n = found
    return (
        f"Choosing the epoch on the test split instead of on validation would add {points(gain)} points to the first "
        f"metric on average over {count(n, 'cell')} (standard deviation {points(spread)}), without a better model."
    )


def _experiment(evidence: Evidence, name: str) -> dict[str, Any]:
    table, drawn = build_table(evidence, name), figures(evidence.grid, name)
    scopes = evidence.scopes(name)

    def shown(dataset: str) -> dict[str, Any]:
        return {
            "figures": [_figure(evidence, f) for f in drawn if f.dataset == dataset],
            "blocks": [b for b in table.blocks if b.keys["dataset"] == dataset],
        }

    return {
        "name": name,
        "file": evidence.grid.files.where("experiments", name),
        "table": table,
        "scopes": scopes,
        "parts": [{"title": of.data.title} | found for of in scopes if any((found := shown(of.dataset)).values())],
        "together": shown(ALL),
        "table_files": [(s, _link(evidence.layout, evidence.layout.table(name, s))) for s in TABLE_FORMATS],
    }


def _figure(evidence: Evidence, spec: FigureSpec) -> dict[str, Any]:
    layout, root = evidence.layout, evidence.grid.root
    again = f"mmcontrast report {spec.experiment}{layout.select}"
    files = {s: layout.figure(spec.experiment, spec.name, s) for s in (*FIGURE_FORMATS, "svg", NARROW_SUFFIX)}
    return {
        "caption": caption(evidence, spec),
        "wide": _inlined(root / files["svg"], again),
        "narrow": _inlined(root / files[NARROW_SUFFIX], again),
        "files": [(suffix, _link(layout, files[suffix])) for suffix in FIGURE_FORMATS],
    }


def _link(layout: Layout, path: str) -> str:
    """From the page."""
    return path.removeprefix(layout.report() + "/")


def _inlined(path: Path, command: str) -> str:
    """An SVG as a data URI: as an image of its own, so that ids inside it cannot clash with another figure's."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; run `{command}` first")
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()

"""The report as a folder that opens without a server, or as one file: a front page, a page per experiment and paper."""

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmcontrast.config import Grid
from mmcontrast.config.metrics import measure
from mmcontrast.data.files import write_text
from mmcontrast.errors import DataError
from mmcontrast.paths import FIGURE_FORMATS, TABLE_FORMATS, Layout
from mmcontrast.report.evidence import Evidence
from mmcontrast.report.experiment import build_table, leave_only
from mmcontrast.report.figures.registry import FigureSpec, caption, figures
from mmcontrast.report.figures.style import NARROW_SUFFIX
from mmcontrast.report.outputs import ALL, FRONT, PAGES, SINGLE
from mmcontrast.report.provenance import anchor, cell_records, code_version, environment, raw_checksum, write_cards
from mmcontrast.report.tables.formats import text_of
from mmcontrast.report.tables.published import paper_parts, verdict_on
from mmcontrast.report.text import wording
from mmcontrast.report.text.wording import definitions, overrides_note

PROVENANCE = ("provenance", "environment", "methods")
Part = tuple[str, Any]  # a template and what it shows
# findings in words, beyond which they are folded
MOST_UNFOLDED = 8


@dataclass(frozen=True)
class Links:
    """Addresses in the report as its page `here` has them; `layout`: where files are in the checkout `root`."""

    layout: Layout
    root: Path
    here: str

    @property
    def single(self) -> bool:
        """Whether everything is on this page."""
        return self.here == SINGLE

    def to(self, target: str) -> str:
        """What has this id, on whichever page it is."""
        name = target.removeprefix("from-")
        kind = "provenance" if name in PROVENANCE or name.startswith("cell-") else name
        kind = "data" if name.startswith("data-") else kind
        page = FRONT if name == "summary" else f"{PAGES}/{kind}.html"
        return f"#{target}" if self.single or page == self.here else f"{self.file(page)}#{target}"

    def file(self, path: str) -> str:
        """A file of the report."""
        return "../" * self.here.count("/") + path.removeprefix(f"{self.layout.report()}/")

    def image(self, figure: FigureSpec, suffix: str) -> str:
        """A figure: its file, or on a single page a data URI, so that ids in it cannot clash with another figure's.
        Raises DataError: it has not been drawn.
        """
        path = self.layout.figure(figure.experiment, figure.name, suffix)
        if not (self.root / path).is_file():
            again = f"mmcontrast report {figure.experiment}{self.layout.select}"
            raise DataError(f"{self.root / path}: no such file; run `{again}` first")
        if not self.single:
            return self.file(path)
        return "data:image/svg+xml;base64," + base64.b64encode((self.root / path).read_bytes()).decode()


def write_page(grid: Grid, layout: Layout) -> None:
    """Write reports/index.html, pages/ behind it and the cards in models/, of what a grid `without` some cells has.
    Raises DataError: the results, a figure, a datasheet or a cost record are missing.
    """
    evidence, folder = Evidence.read(grid, layout), grid.root / layout.report()
    shown = _shown(evidence)
    write_cards(evidence, shown["cells"], shown["code"])
    pages = _pages(shown)
    for page, part in pages.items():
        _write(evidence, page, [part], shown)
    leave_only(folder / PAGES, [folder / page for page in pages])
    if not grid.lost:
        shutil.rmtree(grid.root / layout.partial().report(), ignore_errors=True)


def write_single(grid: Grid, layout: Layout) -> Path:
    """Write the report as one file that needs nothing else, and say where it is. Raises DataError as `write_page`."""
    evidence = Evidence.read(grid, layout)
    shown = _shown(evidence)
    return _write(evidence, SINGLE, list(_pages(shown).values()), shown)


def _pages(shown: dict[str, Any]) -> dict[str, Part]:
    """Every page and what it has, in the order in which they are one."""
    pages: dict[str, Part] = {FRONT: ("front.html", None)}
    pages |= {f"{PAGES}/paper-{p['key']}.html": ("paper.html", p) for p in shown["papers"]}
    pages |= {f"{PAGES}/{name}.html": ("experiment.html", e) for name, e in shown["experiments"].items()}
    return pages | {f"{PAGES}/{name}.html": (f"{name}.html", None) for name in ("data", "provenance")}


def _write(evidence: Evidence, page: str, parts: list[Part], shown: dict[str, Any]) -> Path:
    links, path = Links(evidence.layout, evidence.grid.root, page), evidence.grid.root / evidence.layout.report(page)
    write_text(path, wording.templates().get_template("page.html").render(shown | {"parts": parts, "links": links}))
    return path


def _shown(evidence: Evidence) -> dict[str, Any]:
    grid = evidence.grid
    experiments = {e: _experiment(evidence, e) for e in grid.active_experiments}
    # what is of no paper is the user's own, or across papers
    own_first = sorted(experiments.values(), key=lambda e: grid.experiments[e["name"]].paper is not None)
    first = {d: grid.datasets[d].metrics[0] for d in grid.dataset_names}
    code = code_version(grid.root)
    return {
        "grid": grid,
        "layout": evidence.layout,
        "suffixes": {"figure": FIGURE_FORMATS, "table": TABLE_FORMATS, "narrow": NARROW_SUFFIX},
        "warning": overrides_note(grid),
        "most_unfolded": MOST_UNFOLDED,
        "papers": [p for p in paper_parts(evidence) if p["experiments"]],
        "optimism": None if grid.suite.overrides.given() else optimism(evidence.whole_summary, first),
        "protocols": definitions(
            set(evidence.whole_summary["protocol"]),
            [(grid.datasets[cell.dataset], cell.scored_by == "probe") for cell in grid.cells.values()],
        ),
        "experiments": experiments,
        "cards": [_card(evidence, e) for e in own_first],
        "sheets": evidence.datasheets,
        "cells": cell_records(evidence),
        "checksums": {d: raw_checksum(sheet) for d, sheet in evidence.datasheets.items()},
        "code": code,
        "environment": {"mmcontrast": code} | environment(),
        **{"text_of": text_of, "anchor": anchor, "verdict_on": verdict_on, "wording": wording},
    }


def _card(evidence: Evidence, e: dict[str, Any]) -> dict[str, Any]:
    """Its first picture, and what holds across a matrix, or its first finding; its caption where nothing follows."""
    drawn = [f for part in (e["together"], *e["parts"]) for f in part["figures"]]
    table, grid = e["table"], evidence.grid
    findings = [] if grid.suite.overrides.given() else table.findings
    last = grid.experiments[e["name"]].kind == "matrix"
    said = findings[-1 if last else 0] if findings else table.caption
    return {"name": e["name"], "title": table.title, "figure": drawn[0] if drawn else None, "said": said}


def optimism(summary: pl.DataFrame, metric_by_dataset: dict[str, str]) -> tuple[float, float, int] | None:
    """Gain in points of `optimistic` over `selected` in selecting metrics that are shares: mean, spread, cells."""
    gains = []
    keys = ["dataset", "method", "variant", "metric"]
    for (dataset, _, _, metric), part in summary.group_by(keys):
        means = dict(zip(part["protocol"], part["mean"], strict=True))
        counts = metric == metric_by_dataset[str(dataset)] and measure(str(metric)).percent
        if counts and {"selected", "optimistic"} <= means.keys():
            gains.append(100 * (means["optimistic"] - means["selected"]))
    return (float(np.mean(gains)), float(np.std(gains)), len(gains)) if gains else None


def _experiment(evidence: Evidence, name: str) -> dict[str, Any]:
    table, drawn = build_table(evidence, name), figures(evidence.grid, name)
    scopes = evidence.scopes(name)

    def shown(dataset: str) -> dict[str, Any]:
        return {
            "figures": [(f, caption(evidence, f)) for f in drawn if f.dataset == dataset],
            "blocks": [b for b in table.blocks if b.keys["dataset"] == dataset],
        }

    return {
        "name": name,
        "file": evidence.grid.files.where("experiments", name),
        "table": table,
        "scopes": scopes,
        "parts": [{"title": of.data.title} | found for of in scopes if any((found := shown(of.dataset)).values())],
        "together": shown(ALL),
    }

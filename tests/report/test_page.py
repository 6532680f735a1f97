"""The page is whole, needs nothing from elsewhere, and says what the results say."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mmcontrast import __version__, paths
from mmcontrast.config import Grid
from mmcontrast.data.files import told_json
from mmcontrast.errors import DataError
from mmcontrast.report import experiment as experiment_module
from mmcontrast.report import page as page_module
from mmcontrast.report.experiment import build_table, write_experiment
from mmcontrast.report.outputs import FRONT, PAGES, SINGLE
from mmcontrast.report.page import write_page, write_single
from mmcontrast.report.provenance import anchor, code_version, digest_of_code, digest_of_params, raw_checksum
from mmcontrast.report.results import write_results
from mmcontrast.report.tables.formats import text_of
from tests.report.made_up_study import Made

VOID = {"meta", "link", "img", "source", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags, ids, addresses and text; fails on a tag that is not closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[tuple[str, str, str]] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs) -> None:
        values = {k: v or "" for k, v in attrs}
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [(tag, k, v) for k, v in values.items() if k in ("href", "src", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def html(reported: Made) -> str:
    """The whole report as one file."""
    return reported.path(reported.layout.report(SINGLE)).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(reported: Made) -> dict[str, Page]:
    """The report in parts, by file."""
    folder = reported.path(reported.layout.report())
    files = [folder / FRONT, *sorted((folder / PAGES).iterdir())]
    return {str(file.relative_to(folder)): Page(file.read_text(encoding="utf-8")) for file in files}


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_page_parses_and_ids_are_unique(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert [t for t, _ in page.tags].count("h1") == 1


def test_every_address_resolves(page: Page, reported: Made) -> None:
    folder = reported.path(reported.layout.report())
    local = 0
    for tag, key, address in page.addresses:
        if address.startswith("#"):
            assert address[1:] in page.ids
        elif address.startswith("data:"):
            assert tag in ("img", "source", "link")
        elif address.startswith("https://"):
            assert (tag, key) == ("a", "href"), f"<{tag} {key}> would load {address}"
        else:
            assert (folder / address).is_file(), address
            local += 1
    assert local > 5


def test_every_address_of_every_page_leads_to_a_file_or_an_id(pages: dict[str, Page], reported: Made) -> None:
    folder = reported.path(reported.layout.report()).resolve()
    for name, one in pages.items():
        assert len(one.ids) == len(set(one.ids))
        for _, _, address in one.addresses:
            if not address.startswith(("data:", "https://")):
                path, _, target = address.partition("#")
                file = (folder / name).parent / path if path else folder / name
                assert file.is_file(), (name, address)
                where = str(file.resolve().relative_to(folder))
                assert not target or target in pages[where].ids, (name, address)


def test_the_front_page_has_a_picture_and_a_sentence_per_question(pages: dict[str, Page], reported: Made) -> None:
    front = pages[FRONT]
    assert [t for t, _ in front.tags].count("article") == len(reported.grid.active_experiments)
    assert [t for t, _ in front.tags].count("img") == len(reported.grid.active_experiments)
    assert "table" not in {t for t, _ in front.tags}
    text = flat(front.text)
    for experiment in reported.grid.active_experiments:
        table = build_table(reported.evidence, experiment)
        assert table.title in text
        assert flat((table.findings or [table.caption])[0]) in text
    assert "the best of" not in text, "the best row of a grid is no result"


def test_a_page_of_an_experiment_has_its_findings_and_no_others(pages: dict[str, Page], reported: Made) -> None:
    found = {e: build_table(reported.evidence, e).findings for e in reported.grid.active_experiments}
    assert any(found.values())
    for experiment in found:
        text = flat(pages[f"{PAGES}/{experiment}.html"].text)
        for other, findings in found.items():
            assert all((flat(said) in text) == (other == experiment) for said in findings)


def test_a_page_that_is_gone_is_removed(reported: Made) -> None:
    old = reported.path(reported.layout.report(f"{PAGES}/old.html"))
    old.write_text("of an older run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "FIGURE_FORMATS", ("svg",))
        write_page(reported.grid, reported.layout)
    assert not old.exists()


def test_nothing_is_loaded_or_run(html: str, page: Page) -> None:
    assert not {"script", "iframe", "object", "embed"} & {t for t, _ in page.tags}
    assert not any(k.startswith("on") for _, values in page.tags for k in values)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style


def test_figures_are_inside_and_have_text_in_their_place(page: Page, reported: Made) -> None:
    images = [v for t, v in page.tags if t == "img"]
    sources = [v for t, v in page.tags if t == "source"]
    assert len(images) == len(sources) == 6
    for values, key in [*((v, "src") for v in images), *((v, "srcset") for v in sources)]:
        svg = base64.b64decode(values[key].removeprefix("data:image/svg+xml;base64,"))
        assert svg.startswith(b"<?xml")
        assert b"</svg>" in svg
    assert all("5 seeds" in v["alt"] or "seed 0" in v["alt"] for v in images)
    assert all("test instance" in v["alt"] or "validation" in v["alt"] for v in images)


def test_one_file_has_the_findings_of_every_table(page: Page, reported: Made) -> None:
    text = flat(page.text)
    found = [s for e in reported.grid.active_experiments for s in build_table(reported.evidence, e).findings]
    assert found
    assert all(flat(sentence) in text for sentence in found)
    assert "without a better model" in text


def test_published_numbers_have_a_verdict_in_their_papers_section(page: Page, reported: Made) -> None:
    text = flat(page.text)
    start = text.index("Published and ours")
    part = text[start : text.index("Multi-omics classification", start)]
    printed = next(p for p in reported.grid.published("m3col_omics").rows if p.method == "m3col")
    for metric, value in printed.values.items():
        assert f"{value} ± {printed.spread[metric]:g}" in part
    assert part.count("cannot be judged: the number of runs is not printed; 5 runs of ours") == 2 * len(printed.values)
    n, summary = len(printed.values), text[text.index("Numbers of others beside ours") : start]
    said = f"Of {n} numbers of others for what is run here, ours 0 times agrees, 0 times differs, and {n} times cannot"
    assert said in summary


def test_what_a_paper_shows_and_is_not_run_stands_there_with_its_reason(page: Page, reported: Made) -> None:
    text = flat(page.text)
    run = {reported.grid.experiments[e].paper for e in reported.grid.active_experiments}
    listed = [part for key, paper in reported.grid.papers.items() if key in run for part in paper.not_run.values()]
    others = [part for key, paper in reported.grid.papers.items() if key not in run for part in paper.not_run.values()]
    assert listed
    assert others
    named = {part.title for part in others} - {part.title for part in listed}
    assert not [title for title in named if title in text], "of papers that the suite does not touch"
    for spec in listed:
        assert spec.title in text
        for name, reason in spec.why.items():
            assert f"{name}: not run." in text
            assert flat(reason)[1:] in text
        for printed in spec.rows:
            assert printed.row in text
    assert "94.3 ± 0.04" in text
    assert "BRCA (MOGONET): not run. Not among the datasets of the suite 'made_up'." in text


def test_every_table_row_is_on_the_page_and_leads_to_its_cell(html: str, page: Page, reported: Made) -> None:
    for experiment in reported.grid.active_experiments:
        for block in build_table(reported.evidence, experiment).blocks:
            for row in block.rows:
                cells = [text_of(row.values.get(c.key), c.kind).replace("<", "&lt;") for c in block.columns]
                assert re.search(r"\s*".join(rf"<td[^>]*>{re.escape(c)}</td>" for c in cells), html), row.label
                assert row.cell is None or f'href="#{anchor(row.cell)}"' in html


def test_provenance_of_every_cell(page: Page, reported: Made) -> None:
    text = flat(page.text)
    for cell in reported.grid.cells:
        assert anchor(cell) in page.ids
        assert cell in text
    sheet = json.loads(reported.path(paths.datasheet("rosmap")).read_text())
    assert raw_checksum(sheet)[:12] in text
    assert __version__ in text
    for cell in reported.grid.cells.values():
        assert digest_of_params(cell)[:12] in text
        assert digest_of_code(cell)[:12] in text
    for experiment in reported.grid.active_experiments:
        assert f"params/experiments/m3col/{experiment}.yaml under params/suites/made_up.yaml" in text
        assert f"from-{experiment}" in page.ids
    for package in ("torch", "polars", "python"):
        assert package in text


def test_datasheet_counts_notes_and_warnings_are_shown(page: Page, reported: Made) -> None:
    text = flat(page.text)
    sheet = json.loads(reported.path(paths.datasheet("rosmap")).read_text())
    for note in [*sheet["notes"], *sheet["warnings"], sheet["licence"]]:
        assert flat(note) in text


def test_text_of_the_params_is_escaped(html: str) -> None:
    assert "predictions &amp; &lt;no&gt; training" in html


def test_a_suite_with_overrides_says_that_nothing_follows(reported: Made, tmp_path: Path) -> None:
    root = reported.grid.root
    suite = (root / "params/suites/made_up.yaml").read_text() + "overrides: {finetune: {epochs: 500}}\n"
    (root / "params/suites/brief.yaml").write_text(suite)
    try:
        text = flat(Page(write_single(Grid(root, "brief"), reported.layout).read_text()).text)
        write_single(reported.grid, reported.layout)
    finally:
        (root / "params/suites/brief.yaml").unlink()
    assert "No conclusion can be drawn from these numbers: the suite 'brief'" in text
    assert "the best of" not in text
    assert "Numbers of others beside ours" not in text
    assert "Published and ours" not in text
    assert "without a better model" not in text


def test_a_missing_figure_or_cost_names_the_command(reported: Made) -> None:
    figure = reported.path(reported.layout.figure("m3col_omics", "m3col_omics_rosmap_scores", "narrow.svg"))
    cost = reported.path(reported.layout.stage("rosmap/m3col/base", "finetune", "cost.json"))
    for path, command in ((figure, "mmcontrast report m3col_omics"), (cost, "mmcontrast finetune rosmap/m3col/base")):
        kept = path.read_bytes()
        path.unlink()
        try:
            with pytest.raises(DataError, match=re.escape(command)):
                write_page(reported.grid, reported.layout)
        finally:
            path.write_bytes(kept)


@pytest.mark.parametrize(("text", "message"), [("[1]", r"\(holds a list, expected an object\)"), ("{", r"\(.*\)")])
def test_json_that_is_not_an_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=f"x.json: not a cost record {message}; run `make it`"):
        told_json(tmp_path / "x.json", "a cost record", "run `make it`")


def test_a_partial_page_says_which_cells_are_missing_and_why(reported: Made) -> None:
    lost = {"rosmap/m3col/released": "failed: <it> broke (base.log of finetune)"}
    rest, folder = reported.grid.without(lost), reported.layout.partial()
    with pytest.MonkeyPatch.context() as patch:
        for module in (experiment_module, page_module):
            patch.setattr(module, "FIGURE_FORMATS", ("svg",))
        write_results(rest, folder)
        for experiment in rest.active_experiments:
            write_experiment(rest, folder, experiment)
        write_page(rest, folder)
    html = reported.path(folder.report("index.html")).read_text(encoding="utf-8")
    text = flat(Page(html).text)
    n = len(reported.grid.cells)
    assert f"This report is partial: 1 of {n} cells have no result. rosmap/m3col/released: failed: <it> broke" in text
    assert "cell-rosmap-m3col-released" not in html
    table = reported.path(folder.table("m3col_parts", "md")).read_text(encoding="utf-8")
    assert "| released code's defects | failed |" in table
    assert "No result of rosmap/m3col/released: failed: <it> broke" in table
    assert "This report is partial" not in reported.path(reported.layout.report("index.html")).read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "FIGURE_FORMATS", ("svg",))
        write_page(reported.grid, reported.layout)
    assert not reported.path(folder.report()).exists()


def test_raw_checksum_depends_on_names_and_contents_alone() -> None:
    one = {"files": {"a": "1" * 64, "b": "2" * 64}, "rows": 3}
    assert raw_checksum(one) == raw_checksum({"files": {"b": "2" * 64, "a": "1" * 64}})
    assert raw_checksum(one) != raw_checksum({"files": {"a": "2" * 64, "b": "1" * 64}})
    assert raw_checksum({"files": {}}) == ""


def test_without_git_the_code_is_told_by_the_packages_version_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image has no git as a rule."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert code_version(Path(__file__).parent) == __version__

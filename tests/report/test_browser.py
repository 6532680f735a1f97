"""The page in a real browser: it loads whole, fits a phone, prints, and shows the numbers of the results table."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from mmcontrast.report.experiment import build_table
from mmcontrast.report.outputs import FRONT, PAGES, SINGLE
from mmcontrast.report.text.wording import PROTOCOL_TITLES
from tests.report.made_up_study import Made

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser; install one of {', '.join(BROWSERS)}"),
]

PHONE, DESK = 380, 1280
# A4 less its margins, in CSS pixels
PAPER = 718
# what sticks out of the window to the right, outside the boxes that scroll by themselves
OVERFLOW = """() => [...document.body.querySelectorAll('*')]
  .filter(e => !e.closest('.scroll') || e.matches('.scroll'))
  .filter(e => e.getClientRects().length && e.getBoundingClientRect().right > window.innerWidth + 0.5)
  .map(e => e.outerHTML.slice(0, 120))"""
CLIPPED = """() => [...document.querySelectorAll('table, img, pre, p, dl')]
  .filter(e => e.getClientRects().length && e.getBoundingClientRect().right > window.innerWidth + 0.5)
  .map(e => Math.round(e.getBoundingClientRect().right) + ' ' + e.outerHTML.slice(0, 120))"""
ROWS = """section => [...section.querySelectorAll('table')].map(t => [...t.tBodies[0].rows].map(
  r => [...r.cells].map(c => c.textContent.trim())))"""


class Opened:
    """The page in a window, and everything that went wrong in it."""

    def __init__(self, window, address: str, width: int) -> None:
        self.faults: list[str] = []
        self.page = window.new_page(viewport={"width": width, "height": 800})
        self.page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("requestfailed", lambda request: self.faults.append(f"not loaded: {request.url[:100]}"))
        self.page.goto(address)


@pytest.fixture(scope="module")
def window() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(reported: Made) -> str:
    return reported.path(reported.layout.report(SINGLE)).resolve().as_uri()


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("file", [SINGLE, FRONT, f"{PAGES}/m3col_omics.html", f"{PAGES}/paper-m3col.html"])
def test_it_loads_without_a_fault_and_nothing_sticks_out(window, reported: Made, file: str, width: int) -> None:
    opened = Opened(window, reported.path(reported.layout.report(file)).resolve().as_uri(), width)
    page = opened.page
    images = page.evaluate("() => Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert images or file.endswith("paper-m3col.html")
    assert all(images)
    for details in page.query_selector_all("details"):
        details.evaluate("d => d.open = true")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERFLOW) == []
    assert opened.faults == []
    page.close()


def test_the_front_page_is_three_screens_and_opens_with_a_result(window, reported: Made) -> None:
    page = Opened(window, reported.path(reported.layout.report(FRONT)).resolve().as_uri(), DESK).page
    assert page.evaluate("() => document.documentElement.scrollHeight") <= 3 * 800
    page.close()
    for width in (PHONE, DESK):
        page = Opened(window, reported.path(reported.layout.report(FRONT)).resolve().as_uri(), width).page
        first = page.evaluate("() => document.querySelector('.card img').getBoundingClientRect().top")
        assert first < 700, "the first picture is on the first screen"
        page.close()


def test_every_link_leads_somewhere(window, address: str, reported: Made) -> None:
    page = Opened(window, address, DESK).page
    hrefs = page.eval_on_selector_all("a", "links => links.map(a => a.getAttribute('href'))")
    anchors = {h[1:] for h in hrefs if h.startswith("#")}
    assert {"summary", "data", "provenance", "environment", "paper-m3col", "m3col_omics"} <= anchors
    assert page.evaluate("names => names.filter(n => !document.getElementById(n))", sorted(anchors)) == []
    folder = reported.path(reported.layout.report())
    files = {h for h in hrefs if not h.startswith(("#", "https://"))}
    assert "results.parquet" in files
    assert [f for f in files if not (folder / f).is_file()] == []
    page.click(".card a[href='#m3col_parts']")
    # it scrolls smoothly; fails after its time limit
    page.wait_for_function("() => Math.abs(document.getElementById('m3col_parts').getBoundingClientRect().top) < 800")
    page.close()


def test_it_prints_and_nothing_is_cut_off(window, address: str) -> None:
    page = Opened(window, address, PAPER).page
    page.emulate_media(media="print")
    assert page.evaluate(CLIPPED) == []
    pdf = page.pdf(format="A4", margin=dict.fromkeys(("left", "right", "top", "bottom"), "10mm"))
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 3
    page.close()


def test_every_score_on_it_is_the_mean_of_the_results_table(window, address: str, reported: Made) -> None:
    """By a route of its own: plain numpy on results.parquet."""
    results = reported.evidence.results
    page = Opened(window, address, DESK).page
    compared = 0
    for experiment in reported.grid.active_experiments:
        shown = page.eval_on_selector(f"#{experiment}", ROWS)
        blocks = build_table(reported.evidence, experiment).blocks
        assert len(shown) == len(blocks)
        for rows, block in zip(shown, blocks, strict=True):
            for texts, row in zip(rows, block.rows, strict=True):
                assert texts[0] == row.label
                if row.cell is None:
                    continue
                dataset, method, variant = row.cell.split("/")
                for column, text in zip(block.columns, texts[1:], strict=True):
                    if column.key not in PROTOCOL_TITLES:
                        continue
                    values = results.filter(
                        experiment=experiment,
                        dataset=dataset,
                        method=method,
                        variant=variant,
                        metric=block.keys["metric"],
                        protocol=column.key,
                        split="test",
                    )["value"].to_numpy()
                    if len(values):
                        assert text.split(" ")[0] == f"{100 * np.mean(values):.1f}"
                        compared += 1
                    else:
                        assert text in ("", "no validation split")
    assert compared > 30
    page.close()

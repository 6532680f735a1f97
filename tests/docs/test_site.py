"""The site: built without a warning, with no dead link in it and nothing loaded from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mmcontrast import losses
from mmcontrast.config import OBJECTIVES
from mmcontrast.pipeline.documents import MODELS

pytest.importorskip("furo", reason="the extra docs is not installed; `make env-all` installs it")

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOADED = {"img": "src", "script": "src", "source": "src", "iframe": "src", "link": "href"}
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """The addresses that a page links to and loads, and the places in it that a link may name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.places.add(given.get("id") or "")
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        elif given.get(LOADED.get(tag, "")):
            self.loaded.append(str(given[LOADED[tag]]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--builder", "html", "--nitpicky", "--fail-on-warning", "--keep-going", "--quiet"]
    command = [sys.executable, "-m", "sphinx", *options, "--doctree-dir", str(folder / "doctrees")]
    command += [str(ROOT / "docs"), str(folder / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}


def test_every_link_leads_somewhere(pages: dict[Path, Page]) -> None:
    links = [(page, link) for page, of in pages.items() for link in of.links if not re.match(r"https?:", link)]
    assert len(links) > 1000
    dead = []
    for page, link in links:
        path, _, place = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (place and target in pages and place not in pages[target].places):
            dead.append(f"{page.name}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    loaded = {address for of in pages.values() for address in of.loaded}
    assert loaded
    assert {address for address in loaded if re.match(r"(https?:)?//", address)} == set()
    for sheet in site.rglob("*.css"):
        assert re.findall(r"url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")) == []


def test_every_loss_and_every_key_has_its_place(site: Path, pages: dict[Path, Page]) -> None:
    assert {f"mmcontrast.losses.{name}" for name in losses.__all__} <= pages[site / "reference/losses.html"].places
    text = (site / "reference/params.html").read_text() + (site / "reference/objectives.html").read_text()
    shown = set(re.findall(r'<code class="docutils literal notranslate"><span class="pre">(\w+)</span>', text))
    assert {key for model in MODELS.values() for key in model.model_fields} <= shown
    assert set(OBJECTIVES) <= pages[site / "reference/objectives.html"].places | {
        name.replace("-", "_") for name in pages[site / "reference/objectives.html"].places
    }


# what sticks out to the right and does not scroll by itself
OVERFLOW = """() => [...document.querySelectorAll('article *')].filter(e => {
  const right = document.documentElement.clientWidth + 1
  if (!e.getClientRects().length || e.getBoundingClientRect().right <= right) return false
  for (let of = e; of; of = of.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(of).overflowX)) return false
  return true }).slice(0, 2).map(e => e.outerHTML.slice(0, 100))"""
SOME = ("index.html", "genindex.html", "guides/tools.html", "papers/comm.html", "reference/params.html")


@pytest.mark.parametrize("which", ["some", pytest.param("all", marks=pytest.mark.exhaustive)])
def test_pages_fit_a_desk_and_a_phone_without_a_fault(site: Path, pages: dict[Path, Page], which: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser; install one of {', '.join(BROWSERS)}")
    shown = sorted(pages) if which == "all" else [site / name for name in SOME]
    faults: list[str] = []
    with sync_api.sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width, scheme in ((1280, "light"), (1280, "dark"), (380, "light"), (380, "dark")):
            page = window.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.on("console", lambda message: faults.append(message.text))
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("requestfailed", lambda request: faults.append(request.url))
            for file in shown:
                page.goto(file.as_uri())
                faults.extend(f"{file.name} at {width}: {part}" for part in page.evaluate(OVERFLOW))
            page.close()
        window.close()
    assert faults == []

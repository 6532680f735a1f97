"""What a page shows of docs/results/: the findings, a table by its heading, or that a suite was not published."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

sphinx_errors = pytest.importorskip(
    "sphinx.errors", reason="the extra docs is not installed; `make env-all` installs it"
)

ROOT = Path(__file__).parents[2]
PAGE = """# Title

## Primary contrasts

| | p |
|---|---:|
| A minus B | 0.1 |

## Toy: Accuracy (%)

| | Ours |
|---|---:|
| A | 1 |
| B | 2 |

## Findings

- A is not better.
"""


@pytest.fixture
def shown_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs/_ext"))
    monkeypatch.delitem(sys.modules, "shown_results", raising=False)
    import shown_results

    monkeypatch.setattr(shown_results, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(PAGE)
    return shown_results


def test_findings_a_table_by_its_heading_and_some_of_its_rows(shown_results: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert shown_results.shown(page, None, [""]) == "- A is not better."
    assert shown_results.shown(page, "", [""]).startswith("*Primary contrasts*")
    table = shown_results.shown(page, "Accuracy", ["B"])
    assert table == "*Toy: Accuracy (%)*\n\n| | Ours |\n|---|---:|\n| B | 2 |"


@pytest.mark.parametrize(
    ("table", "rows", "said"),
    [("Recall", "", "no table whose heading has 'Recall'.*Toy: Accuracy"), ("Accuracy", "C", "no row .*'C'")],
)
def test_what_is_not_there_is_an_error(
    shown_results: ModuleType, tmp_path: Path, table: str, rows: str, said: str
) -> None:
    with pytest.raises(sphinx_errors.ExtensionError, match=said):
        shown_results.shown(tmp_path / "page.md", table, [rows])


def test_a_suite_that_was_not_published_is_named_with_its_command(
    shown_results: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown_results, "ROOT", ROOT)
    results = ROOT / "docs/results"
    text = shown_results.planned(results / "smoke/m3col_omics.md")
    assert "is not among the published results" in text
    assert "snakemake --cores all reproduce --config suite=smoke" in text
    for page, said in (("smok/m3col_omics", "no suite 'smok'"), ("smoke/m3col_omic", "no experiment 'm3col_omic'")):
        with pytest.raises(sphinx_errors.ExtensionError, match=said):
            shown_results.planned(results / f"{page}.md")

"""A table's three renderings, on values made by hand."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from mmcontrast.report.tables.formats import (
    Block,
    Column,
    Kind,
    Row,
    Table,
    Value,
    tex_escape,
    text_of,
    to_csv,
    to_latex,
    to_markdown,
)
from mmcontrast.report.text.wording import as_given, estimate, interval, p_value, points

NAN = float("nan")
HOSTILE = r"50 % of A&B_c #1 {x} ~^\ $5 <a|b> [1]"


@pytest.fixture
def table() -> Table:
    columns = [
        Column("published", "Published", "published"),
        Column("selected", "Ours, selected", "score"),
        Column("wide", "Over cases", "interval"),
        Column("difference", "Difference", "difference"),
        Column("p", "p", "p"),
        Column("n", "Seeds", "count"),
    ]
    full = {
        "published": Value(88.7, spread=0.94),
        "selected": Value(85.123456, 83.95, 86.31),
        "wide": Value(low=79.1, high=90.2),
        "difference": Value(-0.44, -1.5, 0.62),
        "p": Value(0.0315),
        "n": Value(5.0),
    }
    rows = [Row("Ours", full, "d/m/v", own=True), Row(HOSTILE, {"difference": Value(word="reference")})]
    block = Block("Set: Accuracy (%)", columns, rows, {"dataset": "set", "metric": "acc"})
    return Table("name_of", "Title", "A caption.", [block], ["A finding."], ["A note with 5 % & more."])


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (Value(85.123, 83.95, 86.31), "score", "85.1 [84.0, 86.3]"),
        (Value(85.0, NAN, NAN), "score", "85.0"),
        (Value(0.4, -0.04, 1.0), "difference", "+0.4 [0.0, +1.0]"),
        (Value(-0.44, -1.5, 0.62), "difference", "−0.4 [−1.5, +0.6]"),
        (Value(low=1.0, high=2.0), "interval", "[1.0, 2.0]"),
        (Value(), "interval", ""),
        (Value(), "score", ""),
        (None, "score", ""),
        (Value(0.0004), "p", "<0.001"),
        (Value(NAN), "p", ""),
        (Value(1.0), "p", "1.000"),
        (Value(5.0), "count", "5"),
        (Value(76.0), "published", "76.0"),
        (Value(79.41, spread=0.5), "published", "79.41 ± 0.5"),
        (Value(word="reference"), "difference", "reference"),
    ],
)
def test_a_value_is_written_by_its_kind(value: Value | None, kind: Kind, expected: str) -> None:
    assert text_of(value, kind) == expected


def test_numbers_in_words() -> None:
    assert points(-0.04) == "0.0", "no negative zero"
    assert points(None) == points(NAN) == interval(NAN, 1.0) == p_value(None) == ""
    assert estimate(1.0, None, None) == "1.0"
    assert as_given(88.75) == "88.75"


def test_markdown_has_a_row_a_row_and_escapes_bars(table: Table) -> None:
    lines = to_markdown(table).splitlines()
    assert lines[0] == "# Title"
    (ours,) = [line for line in lines if line.startswith("| **Ours**")]
    assert ours == "| **Ours** | 88.7 ± 0.94 | 85.1 [84.0, 86.3] | [79.1, 90.2] | −0.4 [−1.5, +0.6] | 0.032 | 5 |"
    (hostile,) = [line for line in lines if "A&B" in line]
    assert hostile.replace(r"\|", "").count("|") == ours.count("|")
    assert "- A finding." in lines
    assert "- A note with 5 % & more." in lines


def test_csv_splits_what_belongs_together_and_parses(table: Table) -> None:
    first, second = csv.DictReader(io.StringIO(to_csv(table)))
    assert first == {
        "dataset": "set",
        "metric": "acc",
        "row": "Ours",
        "cell": "d/m/v",
        "published": "88.7",
        "published_spread": "0.94",
        "selected": "85.1235",
        "selected_low": "83.95",
        "selected_high": "86.31",
        "wide_low": "79.1",
        "wide_high": "90.2",
        "difference": "-0.44",
        "difference_low": "-1.5",
        "difference_high": "0.62",
        "p": "0.0315",
        "n": "5",
    }
    assert second["row"] == HOSTILE
    assert not any(v for k, v in second.items() if k not in ("dataset", "metric", "row"))


def test_tex_escapes_every_special_character() -> None:
    escaped = tex_escape(HOSTILE)
    for special in "&%$#_":
        assert escaped.count(f"\\{special}") == HOSTILE.count(special)
    assert "−" not in tex_escape("−1 ± 2")
    assert tex_escape("−1 ± 2") == r"$-$1 $\pm$ 2"


def test_tex_is_balanced_and_uses_booktabs(table: Table) -> None:
    tex = to_latex(table)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert tex.count(rule) == 1
    plain = tex.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert tex.count(r"\begin") == tex.count(r"\end{")
    assert r"\label{tab:name-of-1}" in tex


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_tex_compiles(table: Table, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(to_latex(table), encoding="utf-8")
    (tmp_path / "main.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{table}\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]

"""docs/architecture.md names files and functions that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
FILE = re.compile(r"(?<![\w/<>])((?:src|workflow|tests|params)/[\w/.]+|Snakefile|dvc\.yaml)")
# a name, and the file that it is in, on one line or in one sentence
NAMED = [
    *re.findall(r"-> (\w+)[\w, .]*? +(src/[\w/]+\.py)", TEXT),
    *re.findall(r"`(\w+)` in `(src/[\w/]+\.py)`", TEXT),
    *re.findall(r"^\d\. `(?P<file>src/[\w/]+\.py)` - `(?P<name>\w+)`", TEXT, re.MULTILINE),
]


def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("file", sorted(set(FILE.findall(TEXT))))
def test_a_file_that_is_named_is_there(file: str) -> None:
    assert (ROOT / file.rstrip(".")).exists()


def test_names_are_found_on_the_page() -> None:
    assert len(NAMED) > 15


@pytest.mark.parametrize(("one", "other"), NAMED)
def test_a_name_is_in_the_file_that_is_named_with_it(one: str, other: str) -> None:
    file, name = (one, other) if "/" in one else (other, one)
    assert name in names_in(ROOT / file)


def test_every_folder_of_the_package_is_named() -> None:
    folders = {p.name for p in (ROOT / "src/mmcontrast").iterdir() if (p / "__init__.py").exists()}
    assert folders == set(re.findall(r"\| `src/mmcontrast/(\w+)` \|", TEXT))

"""Which files a job's result is said to depend on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mmcontrast import sources as of_sources
from mmcontrast.sources import sources

ROOT = Path(__file__).parents[2]


def decides(code: str) -> str:
    return of_sources.decides(code, [*ast.walk(ast.parse(code))])


def test_a_method_brings_what_it_imports_and_no_other_method() -> None:
    files = sources("mmcontrast.training.cell", "mmcontrast.methods.m3col.method")
    assert "mmcontrast/methods/m3col/method.py" in files
    assert "mmcontrast/losses/mixing.py" in files
    assert "mmcontrast/training/loop.py" in files
    assert "mmcontrast/methods/baselines/supervised.py" not in files
    assert not [f for f in files if "/config/" in f or f.endswith("paths.py") or "/report/" in f]


def test_all_files_exist() -> None:
    for file in sources("mmcontrast.training.cell", "mmcontrast.report.page", "mmcontrast.evaluation.evaluate"):
        assert (ROOT / "src" / file).is_file()


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="nonesuch"):
        sources("mmcontrast.nonesuch")


CODE = """\"\"\"What it is.\"\"\"

# why
TEXT = '''
# of the text
'''


class A:
    \"\"\"Of a class.

    # in it
    \"\"\"

    def f(self):
        \"\"\"One line.\"\"\"
        return 1  # one
"""


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("What it is.", "What it was.", True),
        ("# why", "# because", True),
        ("    # in it", "    of it,\n    and of others", True),
        ("One line.", "Another line.", True),
        ("\n\n\nclass", "\n\nclass", True),
        ("# of the text", "# of the texts", False),
        ("# of the text\n", "# of the text\n\n", False),
        ("return 1", "return 2", False),
        ("    def f", "    def g", False),
    ],
)
def test_docstrings_and_comments_decide_nothing(before: str, after: str, same: bool) -> None:
    assert before in CODE
    assert (decides(CODE) == decides(CODE.replace(before, after))) == same


@pytest.mark.parametrize("code", ["def f(): 'a'; return '1'", "def f():\n    'a'; return '1'"])
def test_code_beside_a_docstring_counts(code: str) -> None:
    assert decides(code) != decides(code.replace("1", "2"))

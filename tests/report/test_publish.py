"""What the README shows comes from docs/results/, and that from a finished report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmcontrast.errors import DataError
from tests.report.made_up_study import Made
from workflow.publish import BLOCK, filled, publish, section

ROOT = Path(__file__).parents[2]
TEXT = "# Top\n\nintro\n\n## One\n\n| a |\n|---|\n| 1 |\n\n## Two\n\nx\n"


def test_a_section_ends_at_the_next_heading() -> None:
    assert section(TEXT, "One") == "| a |\n|---|\n| 1 |"
    assert section(TEXT, "Two") == "x"


def test_a_section_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"'Three'.*'One', 'Two'"):
        section(TEXT, "Three")


def test_blocks_are_refilled_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "t.md").write_text(TEXT)
    readme = "before\n<!-- table: t.md#Two -->\nold\n<!-- end -->\nafter\n"
    assert filled(readme, tmp_path) == "before\n<!-- table: t.md#Two -->\n\nx\n\n<!-- end -->\nafter\n"


def test_a_block_of_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.md, which is not there"):
        filled("<!-- table: t.md#Two -->\n<!-- end -->\n", tmp_path)


def test_the_readme_shows_what_docs_results_holds() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert BLOCK.findall(readme)
    assert filled(readme, ROOT) == readme


def test_what_is_no_longer_made_is_taken_away(reported: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reported.grid.root)
    Path("README.md").write_text("intro\n")
    written = [Path(path) for path in publish(reported.grid, reported.layout)]
    old = written[0].with_name("of_an_experiment_that_went.md")
    old.write_text("old")
    publish(reported.grid, reported.layout)
    assert set(old.parent.iterdir()) == set(written) - {Path("README.md")}
    assert Path("README.md").read_text() == "intro\n"


def test_it_is_a_command_whose_error_is_one_message(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "workflow/publish.py"), "--suite", "smoke"]
    ended = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr

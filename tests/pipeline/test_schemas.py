"""workflow/schemas/ is what the models say."""

from __future__ import annotations

from pathlib import Path

from mmcontrast.pipeline.schemas import schemas

ROOT = Path(__file__).parents[2]


def test_the_schemas_are_those_of_the_models() -> None:
    stale = [file for file, text in schemas().items() if (ROOT / file).read_text(encoding="utf-8") != text]
    assert stale == [], "run `mmcontrast schemas`"
    assert {p.name for p in (ROOT / "workflow/schemas").iterdir()} == {Path(file).name for file in schemas()}

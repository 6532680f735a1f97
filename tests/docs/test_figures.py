"""The figures that are kept are those that the code draws."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/figures"


def drawing(text: str) -> list[str]:
    """What a file draws, without the last digits of a coordinate, which a processor may round otherwise."""
    return re.sub(r"(\d+\.\d)\d*", r"\1", text).splitlines()


def test_figures_are_those_that_are_drawn(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    draw.main(tmp_path)
    kept = {p.name: drawing(p.read_text()) for p in FOLDER.glob("*.svg")}
    assert {p.name: drawing(p.read_text()) for p in tmp_path.glob("*.svg")} == kept
    assert len(kept) == 5

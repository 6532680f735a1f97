"""Which figures an experiment may ask for. Read from the code of report/figures/, not by running it: it draws."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from mmcontrast.errors import nearest

FOLDER = Path(__file__).parents[1] / "report/figures"
REGISTERED = re.compile(r'^@figure\(\s*"(\w+)"(?:,\s*section="(\w+)")?', re.MULTILINE)


@cache
def figure_kinds() -> dict[str, str]:
    """Kind -> the section of the experiment that it shows, all datasets together; empty for a figure per dataset."""
    files = sorted(FOLDER.glob("*.py"))
    return {kind: section for f in files for kind, section in REGISTERED.findall(f.read_text(encoding="utf-8"))}


def known_figure(kind: str) -> str:
    """The kind, if there is such a figure. Raises ValueError where there is none; names the nearest."""
    if kind not in figure_kinds():
        raise ValueError(f"no figure '{kind}'; {nearest(kind, figure_kinds())}")
    return kind

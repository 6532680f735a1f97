"""Docstrings are plain text with formulas: `|x|` is a size and `*` a product, not markup."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

MARKUP = re.compile(r"(?<!`)([*|]|(?<=\w)_(?!\w))(?!`)")
CODE = re.compile(r"(`[^`\n]+`)")


def escaped(line: str) -> str:
    """The line with every character that reStructuredText would read as markup made plain; `names` stay code."""
    parts = CODE.split(line)
    return "".join(f"`{part}`" if i % 2 else MARKUP.sub(r"\\\1", part) for i, part in enumerate(parts))


def _escape(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [escaped(line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    # before napoleon, which makes markup of its own
    app.connect("autodoc-process-docstring", _escape, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

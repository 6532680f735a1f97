"""Formulas as MathML, which browsers draw themselves: no script, no fonts, nothing loaded."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def mathml(tex: str, block: bool) -> str:
    """The formula as a <math> element.

    Raises:
        ExtensionError: it has a command that docutils cannot turn into MathML.
    """
    try:
        return tex2mathml(tex, as_block=block)
    except MathError as e:
        raise ExtensionError(f"{tex}: {e}") from e


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""What the reference shows of a loss says its shapes, its errors and where it is from."""

from __future__ import annotations

import inspect
import re

import pytest

from mmcontrast import losses

SHAPES = re.compile(r"\([A-Z]\w*(, [A-Z]\w*)*,?\)|^Shapes?:|square matri", re.MULTILINE)
ERRORS = re.compile(r"\braises? \w*Error|^ *Raises:", re.MULTILINE | re.IGNORECASE)
ORIGIN = re.compile(r"\b(et al\.|Source:|RECONSTRUCTION|arXiv|ICLR|textbook)")
# the function that says the rest: "The scalar of `comm_terms`, which says what the arguments are."
ELSEWHERE = re.compile(r"`(\w+)`")


def said(name: str) -> str:
    """The docstrings of a loss, of the file it lies in, and of the losses that it refers to."""
    texts, waiting, seen = [], [name], set()
    while waiting:
        if (of := waiting.pop()) in seen or of not in losses.__all__:
            continue
        seen.add(of)
        thing = getattr(losses, of)
        own = inspect.getdoc(thing) or ""
        assert own, f"{of}: no docstring"
        texts += [own, inspect.getdoc(inspect.getmodule(thing)) or ""]
        waiting += ELSEWHERE.findall(own)
    return "\n".join(texts)


@pytest.mark.parametrize("name", losses.__all__)
def test_a_loss_says_its_shapes_errors_and_source(name: str) -> None:
    text = said(name)
    assert SHAPES.search(text), "shapes"
    assert ERRORS.search(text), "errors"
    assert ORIGIN.search(text), "source"


def test_a_docstring_without_them_is_found() -> None:
    assert not SHAPES.search("Mean of two losses.")
    assert not ERRORS.search("Mean of two losses.")
    assert not ORIGIN.search("Mean of two losses.")

"""What is public of losses, methods and what these are built on says its shapes, its errors and where it is from."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from mmcontrast import errors, losses
from mmcontrast.config import OBJECTIVES
from mmcontrast.methods.base import Method, method_class, refuse_finetuning

ROOT = Path(__file__).parents[2]
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


METHODS = {name: method_class(name) for name in sorted(OBJECTIVES)}
# (b,), (B, P), (b, K * d), (b, ...), or no axis at all
AXIS = r"(?:[A-Za-z]\w?(?: \* [A-Za-z])?|\d|width|sum of widths|height \* width|dim|\.\.\.)"
SHAPE = re.compile(rf"\({AXIS}(?:, {AXIS})*,?\)|\b[Ss]calars?\b")
ERROR = re.compile(r"\b[A-Z]\w+Error\b")
OURS = {name for name, thing in vars(errors).items() if inspect.isclass(thing)}


def full_name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def bases() -> dict[str, type[Method]]:
    """What methods are built on: every class between them and torch's, by its full name."""
    found = [of for method in METHODS.values() for of in method.__mro__ if issubclass(of, Method)]
    return {full_name(of): of for of in found if of not in METHODS.values()}


def in_the_reference() -> dict[str, Any]:
    """The classes and functions that docs/reference/api.md names, by their full names."""
    page = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    named = re.findall(r"^\.\. auto(?:class|function):: ([\w.]+)\.(\w+)$", page, re.MULTILINE)
    return {f"{module}.{name}": getattr(importlib.import_module(module), name) for module, name in named}


def public() -> dict[str, Any]:
    """The same, what else is public in the files of the base classes, and the public methods of all classes."""
    found = in_the_reference()
    for module in dict.fromkeys(inspect.getmodule(of) for of in bases().values()):
        own = [of for of in vars(module).values() if getattr(of, "__module__", None) == getattr(module, "__name__", "")]
        found |= {full_name(of): of for of in own if callable(of) and of.__name__[0] != "_"}
    classes = {name: of for name, of in found.items() if inspect.isclass(of)}
    return found | {
        f"{name}.{member}": getattr(of, member)
        for name, of in classes.items()
        for member in vars(of)
        if member[0] != "_" and inspect.isroutine(getattr(of, member))
    }


PUBLIC = public()


def docs(name: str) -> str:
    """Its docstring: of a class also those of the classes it is built on, of a `forward` without one the class's."""
    thing, of = PUBLIC[name], PUBLIC.get(name.rpartition(".")[0])
    if inspect.isclass(thing):
        return "\n".join(inspect.getdoc(base) or "" for base in thing.__mro__)
    return inspect.getdoc(of if name.endswith(".forward") and not thing.__doc__ else thing) or ""


def raised(thing: Any, of: type | None) -> set[str]:
    """The package's errors that the code raises, or of which a function or method that it calls says so.

    Args:
        of: the class that `self` is of.
    """
    run = vars(thing).get("__init__") if inspect.isclass(thing) else thing
    # the __init__ of a dataclass is not written
    if run is None or is_dataclass(thing):
        return set()
    found, known = set(), vars(inspect.getmodule(thing))
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(run)))):
        words = ast.unparse(node.func).split(".") if isinstance(node, ast.Call) else []
        called = getattr(of, words[1], None) if words[:1] == ["self"] and len(words) == 2 else None
        called = known.get(words[0]) if len(words) == 1 else called
        if inspect.isroutine(called):
            found |= set(ERROR.findall(inspect.getdoc(called) or ""))
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).rpartition(".")[2])
    return found & OURS


@pytest.mark.parametrize("name", bases())
def test_a_base_class_of_methods_is_in_the_reference(name: str) -> None:
    assert name in in_the_reference()


@pytest.mark.parametrize("name", PUBLIC)
def test_what_methods_are_built_on_says_its_shapes(name: str) -> None:
    thing = PUBLIC[name]
    assert docs(name), "no docstring"
    if inspect.isroutine(thing) and "Tensor" in str(inspect.signature(thing)):
        assert SHAPE.search(docs(name)), "shapes"


@pytest.mark.parametrize("name", PUBLIC)
def test_what_methods_are_built_on_says_its_errors(name: str) -> None:
    thing = PUBLIC[name]
    of = thing if inspect.isclass(thing) else PUBLIC.get(name.rpartition(".")[0])
    assert raised(thing, of) <= set(ERROR.findall(docs(name)))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_where_it_is_from(name: str) -> None:
    """In its docstring or in that of its file; what no paper has says so."""
    method = METHODS[name]
    text = f"{inspect.getdoc(method)}\n{inspect.getdoc(inspect.getmodule(method))}"
    assert ORIGIN.search(text) or "no paper's" in text


class _Lacking:
    """Says nothing."""

    def __init__(self) -> None:
        refuse_finetuning(None)

    def loss(self, z: Tensor) -> Tensor:
        """Mean (of all rows)."""
        raise errors.ContrastError("no rows")


def test_a_public_docstring_without_them_is_found() -> None:
    assert not SHAPE.search(inspect.getdoc(_Lacking.loss) or "")
    assert raised(_Lacking.loss, _Lacking) == {"ContrastError"}
    assert raised(_Lacking, _Lacking) == {"ConfigError"}

"""Every module is reached from an entry point: what nothing imports is deleted, not kept."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmcontrast.config import Grid
from mmcontrast.data.outside import preparer
from mmcontrast.methods.registry import training_modules

# the reader for datasets of the user's own
ENTRIES = (
    "mmcontrast", "mmcontrast.__main__", "mmcontrast.cli", "mmcontrast.trained", "mmcontrast.losses",
    "mmcontrast.data.prepare.python",
)  # fmt: skip


@pytest.mark.slow
def test_every_module_is_reached(root: Path) -> None:
    modules = {_name(path, root / "src"): path for path in (root / "src/mmcontrast").rglob("*.py")}
    reached: set[str] = set()
    waiting = [*ENTRIES, *_loaded_by_name(root)]
    while waiting:
        name = waiting.pop()
        if name in modules and name not in reached:
            reached.add(name)
            waiting += [name.rpartition(".")[0], *_named_in(modules[name])]
    assert set(modules) - reached == set()


def _loaded_by_name(root: Path) -> Iterator[str]:
    """What the cells of any suite are trained by, what prepares any dataset, and what makes features of it."""
    for suite in sorted((root / "params/suites").glob("*.yaml")):
        grid = Grid(root, suite.stem)
        for cell in grid.cells.values():
            yield from training_modules(cell)
    for name, dataset in grid.datasets.items():
        for asked in (dataset, dataset.model_copy(update={"features_of": name})):
            yield f"mmcontrast.data.prepare.{preparer(name, asked)}"


def _name(path: Path, source: Path) -> str:
    return ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


def _named_in(path: Path) -> Iterator[str]:
    """Modules that a file imports, at its top or later, or names in a string."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value

"""Every module is reached from an entry point: what nothing imports is deleted, not kept."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mmcontrast.config import Grid
from mmcontrast.data.preparers import preparer
from mmcontrast.methods.registry import method_module

# the reader of folders is for datasets of the user's own
ENTRIES = (
    "mmcontrast", "mmcontrast.__main__", "mmcontrast.cli", "mmcontrast.exported", "mmcontrast.losses",
    "mmcontrast.data.prepare.folder",
)  # fmt: skip
# for datasets and encoders that are to come
WAITING = {"mmcontrast.data.unpickle", "mmcontrast.data.unpickle_arrays", "mmcontrast.models.sequence"}


def test_every_module_is_reached(root: Path) -> None:
    grid = Grid(root)
    by_name = {method_module(method.implementation) for method in grid.methods.values()}
    by_name |= {f"mmcontrast.data.prepare.{preparer(name, dataset)}" for name, dataset in grid.datasets.items()}
    modules = {_name(path, root / "src"): path for path in (root / "src/mmcontrast").rglob("*.py")}
    reached: set[str] = set()
    waiting = [*ENTRIES, *by_name]
    while waiting:
        name = waiting.pop()
        if name in modules and name not in reached:
            reached.add(name)
            waiting += [name.rpartition(".")[0], *_named_in(modules[name])]
    assert set(modules) - reached == WAITING


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

"""Which source files a job's result depends on, so that a comment elsewhere retrains nothing.

Imports are read from the code, not executed. `config` and `paths` are left out on purpose: what they decide reaches
a job as parameter values and file names, both of which the engines track already.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = "mmcontrast"
TRACKED_OTHERWISE = ("mmcontrast.config", "mmcontrast.paths", "mmcontrast.errors")
SRC = Path(__file__).parents[1]


def _file(module: str) -> Path | None:
    base = SRC / Path(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _imports(module: str) -> tuple[str, ...]:
    path = _file(module)
    if path is None:
        return ()
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return tuple(sorted(m for m in found if m.split(".")[0] == PACKAGE and _file(m)))


@cache
def sources(*entries: str) -> tuple[str, ...]:
    """Files of the package that the modules `entries` need, themselves included, relative to the checkout.

    Raises:
        ModuleNotFoundError: an entry is not a module of this package.
    """
    seen: set[str] = set()
    stack = list(entries)
    for entry in entries:
        if _file(entry) is None:
            raise ModuleNotFoundError(f"no module {entry} under {SRC}")
    while stack:
        module = stack.pop()
        # the package's own __init__ is what users call, and decides nothing
        if module in seen or module == PACKAGE or module.startswith(TRACKED_OTHERWISE):
            continue
        seen.add(module)
        stack += _imports(module)
        parent = module.rpartition(".")[0]
        if parent != PACKAGE and parent:
            stack.append(parent)
    files = {_file(m) for m in seen}
    # an empty __init__.py decides nothing
    return tuple(sorted(str(Path("src") / f.relative_to(SRC)) for f in files if f and f.stat().st_size))

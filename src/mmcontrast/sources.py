"""Which source files a job's result depends on, so that an edit elsewhere retrains nothing, nor does a comment.

Imports are read from the code, not executed. Left out on purpose: `config`, `paths` and `errors`, whose decisions reach
a job as values of its plan and file names; and what only names what is public. A module that is loaded by name, so that
others do not depend on it, is an entry of its own.
"""

import ast
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

PACKAGE = "mmcontrast"
TRACKED_OTHERWISE = ("mmcontrast.config", "mmcontrast.paths", "mmcontrast.errors")
NAMES_ALONE = {"mmcontrast", "mmcontrast.methods", "mmcontrast.losses"}
# folders with files of the package that are no modules
DATA_FILES = {
    "mmcontrast.report.page": "report/templates",
    "mmcontrast.report.figures.style": "report/figures",
    "mmcontrast.report.text.wording": "report/text",
}
SRC = Path(__file__).parents[1]
DIGITS = 16


def _file(module: str) -> Path | None:
    base = SRC / module.replace(".", "/")
    candidates = [base.with_suffix(".py"), base / "__init__.py"]
    if module.startswith("mmcontrast.methods."):
        # a method of the user's own lies in methods/ of the folder that holds params/
        candidates.append(Path(*module.split(".")[1:]).absolute().with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@cache
def _read(path: Path) -> tuple[tuple[str, ...], str]:
    """The modules of the package that a source file names, and `decides` of it: parsed once, as that takes the time."""
    code = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(code)))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return tuple(sorted(m for m in found if m.split(".")[0] == PACKAGE and _file(m))), decides(code, nodes)


@cache
def sources(*entries: str) -> tuple[str, ...]:
    """Files that the modules `entries` need, themselves included, relative to the folder `src`; of others the path.
    Raises ModuleNotFoundError: an entry is not a module of this package.
    """
    seen: set[str] = set()
    stack = list(entries)
    for entry in entries:
        if _file(entry) is None:
            raise ModuleNotFoundError(f"no module {entry} under {SRC}")
    while stack:
        module = stack.pop()
        if module in seen or module in NAMES_ALONE or module.startswith(TRACKED_OTHERWISE):
            continue
        seen.add(module)
        path = _file(module)
        stack += [*(_read(path)[0] if path else ()), module.rpartition(".")[0]]
    # an empty __init__.py decides nothing
    files = {f for m in seen if (f := _file(m)) is not None and f.stat().st_size}
    for module, folder in DATA_FILES.items():
        if module in seen:
            files |= {f for f in (SRC / PACKAGE / folder).iterdir() if f.is_file()}
    return tuple(sorted(str(f.relative_to(SRC) if f.is_relative_to(SRC) else f) for f in files))


def decides(code: str, nodes: Sequence[ast.AST]) -> str:
    """Python without what decides no result: docstrings, blank and comment lines. `nodes`: its tree, outer first."""
    lines = code.split("\n")
    kept: set[int] = set()
    for node in nodes:
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and node.lineno != node.end_lineno is not None:
            kept |= set(range(node.lineno + 1, node.end_lineno + 1))  # a text of several lines
    for node in nodes:
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            first = node.body[0]
            last = first.end_lineno or first.lineno
            before, after = lines[first.lineno - 1], lines[last - 1].encode()
            # alone on its lines, as it is wherever a formatter has been
            if not before[: first.col_offset].strip() and not after[first.end_col_offset :].strip():
                lines[first.lineno - 1 : last] = [""] * (last - first.lineno + 1)
                kept -= set(range(first.lineno, last + 1))
    said = enumerate(lines, 1)
    return "\n".join(line for n, line in said if n in kept or (line.strip() and not line.lstrip().startswith("#")))


@cache
def digest(file: str) -> str:
    """The first digits of the SHA-256 of what a source file decides, given relative to the folder `src`."""
    path = SRC / file
    text = path.read_bytes() if path.suffix != ".py" else _read(path)[1].encode()
    return hashlib.sha256(text).hexdigest()[:DIGITS]


def digests(*entries: str) -> dict[str, str]:
    """Every file of `sources(*entries)` with its digest."""
    return {file: digest(file) for file in sources(*entries)}

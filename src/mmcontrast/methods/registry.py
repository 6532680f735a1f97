"""Which methods there are, where their code lies, and which of the code a cell's training depends on.

Found by looking: a folder with `method.py` and `objective.py`, here or in `methods/` beside params/, or a class in
`baselines/objectives.py` whose `method` names the file beside it, as <file>.<method> where methods share one. Imports
no torch, so that a workflow may ask at each start.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mmcontrast.errors import ConfigError

if TYPE_CHECKING:
    from mmcontrast.config.merging import CellConfig
    from mmcontrast.config.objective import Objective

HERE = Path(__file__).parent
PACKAGE = "mmcontrast.methods"
OWN = "methods"


@cache
def implementations() -> tuple[str, ...]:
    """Names of all methods that have code, sorted; those of the user's own are then modules of this package.

    Raises ConfigError: one of the user's own has the name of another.
    """
    folders = {path.parent.name for path in HERE.glob("*/method.py")}
    files = set(_baselines())
    own = {path.parent.name for path in Path(OWN).glob("*/method.py")} if Path(OWN).resolve() != HERE else set()
    if taken := sorted(own & (folders | files)):
        raise ConfigError(f"{OWN}/{taken[0]}: a method of this name comes with the package; rename yours")
    if own:
        importlib.import_module(PACKAGE).__path__.append(str(Path(OWN).resolve()))
    return tuple(sorted(folders | files | own))


def method_module(implementation: str) -> str:
    """Module of its class, METHOD or one of METHODS; ModuleNotFoundError where there is none."""
    if _has_folder(implementation):
        return f"{PACKAGE}.{implementation}.method"
    if implementation not in implementations():
        raise ModuleNotFoundError(f"no method {implementation} under {PACKAGE}")
    return _baselines()[implementation][0] if implementation in _baselines() else f"{PACKAGE}.{implementation}.method"


def training_modules(cell: CellConfig) -> list[str]:
    """Modules whose imports, followed to the end, are the code that decides the training of the cell.

    What is imported by name concerns only the cells that have it: searches, texts, sequences, pretrained encoders.
    """
    modules = ["mmcontrast.training.cell", method_module(cell.implementation)]
    if cell.objective.get("search") is not None:
        modules.append(f"{PACKAGE}.{cell.implementation}.search")
    given = cell.model.pretrained
    ours = {m.kind for name, m in cell.modalities.items() if name not in given and m.kind not in given}
    modules += [f"mmcontrast.models.{kind}" for kind in ("text", "sequence") if kind in ours]
    texts = any(m.kind == "text" for m in cell.modalities.values())
    modules += ["mmcontrast.data.tokens"] if texts else []
    if given:
        modules += ["mmcontrast.models.pretrained"] + ["mmcontrast.data.pretrained"] * texts
    if cell.model.image_weights is not None:
        modules.append("mmcontrast.models.image_weights")
    return modules


def _has_folder(implementation: str) -> bool:
    """Whether it has one here: then the code of the baselines is not even looked at, as a run must not depend on it."""
    return (HERE / implementation / "method.py").is_file()


@cache
def _baselines() -> dict[str, tuple[str, type[Objective]]]:
    """Method -> the module of its code, and the model of its hyper-parameters."""
    found = {}
    for value in vars(importlib.import_module(f"{PACKAGE}.baselines.objectives")).values():
        if "method" in getattr(value, "__dict__", {}):
            file, _, name = value.method.rpartition(".")
            found[name] = f"{PACKAGE}.baselines.{file or name}", value
    return found


class _Objectives(Mapping[str, "type[Objective]"]):
    """Method -> the model of its hyper-parameters, imported when it is asked for."""

    def __getitem__(self, implementation: str) -> type[Objective]:
        if not _has_folder(implementation):
            if implementation not in implementations():
                raise KeyError(implementation)
            if implementation in _baselines():
                return _baselines()[implementation][1]
        own: type[Objective] = importlib.import_module(f"{PACKAGE}.{implementation}.objective").OBJECTIVE
        return own

    def __iter__(self) -> Iterator[str]:
        return iter(implementations())

    def __len__(self) -> int:
        return len(implementations())


OBJECTIVES: Mapping[str, type[Objective]] = _Objectives()

"""Every loss of the project, the papers' too, as pure functions of tensors; knows no dataset, no model, no trainer.

    from mmcontrast.losses import info_nce

    loss = info_nce(image_embeddings, text_embeddings, tau=0.1)
    loss.backward()

A loss returns one scalar, in float32 at least. `<name>_terms` beside it gives what the scalar is made of. A paper's
losses lie in the paper's folder, in files loss*.py; what they and the files here name in `__all__` is found when it is
asked for, so that no loss depends on another and there is no list to keep.
"""

import importlib
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@cache
def _public() -> dict[str, Any]:
    """Name -> loss, by name."""
    shared = [f"{__name__}.{path.stem}" for path in HERE.glob("[!_]*.py")]
    papers = [f"mmcontrast.methods.{path.parent.name}.{path.stem}" for path in HERE.parent.glob("methods/*/loss*.py")]
    modules = [importlib.import_module(name) for name in (*shared, *papers)]
    return {name: getattr(module, name) for module in modules for name in sorted(getattr(module, "__all__", []))}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_public())
    # a file of this folder is about to be imported as a module
    if name.startswith("_") or (HERE / f"{name}.py").exists() or name not in _public():
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return _public()[name]


def __dir__() -> list[str]:
    return sorted(_public())

"""JSON Schemas of the files in params/, for editors that check YAML as it is typed; not kept in git."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from mmcontrast.config import OBJECTIVES, Dataset, Experiment, Method, Recipe, Suite, Tuning
from mmcontrast.data.files import replacing

FOLDER = "build/schemas"
MODELS: dict[str, type[BaseModel]] = {
    "suite": Suite,
    "dataset": Dataset,
    "method": Method,
    "experiment": Experiment,
    "recipe": Recipe,
    "tuning": Tuning,
    **{f"objective_{name}": model for name, model in OBJECTIVES.items()},
}


def schemas() -> dict[str, str]:
    """Text of every schema, by path relative to the checkout."""
    return {
        f"{FOLDER}/{name}.schema.json": json.dumps(model.model_json_schema(), indent=1, sort_keys=True) + "\n"
        for name, model in MODELS.items()
    }


def write_schemas(root: Path) -> list[str]:
    """Write them; returns the paths that changed."""
    changed = []
    for file, text in schemas().items():
        path = root / file
        if not path.exists() or path.read_text() != text:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            changed.append(file)
    return changed

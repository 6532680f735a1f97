"""JSON Schemas of the files of params/, for editors; not kept in git."""

import json
from pathlib import Path

from pydantic import BaseModel

from mmcontrast.config import OBJECTIVES, Dataset, Experiment, Method, Recipe, Suite, Tuning
from mmcontrast.pipeline.plan import put

FOLDER = "build/schemas"
MODELS: dict[str, type[BaseModel]] = {
    **{model.__name__.lower(): model for model in (Suite, Dataset, Method, Experiment, Recipe, Tuning)},
    **{f"objective_{name}": model for name, model in OBJECTIVES.items()},
}


def write_schemas(root: Path) -> list[str]:
    """Write one per kind of file; returns the paths that changed."""
    texts = {
        f"{FOLDER}/{name}.schema.json": json.dumps(model.model_json_schema(), indent=1, sort_keys=True) + "\n"
        for name, model in MODELS.items()
    }
    return [file for file, text in texts.items() if put(root / file, text, sync=True)]

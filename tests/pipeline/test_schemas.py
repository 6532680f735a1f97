"""build/schemas/ is what the models say."""

from __future__ import annotations

import json
from pathlib import Path

from mmcontrast.pipeline.documents import FOLDER, MODELS, write_schemas


def test_the_schemas_are_written_and_only_what_changed_is_written_again(tmp_path: Path) -> None:
    files = write_schemas(tmp_path)
    assert {file.name for file in (tmp_path / FOLDER).iterdir()} == {f"{name}.schema.json" for name in MODELS}
    for file, model in zip(files, MODELS.values(), strict=True):
        assert json.loads((tmp_path / file).read_text(encoding="utf-8")) == model.model_json_schema()
    (tmp_path / files[0]).write_text("{}")
    assert write_schemas(tmp_path) == files[:1]

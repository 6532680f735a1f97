"""A dataset of every kind of modality, prepared from raw instances that the tests keep."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mmcontrast import paths
from mmcontrast.config import CellConfig, Dataset, SequenceModel
from mmcontrast.config.training import TextModel
from mmcontrast.data import prepare as package
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.pictures import jpeg, resized
from tests.grids import grid_of
from tests.real_inputs import picture

NAME, SIDE = "raw_rows", 16
SIZES = {"train": 24, "val": 6, "test": 9}
KINDS: dict[str, dict[str, Any]] = {
    "vital": {"kind": "vector", "shape": [3]},
    "photo": {"kind": "image", "shape": [3, SIDE, SIDE], "encoded": True, "optional": True},
    "pen": {"kind": "sequence", "shape": [6, 2], "optional": True},
    "note": {"kind": "text", "shape": []},
}
FEATURES = {"vital": ["pulse", "weight", "height"]}
# what the dataset's file says of the cells of its tables
CELLS = {"vital": {"missing": ["NA"], "decimal": "."}}
TARGETS: dict[str, dict[str, Any]] = {
    "classes": {"classes": ["no", "yes"], "metrics": ["acc"]},
    "multilabel": {"classes": ["odd", "third"], "metrics": ["macro_f1", "micro_f1"]},
    "regression": {"classes": ["rest", "place"], "metrics": ["mse", "mae"]},
}


def label(i: int, target: str) -> Any:
    return {"classes": i % 2, "multilabel": [i % 2, int(i % 3 == 0)], "regression": [i % 5 - 1.5, 100.0 + i]}[target]


def instances(target: str = "classes", in_files: bool = False) -> list[Instance]:
    """A sixth of the vitals is missing, every third instance lacks the pen, every fourth the photograph.

    in_files: the photograph as it is in its file, and not as what is stored of that.
    """
    rng, made = np.random.default_rng(0), []
    for i, split in enumerate(split for split, n in SIZES.items() for _ in range(n)):
        vital = rng.normal([70, 60, 170], [9, 12, 8])
        vital[i % 3] = np.nan if i % 2 else vital[i % 3]
        values = {
            "vital": vital,
            "photo": None if i % 4 == 3 else picture(rng.integers(0, 256, (SIDE + 4, SIDE, 3), dtype=np.uint8)),
            "pen": None if i % 3 == 2 else rng.normal(3, 2, size=(1 + i % 8, 2)),
            "note": ["short", "a longer note", "two words and three more"][i % 3] + " x" * (i % 5),
        }
        if values["photo"] is not None and not in_files:
            values["photo"] = jpeg(resized(io.BytesIO(values["photo"]), KINDS["photo"]["shape"]))
        made.append(Instance(f"p{i}", values, label(i, target), split))
    return made


def dataset(kinds: Iterable[str], target: str = "classes", **change: Any) -> Dataset:
    values: dict[str, Any] = {
        "title": "t", "description": "d", "licence": "l", "redistribute": True, "citation": "c",
        "generate": {"seed": 0}, "modalities": {m: KINDS[m] for m in kinds}, **TARGETS[target],
        "target": target, "rows": sum(SIZES.values()), "scaling": "standard",
        "split": {"kind": "published", **SIZES},
    }  # fmt: skip
    return Dataset.model_validate(values | change)


def write(root: Path, kinds: Iterable[str] = KINDS, target: str = "classes") -> None:
    """Prepared as any dataset is."""
    given = [Instance(o.id, {m: o.values[m] for m in kinds}, o.label, o.split) for o in instances(target)]
    stream = Stream(given, {m: names for m, names in FEATURES.items() if m in kinds}, cells=CELLS)
    package.from_stream(NAME, dataset(kinds, target), {}, stream, root / Path(paths.datasheet(NAME)).parent)


def raw(kinds: Iterable[str] = KINDS, split: str = "test") -> dict[str, list[Any]]:
    """modality -> raw values of a split's instances, in order."""
    return {m: [o.values[m] for o in instances() if o.split == split] for m in kinds}


def cell_of(
    method: str, kinds: Iterable[str] = KINDS, variant: str = "base", target: str = "classes", **sequence: Any
) -> CellConfig:
    """A method on these data, narrow, two epochs of one batch."""
    cell = grid_of("smoke").cell("synthetic", method, variant)
    spec = dataset(kinds, target)
    steps = [{"name": "noise", "std": 0.1}]
    objective = dict(cell.objective)
    if "augmentations" in objective:
        objective["augmentations"] = {"vector": steps, "sequence": steps, "image": steps, "text": []}
    fusion = cell.model.fusion and cell.model.fusion.model_copy(update={"width": 16, "heads": 2})
    model = cell.model.model_copy(
        update={
            "width": 8, "encoder_hidden": [8], "head_hidden": [8] * len(cell.model.head_hidden), "image": "small_conv",
            "fusion": fusion, "projection": [8] * len(cell.model.projection),
            "text": TextModel(vocabulary=40, tokens=6, embedding=4, hidden=4),
            "sequence": SequenceModel(
                **{"kind": "transformer" if fusion else "gru", "width": 8, "heads": 2 if fusion else 1} | sequence
            ),
        }
    )  # fmt: skip
    changed = {
        stage: getattr(cell, stage).model_copy(update={"epochs": min(2, getattr(cell, stage).epochs), "batch_size": 12})
        for stage in cell.stages
    }
    return cell.model_copy(
        update={
            "dataset": NAME, "modalities": spec.modalities, "classes": spec.classes, "metrics": spec.metrics,
            "target": target,
            "objective": objective, "model": model, "seeds": [3],
            "engine": cell.engine.model_copy(update={"backend": "torch"}), **changed,
        }
    )  # fmt: skip

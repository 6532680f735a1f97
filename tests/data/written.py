"""A prepared split of vectors, written as `prepare` leaves one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmcontrast.data.parquet import write_parquet
from mmcontrast.data.table import column


def write_split(
    path: Path,
    layout: pa.Schema,
    ids: Sequence[str],
    labels_N: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    tasks: Mapping[str, np.ndarray] | None = None,
    scenes: Sequence[str] | None = None,
) -> None:
    further = [*(tasks or {}).values(), *([scenes] if scenes is not None else [])]
    cells = [
        column(list(of), f.type) for of, f in zip([ids, labels_N, *further, *inputs.values()], layout, strict=True)
    ]
    write_parquet(pa.Table.from_arrays(cells, schema=layout), path)


def feature_names(layout: pa.Schema, modality: str) -> list[str]:
    """As they stand in the metadata of a modality's field."""
    names: list[str] = json.loads(layout.field(modality).metadata[b"features"])
    return names

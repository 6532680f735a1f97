"""Whatever is put into a prepared split comes out of it to the last bit, for every kind of column."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.config import Modality
from mmcontrast.data import table
from mmcontrast.data.files import parse_json
from mmcontrast.data.loading import load_split
from mmcontrast.data.parquet import write_parquet
from mmcontrast.data.scaling import Scaler
from mmcontrast.data.splitting import stratified
from mmcontrast.data.streaming import batch_of, unscaled, with_scale
from mmcontrast.data.table import numbers
from mmcontrast.errors import DataError

# what UTF-8 cannot hold is no text; anything else is, a NUL, a line's end and a flag of two code points included
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
CLASSES = ["x", "y", "z"]
KINDS = ["vector", "image", "vectors", "images", "texts"]


def modality(kind: str, width: int) -> Modality:
    base = kind.removesuffix("s")
    shape = {"vector": [width], "image": [1, width, 2], "text": []}[base]
    return Modality.model_validate({"kind": base, "shape": shape, "multifold": kind.endswith("s")})


def observations(kind: str, width: int) -> st.SearchStrategy[Any]:
    """What one cell holds, as plain lists."""
    one: st.SearchStrategy[Any] = {
        "vector": st.lists(FLOATS, min_size=width, max_size=width),
        "image": st.lists(st.integers(0, 255), min_size=2 * width, max_size=2 * width),
        "text": TEXTS,
    }[kind.removesuffix("s")]
    return st.lists(one, max_size=3) if kind.endswith("s") else one


@st.composite
def splits(draw: st.DrawFn) -> tuple[dict[str, Modality], list[str], list[int], dict[str, list[Any]]]:
    """Modalities, ids, labels and cells of a split of 0 to 5 rows."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    width, n = draw(st.integers(1, 3)), draw(st.integers(0, 5))
    modalities = {f"{kind}{k}": modality(kind, width) for k, kind in enumerate(kinds)}
    cells = {
        name: draw(st.lists(observations(kind, width), min_size=n, max_size=n))
        for name, kind in zip(modalities, kinds, strict=True)
    }
    ids = draw(st.lists(TEXTS, min_size=n, max_size=n))
    return modalities, ids, draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), cells


@given(splits())
def test_a_split_comes_back_as_it_was(content: tuple[Any, ...]) -> None:
    modalities, ids, labels, cells = content
    layout = table.schema("toy", "train", modalities, CLASSES, "none", {})
    columns = [pa.array(ids, pa.string()), pa.array(labels, pa.int64())]
    columns += [pa.array(cells[name], layout.field(name).type) for name in modalities]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.parquet"
        write_parquet(pa.Table.from_arrays(columns, schema=layout), path)
        loaded = load_split(path)
        assert (loaded.ids, loaded.labels.tolist(), loaded.classes) == (ids, labels, CLASSES)
        assert dict(loaded.modalities) == modalities
        for name, spec in modalities.items():
            if spec.multifold:
                of = loaded.observations[name]
                flat = of.flat if isinstance(of.flat, list) else of.flat.flatten(1).tolist()
                starts = of.offsets.tolist()
                assert [flat[a:b] for a, b in pairwise(starts)] == cells[name]
            else:
                assert loaded.inputs[name].shape == (len(ids), *spec.shape)
                assert loaded.inputs[name].flatten(1).tolist() == cells[name]


@given(st.lists(st.lists(st.floats(width=64, allow_nan=False), min_size=2, max_size=2), min_size=1, max_size=4))
def test_numbers_are_stored_as_float32_or_refused(rows: list[list[float]]) -> None:
    layout = table.schema("toy", "train", {"a": modality("vector", 2)}, CLASSES, "none", {"a": ["p", "q"]})
    raw = batch_of([[str(i), 0, np.array(row)] for i, row in enumerate(rows)], unscaled(layout, ["a"]))
    as_it_is = Scaler(np.zeros(2), np.ones(2), np.zeros(2, bool), np.zeros(2))
    with np.errstate(over="ignore"):
        expected = np.array(rows).astype(np.float32) + np.float32(0)
    if not np.isfinite(expected).all():
        with pytest.raises(DataError, match="too large for float32"):
            with_scale(raw, layout, {"a": as_it_is}, Path("train.parquet"))
        return
    stored = with_scale(raw, layout, {"a": as_it_is}, Path("train.parquet"))
    np.testing.assert_array_equal(numbers(stored["a"]), expected)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
    st.integers(0, 3),
    st.sampled_from([(0.6, 0.2, 0.2), (0.98, 0.01, 0.01), (0.34, 0.33, 0.33)]),
)
def test_every_row_is_dealt_once_and_train_has_every_class(
    labels: list[int], seed: int, shares: tuple[float, float, float]
) -> None:
    labels_N = np.array(labels)
    parts = stratified(labels_N, dict(zip(("train", "val", "test"), shares, strict=True)), seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(labels)))
    assert set(labels_N[parts["train"]].tolist()) == set(labels)
    again = stratified(labels_N, dict(zip(("train", "val", "test"), shares, strict=True)), seed)
    assert all((parts[p] == again[p]).all() for p in parts)


@given(st.binary(max_size=30))
def test_any_bytes_are_json_or_a_value_error(raw: bytes) -> None:
    try:
        parse_json(raw)
    except ValueError:
        return
    raw.decode()

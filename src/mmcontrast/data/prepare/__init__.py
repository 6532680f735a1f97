"""From raw files to train, val and test Parquet with a datasheet. The same input gives the same bytes.

Each module here has `stream(name, dataset, raw_dir) -> Stream`, which gives one instance after another, or, of a small
set of vectors, `read(name, dataset, raw_dir) -> Instances`. All take one path: check, split, scale by train, write,
look for leaks.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from mmcontrast import paths
from mmcontrast.config import Dataset
from mmcontrast.data import fingerprints, leaks, scaling
from mmcontrast.data.checksums import DATASHEET
from mmcontrast.data.datasheet import datasheet
from mmcontrast.data.files import sha256_of, write_json
from mmcontrast.data.instances import Written
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.data.preparers import preparer
from mmcontrast.data.splitting import refuse_unseen
from mmcontrast.data.stored_rows import stored_rows
from mmcontrast.data.streaming import Stream, from_arrays, write_stream
from mmcontrast.errors import DataError


def prepare(dataset_name: str, dataset: Dataset, raw_dir: Path | str, out_dir: Path | str) -> dict[str, Any]:
    """Write train.parquet, val.parquet, test.parquet, fitted.json and datasheet.json.

    Args:
        raw_dir: data/raw/<dataset>, as `fetch` left it; not looked at for a generated dataset.
        out_dir: data/prepared/<dataset>.

    Returns:
        The datasheet.

    Raises:
        DataError: not fetched, changed since, or not what params/ says; no splits are left then.
        ConfigError: there is no reader for the dataset.
    """
    raw_dir, out_dir = Path(raw_dir), Path(out_dir)
    manifest = verified_manifest(dataset_name, dataset, raw_dir) if dataset.sources else {}
    reader = importlib.import_module(f"{__name__}.{preparer(dataset_name, dataset)}")
    if hasattr(reader, "stream"):
        stream: Stream = reader.stream(dataset_name, dataset, raw_dir)
    else:
        stream = from_arrays(reader.read(dataset_name, dataset, raw_dir))
    return from_stream(dataset_name, dataset, manifest, stream, out_dir)


def from_stream(
    dataset_name: str, dataset: Dataset, manifest: dict[str, Any], stream: Stream, out_dir: Path
) -> dict[str, Any]:
    """Write what a reader gives, as `prepare`, and keep it only if it passes."""
    try:
        written = write_stream(dataset_name, dataset, stream, out_dir)
        found, repeated = _duplicates(dataset_name, dataset, written, out_dir)
    except DataError:
        for split in paths.SPLITS:
            (out_dir / f"{split}.parquet").unlink(missing_ok=True)
        raise
    near = fingerprints.near_duplicates(out_dir, dataset.modalities)
    sheet = datasheet(dataset_name, dataset, manifest, written, found, near)
    if repeated:
        sheet["leaks"]["repeats"] = repeated
        sheet["warnings"] += [f"{n} rows have an equal one {where}, in every feature" for where, n in repeated.items()]
    if stream.split_rule is not None:
        sheet["split"]["rule"] = stream.split_rule
    if stream.report:
        sheet["report"] = stream.report
    scaling.write_fitted(out_dir, written.scalers, stream.feature_names)
    # the checksums of the splits are checked when they are loaded
    sheet["prepared"] = {split: sha256_of(out_dir / f"{split}.parquet") for split in paths.SPLITS}
    write_json(out_dir / DATASHEET, sheet, seal=True)
    return sheet


def _duplicates(
    dataset_name: str, dataset: Dataset, written: Written, out_dir: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """Rows that splits share, which must be those that are accepted, and `leaks.repeats`; after all other checks."""
    rows = sum(map(len, written.labels[""].values()))
    if rows != dataset.rows:
        where = f"params/datasets/{dataset_name}.yaml"
        raise DataError(f"{dataset_name}: {rows} instances written, and {where}: rows says {dataset.rows}")
    for task, target in dataset.targets.items():
        if task and dataset.probe_from is not None:
            continue  # this train is for pretraining alone, and its tasks may be constant
        named = f"{dataset_name}: task '{task}'" if task else dataset_name
        known = {split: _occurring(of, target.kind) for split, of in written.labels[task].items()}
        refuse_unseen(named, target.names, known.pop("train"), known)
    leaks.check_apart(dataset_name, "group", written.groups)
    rows_of = {split: stored_rows(out_dir / f"{split}.parquet", list(dataset.modalities)) for split in paths.SPLITS}
    leaks.check_apart(dataset_name, "id", {split: ids for split, (ids, _) in rows_of.items()})
    keys = {split: of for split, (_, of) in rows_of.items()}
    found = leaks.duplicates_across(keys)
    leaks.check_duplicates(dataset_name, found, dataset.duplicates)
    return found, leaks.repeats(keys, written.labels[""])


def _occurring(labels: np.ndarray, kind: str) -> np.ndarray:
    """Class indices that occur in a split, as often as they do; none of a regression."""
    if kind == "classes":
        return labels
    return np.nonzero(labels)[1] if kind == "multilabel" else np.zeros(0, np.int64)

"""From raw files to train, val and test Parquet with a datasheet. The same input gives the same bytes.

Each module here has `stream(name, dataset, raw_dir) -> Stream`, which gives one instance after another, or
`read(name, dataset, raw_dir)`, which of small sets of vectors gives `Instances`. What follows is one path for each:
check, split, look for leaks, scale by train, write.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from mmcontrast import paths
from mmcontrast.config import Dataset, RandomSplit
from mmcontrast.data import fingerprints, leaks, scaling
from mmcontrast.data import table as prepared_table
from mmcontrast.data.checksums import DATASHEET
from mmcontrast.data.datasheet import datasheet, describe_inputs
from mmcontrast.data.files import sha256_of, write_json
from mmcontrast.data.instances import Instances, Written, check
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.data.preparers import preparer
from mmcontrast.data.splitting import refuse_unseen, stratified
from mmcontrast.data.stored_rows import stored_rows
from mmcontrast.data.streaming import Stream, write_stream
from mmcontrast.errors import DataError


def prepare(dataset_name: str, dataset: Dataset, raw_dir: Path | str, out_dir: Path | str) -> dict[str, Any]:
    """Write train.parquet, val.parquet, test.parquet, fitted.json and datasheet.json.

    Args:
        raw_dir: data/raw/<dataset>, as `fetch` left it; not looked at for a generated dataset.
        out_dir: data/prepared/<dataset>.

    Returns:
        The datasheet.

    Raises:
        DataError: not fetched, changed since, or not what params/ says; nothing is written then.
        ConfigError: there is no reader for the dataset.
    """
    raw_dir, out_dir = Path(raw_dir), Path(out_dir)
    manifest = verified_manifest(dataset_name, dataset, raw_dir) if dataset.sources else {}
    reader = importlib.import_module(f"{__name__}.{preparer(dataset_name, dataset)}")
    read = getattr(reader, "stream", None) or reader.read
    instances: Instances | Stream = read(dataset_name, dataset, raw_dir)
    if isinstance(instances, Stream):
        return _stream(dataset_name, dataset, manifest, instances, out_dir)
    check(instances, dataset_name, dataset)

    parts = _parts(instances, dataset)
    labels = {split: instances.labels[rows] for split, rows in parts.items()}
    others = {split: rows for split, rows in labels.items() if split != "train"}
    refuse_unseen(dataset_name, dataset.classes, labels["train"], others)
    tasks = {split: {t: y[rows] for t, y in instances.tasks.items()} for split, rows in parts.items()}
    for task in dataset.tasks:
        others = {split: of[task] for split, of in tasks.items() if split != "train"}
        refuse_unseen(f"{dataset_name}: task '{task}'", dataset.targets[task].names, tasks["train"][task], others)
    _refuse_leaks(dataset_name, instances, parts)
    duplicates = leaks.duplicates_across({s: leaks.row_keys(instances.inputs, rows) for s, rows in parts.items()})
    leaks.check_duplicates(dataset_name, duplicates, dataset.duplicates)

    scalers = {m: scaling.fit(x[parts["train"]], dataset.scaling) for m, x in instances.inputs.items()}
    constant = {
        m: [instances.feature_names[m][j] for j in np.flatnonzero(scaler.constant_d)] for m, scaler in scalers.items()
    }
    scaled = {m: scaler(instances.inputs[m]) for m, scaler in scalers.items()}
    leaks.check_scaling(dataset_name, {m: x[parts["train"]] for m, x in scaled.items()}, dataset.scaling)
    for split, rows in parts.items():
        layout = prepared_table.schema(
            dataset_name,
            split,
            dataset.modalities,
            dataset.classes,
            dataset.scaling,
            instances.feature_names,
            dataset.tasks,
            dataset.scenes,
        )
        inputs = {m: x[rows] for m, x in scaled.items()}
        ids = [instances.ids[i] for i in rows]
        scenes = [instances.groups[i] for i in rows] if dataset.scenes and instances.groups else None
        prepared_table.write_split(
            out_dir / f"{split}.parquet", layout, ids, labels[split], inputs, tasks[split], scenes
        )
    near = leaks.near_duplicates(scaled, parts, instances.ids)
    scaling.write_fitted(out_dir, scalers, instances.feature_names)
    sheet = datasheet(dataset_name, dataset, manifest, labels, tasks, constant, duplicates, near)
    return _seal(sheet, out_dir)


def _stream(
    dataset_name: str, dataset: Dataset, manifest: dict[str, Any], stream: Stream, out_dir: Path
) -> dict[str, Any]:
    """Write what a reader streams, and keep it only if it passes."""
    try:
        written = write_stream(dataset_name, dataset, stream, out_dir)
        sheet = _written(dataset_name, dataset, manifest, written, out_dir)
        scaling.write_fitted(out_dir, written.scalers, stream.feature_names)
        return _seal(sheet, out_dir)
    except DataError:
        for split in paths.SPLITS:
            (out_dir / f"{split}.parquet").unlink(missing_ok=True)
        raise


def _seal(sheet: dict[str, Any], out_dir: Path) -> dict[str, Any]:
    """Write the datasheet, with the checksums of the splits, which are checked when they are loaded."""
    sheet = sheet | {"prepared": {split: sha256_of(out_dir / f"{split}.parquet") for split in paths.SPLITS}}
    write_json(out_dir / DATASHEET, sheet, seal=True)
    return sheet


def _refuse_leaks(dataset_name: str, instances: Instances, parts: dict[str, np.ndarray]) -> None:
    """Ids and groups stay within one split."""
    leaks.check_apart(dataset_name, "id", {s: [instances.ids[i] for i in rows] for s, rows in parts.items()})
    if groups := instances.groups:
        leaks.check_apart(dataset_name, "group", {s: [groups[i] for i in rows] for s, rows in parts.items()})


def _written(
    dataset_name: str, dataset: Dataset, manifest: dict[str, Any], written: Written, out_dir: Path
) -> dict[str, Any]:
    """The datasheet of splits that were streamed, after the same checks of them."""
    rows = sum(map(len, written.labels.values()))
    if rows != dataset.rows:
        where = f"params/datasets/{dataset_name}.yaml"
        raise DataError(f"{dataset_name}: {rows} instances written, and {where}: rows says {dataset.rows}")
    for task, target in dataset.targets.items():
        labels = {split: written.tasks[split][task] if task else written.labels[split] for split in paths.SPLITS}
        if task and dataset.probe_from is not None:
            continue  # this train is for pretraining alone, and its tasks may be constant
        named = f"{dataset_name}: task '{task}'" if task else dataset_name
        known = {split: _occurring(of, target.kind) for split, of in labels.items()}
        refuse_unseen(named, target.names, known["train"], {split: known[split] for split in ("val", "test")})
    leaks.check_apart(dataset_name, "group", written.groups)
    rows_of = {split: stored_rows(out_dir / f"{split}.parquet", list(dataset.modalities)) for split in paths.SPLITS}
    leaks.check_apart(dataset_name, "id", {split: ids for split, (ids, _) in rows_of.items()})
    found = leaks.duplicates_across({split: keys for split, (_, keys) in rows_of.items()})
    leaks.check_duplicates(dataset_name, found, dataset.duplicates)
    near = fingerprints.near_duplicates(out_dir, dataset.modalities)
    sheet = datasheet(dataset_name, dataset, manifest, written.labels, written.tasks, written.constant, found, near)
    describe_inputs(sheet, written.inputs)
    if written.split_rule is not None:
        sheet["split"]["rule"] = written.split_rule
    elif written.groups and isinstance(dataset.split, RandomSplit):
        sheet["split"]["rule"] = "groups whole, stratified by class as well as they allow, fixed by its seed"
    return sheet | ({"report": written.report} if written.report else {})


def _occurring(labels: np.ndarray, kind: str) -> np.ndarray:
    """Class indices that occur in a split, as often as they do; none of a regression."""
    if kind == "classes":
        return labels
    return np.nonzero(labels)[1] if kind == "multilabel" else np.zeros(0, np.int64)


def _parts(instances: Instances, dataset: Dataset) -> dict[str, np.ndarray]:
    """split -> sorted rows; val may be empty."""
    split = dataset.split
    if isinstance(split, RandomSplit):
        return stratified(instances.labels, {s: getattr(split, s) for s in paths.SPLITS}, split.seed)
    names = np.array(instances.splits)
    return {s: np.flatnonzero(names == s) for s in paths.SPLITS}

"""From raw files to train, val and test Parquet with a datasheet. The same input gives the same bytes.

Each module here has `stream(name, dataset, raw_dir) -> Stream`, which gives one instance after another; `raw_dir` is
data/raw/<dataset>. It raises DataError where a file is missing or not what the dataset's file says, with file and place
in it, and ConfigError where what that says is not accepted. All take one path: check, split, scale by train, write,
look for leaks.
"""

import importlib
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmcontrast import paths
from mmcontrast.config import Dataset, PublishedSplit
from mmcontrast.data import leaks, scaling
from mmcontrast.data.fetch import trust
from mmcontrast.data.files import DATASHEET, sha256_of, write_json
from mmcontrast.data.instances import Stream, Written
from mmcontrast.data.leaks import stored_rows
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.data.outside import preparer
from mmcontrast.data.splitting import check_apart, refuse_unseen
from mmcontrast.data.streaming import write_stream
from mmcontrast.errors import DataError


def prepare(dataset_name: str, dataset: Dataset, raw_dir: Path | str, out_dir: Path | str) -> dict[str, Any]:
    """Write train.parquet, val.parquet, test.parquet, fitted.json and datasheet.json to `out_dir`; the datasheet.

    `raw_dir`: as `fetch` left it; unused for generated data. Raises DataError: not fetched, changed since, or not what
    params/ says; no splits are left then; ConfigError: the dataset has no reader.
    """
    raw_dir, out_dir = Path(raw_dir), Path(out_dir)
    manifest = verified_manifest(dataset_name, dataset, raw_dir) if dataset.sources else {}
    reader = importlib.import_module(f"{__name__}.{preparer(dataset_name, dataset)}")
    sheet = from_stream(dataset_name, dataset, manifest, reader.stream(dataset_name, dataset, raw_dir), out_dir)
    trust(dataset, manifest)
    return sheet


def from_stream(name: str, dataset: Dataset, manifest: dict[str, Any], stream: Stream, out_dir: Path) -> dict[str, Any]:
    """Write what a reader gives, as `prepare`, and keep it only if it passes."""
    try:
        written = write_stream(name, dataset, stream, out_dir)
        found, repeated = _duplicates(name, dataset, written, out_dir)
    except DataError:
        for split in paths.SPLITS:
            (out_dir / f"{split}.parquet").unlink(missing_ok=True)
        raise
    sheet = datasheet(name, dataset, manifest, written, found)
    if repeated:
        sheet["leaks"]["repeats"] = repeated
        sheet["warnings"] += [f"{n} rows have an equal one {where}, in every feature" for where, n in repeated.items()]
    if stream.split_rule is not None:
        sheet["split"]["rule"] = stream.split_rule
    if stream.report:
        sheet["report"] = stream.report
    scaling.write_fitted(out_dir, written.scalers, stream.feature_names, stream.cells)
    # the checksums of the splits are checked when they are loaded
    sheet["prepared"] = {split: sha256_of(out_dir / f"{split}.parquet") for split in paths.SPLITS}
    write_json(out_dir / DATASHEET, sheet, seal=True)
    return sheet


def _duplicates(name: str, dataset: Dataset, written: Written, out_dir: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Rows that splits share, which must be those that are accepted, and `leaks.repeats`; after all other checks."""
    rows = sum(map(len, written.labels[""].values()))
    if rows != dataset.rows:
        where = f"params/datasets/{name}.yaml"
        raise DataError(f"{name}: {rows} instances written, and {where}: rows says {dataset.rows}")
    for task, target in dataset.targets.items():
        if (task and dataset.probe_from is not None) or target.kind == "regression":
            continue  # a train that is for pretraining alone may have constant tasks
        named = f"{name}: task '{task}'" if task else name
        # class indices, as often as they occur
        known = {split: np.nonzero(of)[1] if of.ndim > 1 else of for split, of in written.labels[task].items()}
        refuse_unseen(named, target.names, known.pop("train"), known)
    check_apart(name, "group", written.groups)
    rows_of = {split: stored_rows(out_dir / f"{split}.parquet", list(dataset.modalities)) for split in paths.SPLITS}
    check_apart(name, "id", {split: ids for split, (ids, _) in rows_of.items()})
    keys = {split: of for split, (_, of) in rows_of.items()}
    found = leaks.duplicates_across(keys)
    leaks.check_duplicates(name, found, dataset.duplicates)
    return found, leaks.repeats(keys, written.labels[""])


def datasheet(
    name: str,
    dataset: Dataset,
    manifest: Mapping[str, Any],
    written: Written,
    duplicates: Mapping[str, int],
) -> dict[str, Any]:
    """The datasheet. `manifest`: of the raw folder, empty for generated data. `duplicates`: as `leaks` found them."""
    splits = {
        task: {split: _counts(rows, target.names, target.kind) for split, rows in written.labels[task].items()}
        for task, target in dataset.targets.items()
    }
    counts = splits.pop("")
    modalities = {
        m: {"kind": s.kind, "shape": s.shape} | {flag: True for flag in ("optional", "encoded") if getattr(s, flag)}
        for m, s in dataset.modalities.items()
    }
    sheet = {
        "name": name,
        **dataset.model_dump(include={"title", "description", "licence", "redistribute", "citation"}),
        "rows": sum(of["rows"] for of in counts.values()),
        "classes": dataset.classes,
        "modalities": modalities,
        "split": {"rule": _split_rule(dataset, bool(written.groups)), **dataset.split.model_dump(mode="json")},
        "splits": counts,
        "scaling": {"kind": dataset.scaling, "fitted_on": "train"},
        "generate": dataset.generate,
        "sources": manifest.get("sources", []),
        "files": manifest.get("files", {}),
        "leaks": {"duplicates": dict(duplicates)},
        "notes": dataset.notes,
        "warnings": _warnings(dataset, manifest, written, duplicates) + _told(dataset, written.inputs),
    }
    if any(spec.kind == "text" for spec in dataset.modalities.values()):
        # texts are compared, and cut into words, by the tables of Python itself, which differ between its versions
        sheet["unicode"] = unicodedata.unidata_version
    if dataset.scenes is not None:
        sheet["scenes"] = dataset.scenes
    if splits:
        sheet["tasks"] = splits
    return sheet | ({"inputs": dict(written.inputs)} if written.inputs else {})


def _told(dataset: Dataset, inputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was missing, filled in, cut or empty. `inputs`: as `Written.inputs`."""
    out = []
    for m, found in inputs.items():
        share, limit = found.get("imputed_share", 0), next(iter(dataset.modalities[m].shape), None)
        told = {
            "missing": f"{found.get('missing')} of {dataset.rows} instances lack it",
            "imputed": f"{share:.2%} of its values are missing and count as their mean over train",
            "cut": f"{found.get('cut')} sequences are cut to {limit} steps; the longest has {found.get('longest')}",
            "empty": f"{found.get('empty')} texts are empty",
        }
        out += [f"{m}: {text}" for what, text in told.items() if what in found]
    return out


def _counts(labels_N: np.ndarray, classes: list[str], target: str) -> dict[str, Any]:
    if target == "multilabel":
        return {"rows": len(labels_N), "labels": dict(zip(classes, labels_N.sum(axis=0).tolist(), strict=True))}
    if target == "regression":
        few = ("mean", "std", "min", "max") if len(labels_N) else ()
        told = [{k: float(f"{getattr(y_N, k)():.6g}") for k in few} for y_N in labels_N.astype(np.float64).T]
        return {"rows": len(labels_N), "quantities": dict(zip(classes, told, strict=True))}
    counts = np.bincount(labels_N, minlength=len(classes))
    return {"rows": len(labels_N), "classes": dict(zip(classes, counts.tolist(), strict=True))}


def _split_rule(dataset: Dataset, grouped: bool) -> str:
    if isinstance(dataset.split, PublishedSplit):
        held = "" if dataset.split.val else "; no validation part, so each run holds one out of train by its own seed"
        return f"as published{held}"
    if grouped:
        return "groups whole, stratified by class as well as they allow, fixed by its seed"
    if dataset.target != "classes":
        return "at random, fixed by its seed"
    return "stratified by class, dealt by largest remainder, fixed by its seed"


def _warnings(
    dataset: Dataset,
    manifest: Mapping[str, Any],
    written: Written,
    duplicates: Mapping[str, int],
) -> list[str]:
    out = []
    unpinned = [s["source"] for s in manifest.get("sources", []) if not s["pinned"]]
    if unpinned:
        out.append(
            f"{len(unpinned)} of {len(manifest['sources'])} sources have no published checksum and were trusted when "
            f"first fetched: {', '.join(unpinned)}"
        )
    far = f"have one value that is {scaling.FAR:g} times as far from all others as these are from one another ({{}})"
    odd = [("do not vary within train ({}); kept, with spread 1", *of) for of in written.constant.items()]
    odd += [(f"{far}; look whether it is right", *of) for of in written.alone.items()]
    for what, modality, features in odd:
        if features:
            shown = ", ".join(features[:5]) + (", ..." if len(features) > 5 else "")
            total = dataset.modalities[modality].shape[-1]
            out.append(f"{modality}: {len(features)} of {total} features {what.format(shown)}")
    for pair, count in duplicates.items():
        out.append(f"{count} rows are equal in {pair}, in every feature of every modality")
    for split, rows in written.labels[""].items() if dataset.target != "regression" else ():
        there = rows if dataset.target == "classes" else np.nonzero(rows)[1]
        absent = [c for i, c in enumerate(dataset.classes) if len(rows) and i not in there]
        if absent:
            out.append(f"{split} has no row of class {', '.join(absent)}")
    return out

"""datasheet.json: what a prepared dataset is, for people, the report and later checks. Equal data, equal bytes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmcontrast.config import Dataset, Modality, PublishedSplit
from mmcontrast.data.instances import Written


def datasheet(
    name: str,
    dataset: Dataset,
    manifest: Mapping[str, Any],
    written: Written,
    duplicates: Mapping[str, int],
    near: Mapping[str, Any],
) -> dict[str, Any]:
    """The datasheet as plain objects.

    Args:
        manifest: of the raw folder; empty for a generated dataset.
        duplicates: pair of splits -> rows they share (see `leaks.duplicates_across`).
        near: what `fingerprints.near_duplicates` found.
    """
    splits = {
        task: {split: _counts(rows, target.names, target.kind) for split, rows in written.labels[task].items()}
        for task, target in dataset.targets.items()
    }
    counts = splits.pop("")
    sheet = {
        "name": name,
        "title": dataset.title,
        "description": dataset.description,
        "licence": dataset.licence,
        "redistribute": dataset.redistribute,
        "citation": dataset.citation,
        "rows": sum(of["rows"] for of in counts.values()),
        "classes": dataset.classes,
        "modalities": {m: _described(spec) for m, spec in dataset.modalities.items()},
        "split": {"rule": _split_rule(dataset, bool(written.groups)), **dataset.split.model_dump(mode="json")},
        "splits": counts,
        "scaling": {"kind": dataset.scaling, "fitted_on": "train"},
        "generate": dataset.generate,
        "sources": manifest.get("sources", []),
        "files": manifest.get("files", {}),
        "leaks": {"duplicates": dict(duplicates), "near_duplicates": dict(near)},
        "notes": dataset.notes,
        "warnings": _warnings(dataset, manifest, written, duplicates, near) + _told(dataset, written.inputs),
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


def _described(spec: Modality) -> dict[str, Any]:
    flags = {flag: True for flag in ("optional", "encoded") if getattr(spec, flag)}
    return {"kind": spec.kind, "shape": spec.shape, **flags}


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
    near: Mapping[str, Any],
) -> list[str]:
    out = []
    unpinned = [s["source"] for s in manifest.get("sources", []) if not s["pinned"]]
    if unpinned:
        out.append(
            f"{len(unpinned)} of {len(manifest['sources'])} sources have no published checksum and were trusted when "
            f"first fetched: {', '.join(unpinned)}"
        )
    for modality, features in written.constant.items():
        if features:
            shown = ", ".join(features[:5]) + (", ..." if len(features) > 5 else "")
            total = dataset.modalities[modality].shape[-1]
            what = f"{len(features)} of {total} features do not vary within train"
            out.append(f"{modality}: {what} ({shown}); kept, with spread 1")
    for pair, count in duplicates.items():
        out.append(f"{count} rows are equal in {pair}, in every feature of every modality")
    for pair, found in near.get("pairs", {}).items():
        if found["count"]:
            closest = " and ".join(found["closest"])
            out.append(f"{found['count']} of {found['of']} in {pair} are near duplicates, the closest are {closest}")
    for split, rows in written.labels[""].items() if dataset.target != "regression" else ():
        there = rows if dataset.target == "classes" else np.nonzero(rows)[1]
        absent = [c for i, c in enumerate(dataset.classes) if len(rows) and i not in there]
        if absent:
            out.append(f"{split} has no row of class {', '.join(absent)}")
    return out

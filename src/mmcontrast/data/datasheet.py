"""datasheet.json: what a prepared dataset is, for people, the report and later checks. Equal data, equal bytes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmcontrast.config import Dataset, PublishedSplit


def datasheet(
    name: str,
    dataset: Dataset,
    manifest: Mapping[str, Any],
    labels: Mapping[str, np.ndarray],
    tasks: Mapping[str, Mapping[str, np.ndarray]],
    constant: Mapping[str, list[str]],
    duplicates: Mapping[str, int],
    near: Mapping[str, Any],
) -> dict[str, Any]:
    """The datasheet as plain objects.

    Args:
        manifest: of the raw folder; empty for a generated dataset.
        labels: split -> int64 class indices. tasks: split -> task -> the same of a further task.
        constant: modality -> features that do not vary within train.
        duplicates: pair of splits -> rows they share (see `leaks.duplicates_across`).
        near: what `leaks.near_duplicates` found, or `fingerprints.near_duplicates` in images and texts.
    """
    sheet = {
        "name": name,
        "title": dataset.title,
        "description": dataset.description,
        "licence": dataset.licence,
        "redistribute": dataset.redistribute,
        "citation": dataset.citation,
        "rows": sum(len(rows) for rows in labels.values()),
        "classes": dataset.classes,
        "modalities": {m: {"kind": spec.kind, "shape": spec.shape} for m, spec in dataset.modalities.items()},
        "split": {"rule": _split_rule(dataset), **dataset.split.model_dump(mode="json")},
        "splits": {split: _counts(rows, dataset.classes) for split, rows in labels.items()},
        "scaling": {"kind": dataset.scaling, "fitted_on": "train"},
        "generate": dataset.generate,
        "sources": manifest.get("sources", []),
        "files": manifest.get("files", {}),
        "leaks": {"duplicates": dict(duplicates), "near_duplicates": dict(near)},
        "notes": dataset.notes,
        "warnings": _warnings(dataset, manifest, labels, constant, duplicates, near),
    }
    if any(spec.kind == "text" for spec in dataset.modalities.values()):
        # texts are compared, and cut into words, by the tables of Python itself, which differ between its versions
        sheet["unicode"] = unicodedata.unidata_version
    if dataset.scenes is not None:
        sheet["scenes"] = dataset.scenes
    if dataset.tasks:
        sheet["tasks"] = {
            task: {split: _counts(of[task], dataset.targets[task].names) for split, of in tasks.items()}
            for task in dataset.tasks
        }
    return sheet


def _counts(labels_N: np.ndarray, classes: list[str]) -> dict[str, Any]:
    counts = np.bincount(labels_N, minlength=len(classes))
    return {"rows": len(labels_N), "classes": dict(zip(classes, counts.tolist(), strict=True))}


def _split_rule(dataset: Dataset) -> str:
    if isinstance(dataset.split, PublishedSplit):
        held = "" if dataset.split.val else "; no validation part, so each run holds one out of train by its own seed"
        return f"as published{held}"
    return "stratified by class, dealt by largest remainder, fixed by its seed"


def _warnings(
    dataset: Dataset,
    manifest: Mapping[str, Any],
    labels: Mapping[str, np.ndarray],
    constant: Mapping[str, list[str]],
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
    for modality, features in constant.items():
        if features:
            shown = ", ".join(features[:5]) + (", ..." if len(features) > 5 else "")
            total = dataset.modalities[modality].shape[0]
            what = f"{len(features)} of {total} features do not vary within train"
            out.append(f"{modality}: {what} ({shown}); kept, with spread 1")
    for pair, count in duplicates.items():
        out.append(f"{count} rows are equal in {pair}, in every feature of every modality")
    for pair, found in near.get("pairs", {}).items():
        if found["count"]:
            closest = " and ".join(found["closest"])
            out.append(f"{found['count']} of {found['of']} in {pair} are near duplicates, the closest are {closest}")
    for split, rows in labels.items():
        absent = [c for i, c in enumerate(dataset.classes) if len(rows) and i not in rows]
        if absent:
            out.append(f"{split} has no row of class {', '.join(absent)}")
    return out

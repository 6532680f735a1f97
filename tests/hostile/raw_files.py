"""csv, MATLAB and fetched files of the corpus, and the manifest that vouches for them."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from mmcontrast.config import Dataset
from mmcontrast.data.files import write_json
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.data.prepare.matlab import numeric, read_mat
from mmcontrast.data.prepare.readers import column, numbers, read_sheet
from tests.hostile.corpus import Crafted

RNG = np.random.default_rng

SOURCE = {"kind": "url", "url": "http://127.0.0.1:9/raw/FILE", "sha256": None}


def dataset_of(file: str, sha256: str | None) -> Dataset:
    return Dataset.model_validate(
        {
            "title": "Toy",
            "description": "Toy.",
            "licence": "none",
            "redistribute": True,
            "citation": "none",
            "sources": [SOURCE | {"url": f"http://127.0.0.1:9/raw/{file}", "sha256": sha256}],
            "modalities": {"a": {"kind": "vector", "shape": [3]}},
            "classes": ["x", "y"],
            "rows": 6,
            "split": {"kind": "published", "train": 4, "test": 2},
            "scaling": "none",
            "metrics": ["acc"],
        }
    )


def write_raw(path: Path, raw: bytes) -> Path:
    """A fetched file and its manifest."""
    path.write_bytes(raw)
    sha256 = hashlib.sha256(raw).hexdigest()
    source = {"source": f"http://127.0.0.1:9/raw/{path.name}", "sha256": sha256, "pinned": True}
    write_json(path.parent / "manifest.json", {"files": {path.name: sha256}, "sources": [source]})
    return path


def verified(path: Path) -> Path:
    verified_manifest("toy", dataset_of(path.name, None), path.parent)
    return path


CSV = "name,p,q\n" + "".join(f"r{i},{i}.25,-{i}e-3\n" for i in range(6))


def read_csv(path: Path, out: Path) -> Any:
    sheet = read_sheet(path, header=True)
    return [column(sheet, "name"), numbers(sheet, ["p", "q"], first=1)]


def crafted_csv(raw: bytes) -> Crafted:
    text = raw.decode()
    out = {
        "header alone, twice a name": b"a,a\n1,2\n",
        "NaN": text.replace("3.25", "nan").encode(),
        "infinity": text.replace("3.25", "inf").encode(),
        "beyond float64": text.replace("3.25", "1e999").encode(),
        "a word": text.replace("3.25", "three").encode(),
        "an empty cell": text.replace("3.25", "").encode(),
        "a NUL": text.replace("3.25", "3.\x0025").encode(),
        "a NUL in a name": text.replace("r3", "r\x003").encode(),
        "an escape sequence": text.replace("r3", "\x1b[2Jr3").encode(),
        "not UTF-8": text.replace("r3", "r\udcff").encode(errors="surrogateescape"),
        "UTF-16": text.encode("utf-16"),
        "a cell more": text.replace("3.25", "3.25,1").encode(),
        "a cell less": text.replace(",3.25", "").encode(),
        "a quote that never ends": text.replace("r3", '"r3').encode(),
        "a million columns": b"," * 1_000_000,
        "a web page": b"<!doctype html>\n<html><body>Sign in</body></html>\n",
        "a zip": b"PK\x03\x04" + bytes(60),
    }
    return {name: (data, True) for name, data in out.items()}


def mat_bytes(compress: bool = True) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"x": RNG(0).random((4, 3)), "gt": np.arange(4.0)[:, None]}, do_compression=compress)
    # the header says when it was written
    raw = buffer.getvalue()
    return b"MATLAB 5.0 MAT-file".ljust(116) + raw[116:]


def read_matlab(path: Path, out: Path) -> Any:
    variables = read_mat(path)
    return [numeric(variables, "x", path, (4, 3)), numeric(variables, "gt", path, (4, 1))]


def mat_element(kind: int, data: bytes, size: int | None = None) -> bytes:
    return struct.pack("<II", kind, len(data) if size is None else size) + data


def crafted_mat(raw: bytes) -> Crafted:
    head = raw[:128]
    plain = mat_bytes(compress=False)
    cells = io.BytesIO()
    savemat(cells, {"x": np.array([["a", 1]], dtype=object), "gt": np.arange(4.0)[:, None]})
    complex_ = io.BytesIO()
    savemat(complex_, {"x": np.ones((4, 3)) * 1j, "gt": np.arange(4.0)[:, None]})
    out = {
        "header alone": head,
        "a huge element": head + mat_element(14, b"", 2**32 - 1),
        "a huge compressed element": head + mat_element(15, b"x\x9c", 2**31),
        "a broken stream": head + mat_element(15, zlib.compress(plain[128:])[:40]),
        "not zlib": head + mat_element(15, b"not zlib at all"),
        "an unknown element": head + mat_element(99, bytes(64)),
        "dimensions that lie": plain[:128]
        + plain[128:].replace(struct.pack("<ii", 4, 3), struct.pack("<ii", 2**30, 3)),
        "negative dimensions": plain[:128] + plain[128:].replace(struct.pack("<ii", 4, 3), struct.pack("<ii", -4, 3)),
        "a size within that lies": plain[:136] + struct.pack("<II", 5, 2**31) + plain[144:],
        "cells": cells.getvalue(),
        "complex numbers": complex_.getvalue(),
        "MATLAB 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(64),
        "cut in the middle": plain[:160],
    }
    # what the reader does not look at, or takes for what it was
    let_through = ("negative dimensions", "a size within that lies")
    return {name: (data, name not in let_through) for name, data in out.items()}


MANIFEST_FILE = "raw.csv"


def write_manifest(folder: Path) -> Path:
    write_raw(folder / MANIFEST_FILE, CSV.encode())
    return folder / "manifest.json"


def read_manifest(path: Path, out: Path) -> Any:
    sha256 = hashlib.sha256(CSV.encode()).hexdigest()
    return verified_manifest("toy", dataset_of(MANIFEST_FILE, sha256), path.parent)

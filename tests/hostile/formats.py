"""The formats of the corpus: a small valid file of each, how it is read, and what is sent in its place."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import pickletools
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.io import savemat

from mmcontrast.config import CellConfig, Dataset, Engine, Modality, Model, Optimizer, Selection, Stage, read_yaml
from mmcontrast.data import table
from mmcontrast.data.archives import extract_npm, extract_wheel
from mmcontrast.data.cache import Cache
from mmcontrast.data.datasheet import check_prepared
from mmcontrast.data.files import sha256_of, write_json
from mmcontrast.data.loading import load_split
from mmcontrast.data.manifest import verified_manifest
from mmcontrast.data.npz import read_npz
from mmcontrast.data.parquet import write_parquet
from mmcontrast.data.prepare.matlab import numeric, read_mat
from mmcontrast.data.prepare.readers import column, numbers, read_sheet
from mmcontrast.data.unpickle import read_pickle
from mmcontrast.evaluation.embeddings import read_embeddings
from mmcontrast.evaluation.predictions import read_predictions
from mmcontrast.evaluation.protocols import METRICS_SCHEMA
from mmcontrast.models.weights import read_weights, write_weights
from mmcontrast.report.provenance import read_json
from mmcontrast.report.results import read_table
from tests.hostile.corpus import Format

Crafted = dict[str, tuple[bytes, bool]]
RNG = np.random.default_rng


# ---- Parquet

MODALITIES = {"a": Modality(kind="vector", shape=[3]), "b": Modality(kind="image", shape=[1, 2, 2])}


def split_columns(n: int = 6) -> list[pa.Array]:
    a = pa.array(RNG(0).random(3 * n, dtype=np.float32))
    b = pa.array(RNG(1).integers(0, 256, 4 * n, dtype=np.uint8))
    return [
        pa.array([f"id{i}" for i in range(n)]),
        pa.array(np.arange(n) % 2),
        pa.FixedSizeListArray.from_arrays(a, 3),
        pa.FixedSizeListArray.from_arrays(b, 4),
    ]


def split_layout() -> pa.Schema:
    return table.schema("toy", "train", MODALITIES, ["x", "y"], "none", {"a": ["p", "q", "r"]})


def as_split(columns: list[pa.Array], layout: pa.Schema) -> pa.Table:
    fields = [f.with_type(c.type).with_nullable(c.null_count > 0) for f, c in zip(layout, columns, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=layout.metadata))


def write_sealed_split(folder: Path) -> Path:
    path = folder / "train.parquet"
    write_parquet(as_split(split_columns(), split_layout()), path, dictionary=["label"])
    write_json(folder / "datasheet.json", {"prepared": {"train": sha256_of(path)}})
    return path


def write_bare_split(folder: Path) -> Path:
    path = folder / "train.parquet"
    write_parquet(as_split(split_columns(), split_layout()), path, dictionary=["label"])
    return path


def read_split(path: Path, out: Path) -> Any:
    loaded = load_split(path)
    check_prepared(path)
    inputs = {name: x.numpy() for name, x in loaded.inputs.items()}
    return [loaded.ids, loaded.labels.numpy(), inputs, loaded.classes, str(loaded.modalities)]


def parquet_bytes(content: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(content, buffer, compression="zstd", **options)
    return buffer.getvalue()


def crafted_splits(raw: bytes) -> Crafted:
    """Well-formed Parquet that is not what `prepare` writes."""
    layout, columns = split_layout(), split_columns()
    key = table.METADATA_KEY
    described = json.loads(layout.metadata[key])

    def changed(k: int, column: pa.Array) -> bytes:
        return parquet_bytes(as_split([*columns[:k], column, *columns[k + 1 :]], layout))

    def told(text: bytes) -> bytes:
        return parquet_bytes(as_split(columns, layout.with_metadata({key: text})))

    def vector(values: list[float]) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), 3)

    huge_shape = described | {"modalities": {"a": {"kind": "vector", "shape": [10**12]}, "b": {"kind": "text"}}}
    out = {
        "no metadata": parquet_bytes(as_split(columns, layout.remove_metadata())),
        "metadata not JSON": told(b"{"),
        "metadata not UTF-8": told(b'{"dataset": "\xff"}'),
        "metadata a list": told(b"[]"),
        "metadata nested": told(b"[" * 100_000),
        "metadata with a key twice": told(b'{"classes": ["x"], ' + json.dumps(described).encode()[1:]),
        "metadata without classes": told(json.dumps({k: v for k, v in described.items() if k != "classes"}).encode()),
        "a huge shape": told(json.dumps(huge_shape).encode()),
        "NaN": changed(2, vector([float("nan")] + [0.0] * 17)),
        "infinity": changed(2, vector([float("inf")] + [0.0] * 17)),
        "labels as text": changed(1, pa.array(list("010101"))),
        "labels as float": changed(1, pa.array([0.0, 1.0] * 3)),
        "labels of no class": changed(1, pa.array([0, 1, 2, 0, 1, 2])),
        "a negative label": changed(1, pa.array([0, -1, 0, 1, 0, 1])),
        "ids as numbers": changed(0, pa.array(range(6))),
        "a null id": changed(0, pa.array(["a", None, "c", "d", "e", "f"])),
        "a null label": changed(1, pa.array([0, None, 0, 1, 0, 1])),
        "another width": changed(2, pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(24, np.float32)), 4)),
        "another type": changed(2, pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(18)), 3)),
        "a column missing": parquet_bytes(as_split(columns, layout).drop_columns(["b"])),
        "a column more": parquet_bytes(as_split(columns, layout).append_column("c", pa.array(range(6)))),
        "a column twice": parquet_bytes(as_split(columns, layout).append_column("a", columns[2])),
        "footer length beyond the file": raw[:-8] + (10**9).to_bytes(4, "little") + b"PAR1",
        "magic alone": b"PAR1PAR1",
        "a csv": b"id,label\na,0\n",
    }
    return {name: (content, True) for name, content in out.items()}


def toy_cell(kind: str) -> CellConfig:
    stage = Stage(epochs=2, batch_size="full", optimizer=Optimizer(lr=0.1))
    return CellConfig(
        dataset="toy",
        method="m3col",
        variant="base",
        implementation="m3col",
        modalities=MODALITIES,
        classes=["x", "y"],
        metrics=["acc"],
        objective={},
        model=Model(width=4, encoder_hidden=[], head_hidden=[]),
        pretrain=stage if kind == "embeddings" else None,
        finetune=None if kind == "embeddings" else stage,
        selection=Selection(holdout=0.2),
        seeds=[0, 1],
        engine=Engine(),
    )


def outputs(kind: str, n: int = 4) -> pa.Table:
    """predictions or embeddings of the cell above."""
    parts = []
    for seed in (0, 1):
        for split in ("train", "val", "test") if kind == "embeddings" else ("val", "test"):
            for epoch in (1,):
                values = RNG([seed, epoch]).random((n, 2)).astype(np.float32)
                if kind == "predictions":
                    values[:, 1] = 1 - values[:, 0]
                stored = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 2)
                keys = {"seed": pa.array([seed] * n)} | (
                    {"epoch": pa.array([epoch] * n)} if kind != "embeddings" else {}
                )
                ids = pa.array([f"{split}{i}" for i in range(n)])
                label = pa.array(np.arange(n) % 2)
                name = "embedding" if kind == "embeddings" else "probs"
                parts.append(pa.table({**keys, "split": [split] * n, "id": ids, "label": label, name: stored}))
    return pa.concat_tables(parts).combine_chunks()


def crafted_outputs(kind: str, raw: bytes) -> Crafted:
    content = outputs(kind)
    name = content.column_names[-1]

    def swap(column: str, values: Any) -> bytes:
        return parquet_bytes(content.set_column(content.column_names.index(column), column, values))

    n = len(content)
    bad = np.full(2 * n, np.nan, np.float32)
    flat = pa.array(np.zeros(2 * n, np.float32))
    out = {
        "no rows": parquet_bytes(content.slice(0, 0)),
        "NaN": swap(name, pa.FixedSizeListArray.from_arrays(pa.array(bad), 2)),
        "float64": swap(name, pa.FixedSizeListArray.from_arrays(flat.cast(pa.float64()), 2)),
        "lists of any length": swap(name, pa.array([[0.5, 0.5]] * n, pa.list_(pa.float32()))),
        "text": swap(name, pa.array(["0.5"] * n)),
        "labels as text": swap("label", pa.array(["0"] * n)),
        "labels of no class": swap("label", pa.array([7] * n)),
        "seeds as float": swap("seed", pa.array([0.0] * n)),
        "another seed": swap("seed", pa.array([5] * n)),
        "another split": swap("split", pa.array(["dev"] * n)),
        "a null": swap("id", pa.array([None] * n, pa.string())),
        "one id": swap("id", pa.array(["same"] * n)),
        "a column twice": parquet_bytes(content.append_column("id", content["id"])),
        "a column missing": parquet_bytes(content.drop_columns(["label"])),
        "footer length beyond the file": raw[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
    }
    return {what: (data, True) for what, data in out.items()}


def write_outputs(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.parquet"
    write_parquet(outputs(kind), path)
    return path


def read_outputs(kind: str, path: Path, out: Path) -> Any:
    reader = {"predictions": read_predictions, "embeddings": read_embeddings}[kind]
    found: dict[Any, Any] = reader(path, toy_cell(kind))
    return {f"{seed} {split}": vars(value) for (seed, split), value in found.items()}


def write_metrics(folder: Path) -> Path:
    rows = [(s, "selected", "test", "acc", 0.5 + s / 10, 4, 1) for s in (0, 1)]
    path = folder / "metrics.parquet"
    frame = pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row")
    write_parquet(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), path)
    return path


def read_metrics(path: Path, out: Path) -> Any:
    frame = read_table(path, METRICS_SCHEMA, "mmcontrast evaluate toy/m3col/base")
    return frame.to_dict(as_series=False)


# ---- raw files: a manifest's checksum stands before each reader

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


PICKLED = {"x": RNG(0).random((4, 3)), "names": ["p", "q"], "n": 3, "nested": {"y": np.arange(4)}}


class _Shell:
    def __init__(self, *words: Any) -> None:
        self.words = words

    def __reduce__(self) -> Any:
        return self.words


def crafted_pickles(raw: bytes) -> Crafted:
    import os

    marker = "touch hostile-was-here"
    deep = b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b"."
    tuples = b"\x80\x04K\x01" + b"2\x86" * 60 + b"}" + b"."
    hashed = b"\x80\x04}K\x01" + b"2\x86" * 60 + b"K\x01s."
    shape = pickle.dumps(np.zeros(4), 2).replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85")
    out = {
        "a command": pickle.dumps(_Shell(os.system, (marker,))),
        "eval": pickle.dumps(_Shell(eval, ("__import__('os').system('" + marker + "')",))),
        "a function of numpy": pickle.dumps(_Shell(np.fromfile, ("/etc/passwd", "u1"))),
        "a file of numpy": b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
        "a global": b"cos\nsystem\n.",
        "a dotted name": pickle.dumps(np.zeros(1), 4).replace(b"_reconstruct", b"_reconstrucT"),
        "an old class": b"(S'touch x'\nios\nsystem\n.",
        "a class by its number": b"\x80\x02\x82\x01.",
        "a persistent name": b"Pfile\n.",
        "nested lists": deep,
        "a tuple of itself": b"\x80\x04]\x94(h\x00h\x00e\x85\x94h\x01\x86\x86" + b"0" * 3 + b".",
        "tuples of tuples, too many values": tuples,
        "tuples of tuples as a key": hashed,
        "a memo beyond memory": b"\x80\x04Nr\xff\xff\xff\x7f0.",
        "a text beyond the file": b"\x80\x04X\xff\xff\xff\x7fabc.",
        "bytes beyond the file": b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"abc.",
        "a frame beyond the file": b"\x80\x04\x95" + (2**60).to_bytes(8, "little"),
        "a shape that lies": shape,
        "an array of objects": pickle.dumps(np.array([1, "a", None], dtype=object)),
        "an array with fields": pickle.dumps(np.zeros(2, dtype=[("a", "i4"), ("b", "f4")])),
        "an empty stack": b"\x80\x04.",
        "no end": b"\x80\x04K\x01",
        "an unknown instruction": b"\x80\x04\xff.",
        "a list without a mark": b"\x80\x04]K\x01e.",
        "a call of data": b"\x80\x04K\x01)R.",
        "a state for data": b"\x80\x04]K\x01b.",
        "a digit too many": b"I" + b"9" * 10_000 + b"\n.",
        "torch's own": _torch_bytes(),
    }
    return {name: (data, True) for name, data in out.items()}


def _torch_bytes() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, buffer)
    return buffer.getvalue()


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def zip_of(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, data in members:
                archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, compression)
    return buffer.getvalue()


def npy_of(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def crafted_npz(raw: bytes) -> Crafted:
    objects = io.BytesIO()
    np.save(objects, np.array([1, None], dtype=object), allow_pickle=True)
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    negative = b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n"
    out = {
        "an array of objects": zip_of([("x.npy", objects.getvalue())]),
        "a shape beyond memory": zip_of([("x.npy", npy(huge, bytes(64)))]),
        "a negative shape": zip_of([("x.npy", npy(negative, bytes(8)))]),
        "code in the header": zip_of([("x.npy", npy(b"__import__('os').system('touch hostile-was-here')\n"))]),
        "a header beyond its member": zip_of([("x.npy", b"\x93NUMPY\x01\x00\xff\xff{}")]),
        "a nested header": zip_of([("x.npy", npy(b"(" * 9000 + b")" * 9000))]),
        "no npy": zip_of([("x.npy", b"text")]),
        "a name twice": zip_of([("x.npy", npy_of(np.zeros(2))), ("x.npy", npy_of(np.ones(2)))]),
        "an array too short": zip_of([("x.npy", npy_of(np.zeros(4))[:-8])]),
        "an array too long": zip_of([("x.npy", npy_of(np.zeros(4)) + bytes(8))]),
        "a bomb": zip_of([("x.npy", npy_of(np.zeros(2_000_000)))]),
        "a npy alone": npy_of(np.zeros(2)),
        "a member that understates": raw.replace(struct.pack("<I", len(npy_of(np.arange(6.0)))), struct.pack("<I", 9)),
    }
    return {name: (data, True) for name, data in out.items()}


# ---- archives

MEMBERS = {"data/a.csv": b"1,2\n" * 50, "data/b.csv": b"3,4\n" * 20}


def wheel_bytes() -> bytes:
    return zip_of(list(MEMBERS.items()))


def read_wheel(path: Path, out: Path) -> Any:
    return {name: file.read_bytes() for name, file in extract_wheel(path, list(MEMBERS), out).items()}


def crafted_wheels(raw: bytes) -> Crafted:
    def with_mode(mode: int, data: bytes = b"/etc/passwd") -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            info = zipfile.ZipInfo("data/a.csv")
            info.external_attr = mode << 16
            archive.writestr(info, data)
            archive.writestr("data/b.csv", b"3,4\n")
        return buffer.getvalue()

    outside = [("../evil.txt", b"x"), ("/tmp/hostile-was-here", b"x"), ("a/../../evil.txt", b"x"), ("..\\evil", b"x")]
    size = (200).to_bytes(4, "little")
    bomb = zip_of([("data/a.csv", bytes(3_000_000)), ("data/b.csv", b"x")])
    out = {
        "a symbolic link": (with_mode(stat.S_IFLNK | 0o777), True),
        "a device": (with_mode(stat.S_IFCHR | 0o666), True),
        "a pipe": (with_mode(stat.S_IFIFO | 0o666), True),
        "a folder of the name": (zip_of([("data/a.csv/", b""), ("data/b.csv", b"x")]), True),
        "a member missing": (zip_of([("data/a.csv", b"x")]), True),
        "a member twice": (zip_of([*MEMBERS.items(), ("data/a.csv", b"9,9\n")]), True),
        "members that lead out": (zip_of([*MEMBERS.items(), *outside]), False),
        "a size too small": (raw.replace(size, (10).to_bytes(4, "little")), True),
        "a size too large": (raw.replace(size, (2**32 - 2).to_bytes(4, "little")), True),
        "a bomb": (bomb, True),
        "a bomb that lies": (bomb.replace((3_000_000).to_bytes(4, "little"), (300).to_bytes(4, "little")), True),
        "encrypted": (_flagged(raw, 0x1), True),
        "an unknown compression": (raw.replace(b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x63\x00"), True),
        "a comment beyond the end": (raw[:-2] + b"\xff\xff", False),
        "a directory elsewhere": (raw[:-6] + b"\xff\xff\xff\x7f" + raw[-2:], True),
        "too many entries": (raw[:-14] + b"\xff\xff\xff\xff" + raw[-10:], False),
        "tar": (tar_bytes(), True),
    }
    return out


def _flagged(raw: bytes, bit: int) -> bytes:
    out = bytearray(raw)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(magic)
        while at >= 0:
            out[at + offset] |= bit
            at = raw.find(magic, at + 4)
    return bytes(out)


def tar_bytes(
    extra: list[tuple[tarfile.TarInfo, bytes]] | None = None, members: dict[str, bytes] | None = None, level: int = 9
) -> bytes:
    """An npm tarball."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tarball:
        for name, data in (MEMBERS if members is None else members).items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tarball.addfile(info, io.BytesIO(data))
        for info, data in extra or []:
            tarball.addfile(info, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), level, mtime=0)


def read_npm(path: Path, out: Path) -> Any:
    return {name: file.read_bytes() for name, file in extract_npm(path, list(MEMBERS), out).items()}


def crafted_tarballs(raw: bytes) -> Crafted:
    def entry(name: str, kind: bytes, target: str = "", data: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, target, len(data)
        return info, data

    def instead(kind: bytes, target: str = "") -> bytes:
        return tar_bytes([entry("package/data/a.csv", kind, target)], {"data/b.csv": b"3,4\n"})

    def header(change: dict[int, bytes]) -> bytes:
        """The valid tarball with bytes of its first header changed, and its checksum made right."""
        plain = bytearray(gzip.decompress(raw))
        for at, data in change.items():
            plain[at : at + len(data)] = data
        plain[148:156] = b" " * 8
        plain[148:156] = f"{sum(plain[:512]):06o}\0 ".encode()
        return gzip.compress(bytes(plain), mtime=0)

    plain = gzip.decompress(raw)
    outside = [entry(n, tarfile.REGTYPE, data=b"x") for n in ("../evil", "/tmp/hostile-was-here", "package/../../evil")]
    links = [
        entry("package/data", tarfile.SYMTYPE, "/tmp"),
        entry("package/link", tarfile.SYMTYPE, "../../.."),
        entry("package/link/evil", tarfile.REGTYPE, data=b"x"),
    ]
    return {
        "a symbolic link": (instead(tarfile.SYMTYPE, "/etc/passwd"), True),
        "a hard link": (instead(tarfile.LNKTYPE, "package/data/b.csv"), True),
        "a device": (instead(tarfile.CHRTYPE), True),
        "a block device": (instead(tarfile.BLKTYPE), True),
        "a pipe": (instead(tarfile.FIFOTYPE), True),
        "a folder": (instead(tarfile.DIRTYPE), True),
        "a member missing": (tar_bytes(members={"data/a.csv": b"x"}), True),
        "a member twice": (tar_bytes([entry("package/data/a.csv", tarfile.REGTYPE, data=b"9,9\n")]), True),
        "members that lead out": (tar_bytes(outside), False),
        "links beside the members": (tar_bytes(links), False),
        "a size beyond the file": (header({124: b"77777777777\0"}), True),
        "a size in base 256": (header({124: b"\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"}), True),
        "a negative size": (header({124: b"\xff" * 12}), True),
        "a sparse file": (header({156: b"S", 386: b"00000000000\0" * 8, 483: b"77777777777\0"}), True),
        "a long name beyond memory": (header({156: b"L", 124: b"17777777777\0"}), True),
        "attributes beyond memory": (header({156: b"x", 124: b"17777777777\0"}), True),
        "a bomb": (tar_bytes(members={"data/a.csv": bytes(3_000_000), "data/b.csv": b"x"}), True),
        "a bomb beside the members": (tar_bytes([entry("package/z", tarfile.REGTYPE, data=bytes(9_000_000))]), True),
        "zeros after the end": (gzip.compress(plain + bytes(9_000_000), mtime=0), True),
        "a wrong checksum at the end": (raw[:-8] + bytes(4) + raw[-4:], True),
        "a second stream that is broken": (raw + b"\x1f\x8b\x08broken", True),
        "not packed": (plain, True),
        "a zip": (wheel_bytes(), True),
    }


# ---- text for machines

MANIFEST_FILE = "raw.csv"


def write_manifest(folder: Path) -> Path:
    write_raw(folder / MANIFEST_FILE, CSV.encode())
    return folder / "manifest.json"


def read_manifest(path: Path, out: Path) -> Any:
    sha256 = hashlib.sha256(CSV.encode()).hexdigest()
    return verified_manifest("toy", dataset_of(MANIFEST_FILE, sha256), path.parent)


BAD_JSON = {
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "nested lists": b"[" * 200_000,
    "nested mappings": b'{"a":' * 200_000,
    "not UTF-8": b'{"files": "\xff"}',
    "UTF-16": '{"files": {}}'.encode("utf-16"),
    "NaN": b'{"files": NaN, "sources": []}',
    "infinity": b'{"seconds": Infinity}',
    "a NUL": b'{"files": {"a\x00": ""}}',
    "a key twice": b'{"files": {}, "files": {}, "sources": []}',
    "a number of many digits": b'{"files": ' + b"9" * 10_000 + b"}",
    "a comma too many": b'{"files": {},}',
    "a web page": b"<!doctype html>",
}


def crafted_manifests(raw: bytes) -> Crafted:
    manifest = json.loads(raw)
    (name, sha256), *_ = manifest["files"].items()

    def told(**over: Any) -> bytes:
        return json.dumps(manifest | over).encode()

    source = manifest["sources"][0]
    out = {
        **BAD_JSON,
        "files a list": told(files=[name]),
        "files a list of pairs": told(files=[[1, 2]]),
        "checksums numbers": told(files={name: 1}),
        "no files": told(files={}),
        "files that lead out": told(files={name: sha256, "../../evil": sha256}),
        "an absolute file": told(files={name: sha256, "/etc/passwd": sha256}),
        "a NUL in a name": told(files={name: sha256, "a\0b": sha256}),
        "sources a mapping": told(sources={"source": "x"}),
        "sources of words": told(sources=["source"]),
        "another source": told(sources=[source | {"source": "http://127.0.0.1:9/raw/other.csv"}]),
        "another checksum": told(sources=[source | {"sha256": "0" * 64}]),
        "pinned a word": told(sources=[source | {"pinned": "yes"}]),
        "no pinned": told(sources=[{k: v for k, v in source.items() if k != "pinned"}]),
        "a list as source": told(sources=[source | {"source": ["x"]}]),
    }
    return {what: (data, True) for what, data in out.items()}


def write_cost(folder: Path) -> Path:
    write_json(folder / "cost.json", {"seconds": 1.5, "seeds": 2})
    return folder / "cost.json"


def write_first_use(folder: Path) -> Path:
    cache = Cache(folder)
    cache.remember("toy", "0" * 64)
    return cache.record("toy")


def read_first_use(path: Path, out: Path) -> Any:
    return Cache(path.parents[1]).first_use("toy")


YAML = b"title: Toy\nrows: 3\nlist: [1, 2.5, x]\nnested: {a: {b: null}}\n"


def crafted_yaml(raw: bytes) -> Crafted:
    laughs = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}' if i else 'x'] * 9)}]" for i in range(9))
    out = {
        "aliases of aliases": laughs.encode(),
        "one alias": b"a: &x 1\nb: *x\n",
        "an alias of itself": b"a: &x [*x]\n",
        "merged mappings": b"a: &x {b: 1}\nc: {<<: *x}\n",
        "nested lists": b"a: " + b"[" * 20_000,
        "nested mappings": b"a: " + b"{a: " * 20_000,
        "nested blocks": "".join(" " * i + "a:\n" for i in range(600)).encode(),
        "an object of Python": b"a: !!python/object/apply:os.system ['touch hostile-was-here']\n",
        "a name of Python": b"a: !!python/name:os.system\n",
        "an unknown tag": b"a: !thing 1\n",
        "not UTF-8": b"title: \xff\n",
        "UTF-16": "title: a\n".encode("utf-16"),
        "a NUL": b"title: a\x00b\n",
        "an escape": b"title: \x1b[2J\n",
        "a tab": b"a:\n\tb: 1\n",
        "a key twice": b"a: 1\na: 2\n",
        "a key twice, below": b"a: {b: 1, b: 2}\n",
        "a list as key": b"? [a, b]\n: 1\n",
        "a mapping as key": b"{a: 1}: 2\n",
        "NaN": b"a: .nan\n",
        "infinity": b"a: -.inf\n",
        "beyond float64": b"a: 1.0e+999\n",
        "no date": b"a: 2024-13-45\n",
        "no number": b"a: !!int x\n",
        "no boolean": b"a: !!bool x\n",
        "no date by its tag": b"a: !!timestamp x\n",
        "nested dashes": b"a: " + b"- " * 50_000 + b"\n",
        "nested questions": b"? " * 50_000 + b"\n",
        "a number of many digits": b"a: " + b"9" * 10_000 + b"\n",
        "two documents": b"a: 1\n---\nb: 2\n",
        "a list": b"- a\n",
        "a word": b"words\n",
        "comments alone": b"# nothing\n",
        "too large": b"a: " + b"x" * 300_000 + b"\n",
        "a bracket open": b"a: [1, 2\n",
    }
    return {name: (data, True) for name, data in out.items()}


# ---- weights

WEIGHTS = {"layer.weight": torch.arange(12.0).reshape(4, 3), "layer.bias": torch.ones(4), "steps": torch.tensor(7)}


def write_tensors(folder: Path) -> Path:
    write_weights(folder / "seed0.safetensors", WEIGHTS, {"epoch": 1})
    return folder / "seed0.safetensors"


def read_tensors(path: Path, out: Path) -> Any:
    return {name: w.numpy() for name, w in sorted(read_weights(path, "pretrain again").items())}


def crafted_weights(raw: bytes) -> Crafted:
    (size,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]

    def told(change: dict[str, Any], text: bytes | None = None) -> bytes:
        body = json.dumps(header | change).encode() if text is None else text
        return struct.pack("<Q", len(body)) + body + data

    weight = header["layer.weight"]
    out = {
        "a header beyond the file": struct.pack("<Q", 2**62) + raw[8:],
        "a header of 100 MB and more": struct.pack("<Q", 100_000_001) + raw[8:],
        "a header of nothing": struct.pack("<Q", 0) + raw[8:],
        "a shape beyond the file": told({"layer.weight": weight | {"shape": [2**40, 3]}}),
        "a shape that overflows": told({"layer.weight": weight | {"shape": [2**33, 2**33]}}),
        "offsets beyond the file": told({"layer.weight": weight | {"data_offsets": [0, 2**40]}}),
        "offsets that overlap": told({"layer.bias": weight}),
        "offsets in reverse": told({"layer.weight": weight | {"data_offsets": [48, 0]}}),
        "an unknown type": told({"layer.weight": weight | {"dtype": "F13"}}),
        "another type of the size": told({"layer.weight": weight | {"dtype": "I32"}}),
        "another shape of the size": told({"layer.weight": weight | {"shape": [3, 4]}}),
        "another name": told(
            {"layer.w": weight}, json.dumps({k.replace("layer.weight", "w"): v for k, v in header.items()}).encode()
        ),
        "nested": told({}, b"[" * 100_000),
        "not UTF-8": told({}, b'{"\xff": 1}'),
        "no checksum": told({"__metadata__": {"mmcontrast": "{}"}}),
        "no metadata": told({"__metadata__": {}}),
        "metadata not JSON": told({"__metadata__": {"mmcontrast": "{"}}),
        "metadata a list": told({"__metadata__": {"mmcontrast": "[]"}}),
        "torch's pickle": _torch_bytes(),
    }
    return {name: (content, True) for name, content in out.items()}


FORMATS: dict[str, Format] = {
    "Parquet, prepared": Format(write_sealed_split, read_split),
    "Parquet, another table": Format(write_bare_split, read_split, crafted_splits, sealed=False),
    "Parquet, predictions": Format(
        lambda f: write_outputs("predictions", f),
        lambda p, o: read_outputs("predictions", p, o),
        lambda raw: crafted_outputs("predictions", raw),
    ),
    "Parquet, embeddings": Format(
        lambda f: write_outputs("embeddings", f),
        lambda p, o: read_outputs("embeddings", p, o),
        lambda raw: crafted_outputs("embeddings", raw),
    ),
    "Parquet, metrics": Format(write_metrics, read_metrics),
    "csv, fetched": Format(lambda f: write_raw(f / "x.csv", CSV.encode()), lambda p, o: read_csv(verified(p), o)),
    "csv, as published": Format(lambda f: _bytes(f / "x.csv", CSV.encode()), read_csv, crafted_csv, sealed=False),
    "wheel": Format(lambda f: _bytes(f / "x.whl", wheel_bytes()), read_wheel, crafted_wheels),
    "tarball": Format(lambda f: _bytes(f / "x.tgz", tar_bytes()), read_npm, crafted_tarballs),
    "MATLAB, fetched": Format(lambda f: write_raw(f / "x.mat", mat_bytes()), lambda p, o: read_matlab(verified(p), o)),
    "MATLAB": Format(lambda f: _bytes(f / "x.mat", mat_bytes()), read_matlab, crafted_mat, sealed=False),
    "npz": Format(
        lambda f: _bytes(f / "x.npz", zip_of([("x.npy", npy_of(np.arange(6.0)))])),
        lambda p, o: read_npz(p),
        crafted_npz,
    ),
    "pickle, fetched": Format(
        lambda f: write_raw(f / "x.pkl", pickle.dumps(PICKLED, 4)), lambda p, o: read_pickle(verified(p))
    ),
    "pickle": Format(
        lambda f: _bytes(f / "x.pkl", pickletools.optimize(pickle.dumps(PICKLED, 4))),
        lambda p, o: read_pickle(p),
        crafted_pickles,
        sealed=False,
    ),
    "safetensors": Format(write_tensors, read_tensors, crafted_weights),
    "JSON, manifest": Format(write_manifest, read_manifest, crafted_manifests),
    "JSON, cost and data sheets": Format(
        write_cost,
        lambda p, o: read_json(p, "mmcontrast finetune toy"),
        lambda raw: {name: (data, True) for name, data in BAD_JSON.items()},
        sealed=False,
    ),
    "JSON, first use": Format(
        write_first_use,
        read_first_use,
        lambda raw: (
            {name: (data, True) for name, data in BAD_JSON.items()}
            | {"a short checksum": (b'{"sha256": "00"}', True), "a path": (b'{"sha256": "../../evil"}', True)}
        ),
        sealed=False,
    ),
    "YAML": Format(lambda f: _bytes(f / "x.yaml", YAML), lambda p, o: read_yaml(p), crafted_yaml, sealed=False),
}


def _bytes(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path

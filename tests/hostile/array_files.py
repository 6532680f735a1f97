"""Pickles, npz and safetensors of the corpus."""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from mmcontrast.exported import read_weights
from tests.hostile.corpus import Crafted

RNG = np.random.default_rng

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


WEIGHTS = {"layer.weight": torch.arange(12.0).reshape(4, 3), "layer.bias": torch.ones(4), "steps": torch.tensor(7)}


def write_tensors(folder: Path) -> Path:
    save_file(WEIGHTS, folder / "seed0.safetensors", {"mmcontrast": "{}"})
    return folder / "seed0.safetensors"


def read_tensors(path: Path, out: Path) -> Any:
    return {name: w.numpy() for name, w in sorted(read_weights(path).items())}


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
        "nested": told({}, b"[" * 100_000),
        "not UTF-8": told({}, b'{"\xff": 1}'),
        "torch's pickle": _torch_bytes(),
    }
    return {name: (content, True) for name, content in out.items()}

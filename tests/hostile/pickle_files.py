"""Pickles of the corpus."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import torch

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

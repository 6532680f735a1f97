"""Arrays and sparse matrices out of a pickle's own words for them: a type, a shape and raw bytes.

What a pickle calls is only noted; `finish` makes the values, each from bytes that were in the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse

PLAIN_DTYPE = re.compile(r"[|<>=]?(b1|\?|[iu][1248]|f[248]|c(8|16)|[SUV][0-9]{1,9})")
SPARSE = {name: getattr(scipy.sparse, name) for name in ("csr_matrix", "csc_matrix", "csr_array", "csc_array")}
MAX_DEPTH = 200


@dataclass(frozen=True)
class Global:
    """A name that is accepted, as yet uncalled."""

    name: str


@dataclass
class Delayed:
    """A call that is carried out in the end. `state` is what the pickle sets afterwards."""

    kind: str
    arguments: tuple[Any, ...]
    state: Any = field(default=None)


_NUMPY = ("numpy.core", "numpy._core")
GLOBALS: dict[str, Global] = {
    **{f"{m}.multiarray._reconstruct": Global("array") for m in _NUMPY},
    **{f"{m}.multiarray.scalar": Global("scalar") for m in _NUMPY},
    **{f"{m}.numeric._frombuffer": Global("frombuffer") for m in _NUMPY},
    "numpy.ndarray": Global("ndarray"),
    "numpy.dtype": Global("dtype"),
    "_codecs.encode": Global("encode"),
    "__builtin__.bytes": Global("bytes"),
    "collections.OrderedDict": Global("ordered"),
    "builtins.set": Global("set"),
    "__builtin__.set": Global("set"),
    "builtins.frozenset": Global("frozenset"),
    "__builtin__.frozenset": Global("frozenset"),
    "copyreg._reconstructor": Global("object"),
    "copy_reg._reconstructor": Global("object"),
    "builtins.object": Global("base"),
    "__builtin__.object": Global("base"),
    **{
        f"scipy.sparse.{module}{short}.{name}": Global(name)
        for name in SPARSE
        for short in (name[:3],)
        for module in ("", "_")
    },
}


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in another encoding than latin1")
    return text.encode("latin-1")


def _object(cls: Any, base: Any = None, state: Any = None) -> Delayed:
    return _sparse(cls)


def _sparse(cls: Any) -> Delayed:
    if not isinstance(cls, Global) or cls.name not in SPARSE:
        raise ValueError("an object of a class that is not accepted")
    return Delayed(cls.name, ())


def _set(values: Any = ()) -> set[Any]:
    if not isinstance(values, list | tuple) or not all(isinstance(v, str | int | float | bytes) for v in values):
        raise ValueError("a set of something else than scalars")
    return set(values)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    if pairs not in ((), []):
        raise ValueError("an OrderedDict given pairs")
    return {}


def _refuse(*_: Any) -> Any:
    raise ValueError("a class is called that only arrays are made from")


def _delay(kind: str) -> Callable[..., Delayed]:
    return lambda *arguments: Delayed(kind, arguments)


CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "array": _delay("array"),
    "scalar": _delay("scalar"),
    "frombuffer": _delay("frombuffer"),
    "dtype": _delay("dtype"),
    "encode": _encode,
    # how protocol 2 writes no bytes at all
    "bytes": lambda: b"",
    "ordered": _ordered,
    "set": _set,
    "frozenset": lambda values=(): frozenset(_set(values)),
    "object": _object,
    "ndarray": _refuse,
    "base": _refuse,
    **{name: _delay(name) for name in SPARSE},
}


def finish(value: Any) -> Any:
    """The value with every noted call carried out; a value that occurs twice is made once.

    Raises:
        ValueError: an array does not fit its bytes, or is of a type that is not plain. RecursionError: too deep.
    """
    return _finish(value, {}, 0)


def _finish(value: Any, done: dict[int, Any], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise RecursionError
    if id(value) in done:
        return done[id(value)]
    out: Any = value
    if isinstance(value, Global):
        raise ValueError(f"the class {value.name} itself, where a value is expected")
    if type(value) is list:
        out = done[id(value)] = []
        out.extend(_finish(v, done, depth + 1) for v in value)
    elif type(value) is dict:
        out = done[id(value)] = {}
        out.update((k, _finish(v, done, depth + 1)) for k, v in value.items())
    elif type(value) is tuple:
        out = tuple(_finish(v, done, depth + 1) for v in value)
    elif isinstance(value, Delayed):
        out = MAKERS[value.kind](value, done, depth)
    done[id(value)] = out
    return out


def _dtype(noted: Any) -> np.dtype[Any]:
    """A plain type. Its state says only the byte order; one with fields or a width of its own is not plain."""
    if not isinstance(noted, Delayed) or noted.kind != "dtype":
        raise ValueError("an array without a type")
    spec = noted.arguments[0]
    if not isinstance(spec, str) or not PLAIN_DTYPE.fullmatch(spec):
        raise ValueError(f"an array of type {spec!r}; numbers, booleans and texts are accepted")
    out: np.dtype[Any] = np.dtype(spec)
    if noted.state is not None:
        order, fields = noted.state[1], noted.state[2:5]
        if order not in ("<", ">", "=", "|") or any(f is not None for f in fields):
            raise ValueError("an array of a type with fields")
        out = out if order == "|" else out.newbyteorder(order)
    return out


def _from_bytes(raw: Any, dtype: np.dtype[Any], shape: Any, fortran: Any) -> np.ndarray:
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes | bytearray):
        raise ValueError("an array of objects; numbers, booleans and texts are accepted")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array of shape {shape!r}")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} and type {dtype} in {len(raw)} bytes")
    return np.frombuffer(bytearray(raw), dtype).reshape(shape, order="F" if fortran else "C")


def _make_array(noted: Delayed, done: dict[int, Any], depth: int) -> np.ndarray:
    _, shape, dtype, fortran, raw = noted.state
    return _from_bytes(raw, _dtype(dtype), shape, fortran)


def _make_frombuffer(noted: Delayed, done: dict[int, Any], depth: int) -> np.ndarray:
    raw, dtype, shape, order = noted.arguments
    return _from_bytes(raw, _dtype(dtype), shape, order == "F")


def _make_scalar(noted: Delayed, done: dict[int, Any], depth: int) -> Any:
    dtype, raw = noted.arguments
    return _from_bytes(raw, _dtype(dtype), (), False)[()]


def _make_sparse(noted: Delayed, done: dict[int, Any], depth: int) -> Any:
    state = _finish(noted.state, done, depth + 1)
    arrays = [state[key] for key in ("data", "indices", "indptr")]
    shape = state.get("_shape", state.get("shape"))
    if not all(isinstance(a, np.ndarray) and a.ndim == 1 for a in arrays) or not isinstance(shape, tuple):
        raise ValueError("a sparse matrix without its three arrays and its shape")
    out = SPARSE[noted.kind](tuple(arrays), shape=shape)
    out.check_format(full_check=True)
    return out


def _make_dtype(noted: Delayed, done: dict[int, Any], depth: int) -> np.dtype[Any]:
    return _dtype(noted)


MAKERS: dict[str, Callable[[Delayed, dict[int, Any], int], Any]] = {
    "array": _make_array,
    "frombuffer": _make_frombuffer,
    "scalar": _make_scalar,
    "dtype": _make_dtype,
    **dict.fromkeys(SPARSE, _make_sparse),
}

"""Pickles of the papers' data sets, read without running anything in them.

A pickle is a program. Python's own reader carries it out, in the version that is written in Python, and here it knows
no function but the few below, which build plain values and numpy arrays. An array becomes one from its raw bytes, so
that none is larger than the file. Protocols 0 to 5, in one piece (no out-of-band buffers).
"""

import math
import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmcontrast.errors import DataError

MAX_PICKLE_BYTES = 16 * 1024**3  # UR-FUNNY's features are 2.5 GB in float32, and twice that in float64
MAX_INSTRUCTIONS = 5_000_000
MAX_DEPTH = 200
BROKEN = (
    *(pickle.UnpicklingError, EOFError, struct.error, RecursionError, MemoryError),
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError),
)
KEYS = (str, bytes, int, float, bool, type(None))
PLAIN_DTYPE = re.compile(r"[|<>=]?(b1|\?|[iu][1248]|f[248]|c(8|16)|[SUV][0-9]{1,9})")


def read_pickle(path: Path, most: int | None = None) -> Any:
    """What a pickle holds: None, numbers, strings, bytes, lists, tuples, dicts, sets and arrays.

    Raises DataError: missing, damaged, larger than MAX_PICKLE_BYTES, of more instructions than `most` (default:
    MAX_INSTRUCTIONS; a number in a list is one), or it names anything else; says what.
    """
    try:
        size = path.stat().st_size
        if size > MAX_PICKLE_BYTES:
            raise DataError(f"{path}: {size} bytes, and at most {MAX_PICKLE_BYTES} are read")
        with path.open("rb") as file:
            value = _Reader(file, most or MAX_INSTRUCTIONS).load()
            _check(value, set(), 0)
            return value
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `sources` of the dataset's file has to name it too") from None
    except BROKEN as e:
        reason = "nested too deeply" if isinstance(e, RecursionError) else str(e) or type(e).__name__
        raise DataError(f"{path}: not a pickle of plain data ({reason.splitlines()[0]})") from None


def _check(value: Any, seen: set[int], depth: int) -> None:
    """Raise ValueError for a class in place of a value, and RecursionError for what is nested too deeply."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, _Class):
        raise ValueError(f"the class {value.name} itself, where a value is expected")
    if isinstance(value, dict | list | tuple) and id(value) not in seen:
        seen.add(id(value))
        for one in value.values() if isinstance(value, dict) else value:
            _check(one, seen, depth + 1)


@dataclass(frozen=True)
class _Class:
    """A class that a pickle may name, as yet without an object. It cannot be called."""

    name: str


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in another encoding than latin1")
    return text.encode("latin-1")


def _set(values: Any = ()) -> set[Any]:
    return set(map(_key, values))


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    if pairs not in ((), []):
        raise ValueError("an OrderedDict given pairs")
    return {}


def _dtype(spec: Any, *_: Any) -> np.dtype[Any]:
    """A plain type of its own, whose byte order may be set afterwards."""
    if not isinstance(spec, str) or not PLAIN_DTYPE.fullmatch(spec):
        raise ValueError(f"an array of type {spec!r}; numbers, booleans and texts are accepted")
    return np.dtype(spec, copy=True)


def _array(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, np.dtype):
        raise ValueError("an array of objects; numbers, booleans and texts are accepted")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array of shape {shape!r}")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} and type {dtype} in {len(raw)} bytes")
    made = np.frombuffer(bytearray(raw), dtype).reshape(shape, order="F" if order == "F" else "C")
    return made.astype(dtype.newbyteorder("="), copy=False)


_MODULES = ("__builtin__", "builtins")
KNOWN: dict[str, Any] = {
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: np.zeros(0) for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": lambda dtype, raw: _array(raw, dtype, ())[()] for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array for core in ("core", "_core")},
    "numpy.ndarray": _Class("ndarray"),
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    # how protocol 2 writes no bytes at all
    "__builtin__.bytes": lambda: b"",
    "collections.OrderedDict": _ordered,
    **{f"{module}.set": _set for module in _MODULES},
    **{f"{module}.frozenset": lambda values=(): frozenset(_set(values)) for module in _MODULES},
}


def _key(key: Any) -> Any:
    """A plain scalar: hashing nested tuples may take forever."""
    if type(key) not in KEYS:
        raise ValueError(f"a {type(key).__name__} as a key or in a set; scalars are accepted")
    return key


# its methods are not public, and so not typed
_Standard: Any = pickle._Unpickler


def _checking(name: str, keys: Callable[[list[Any]], list[Any]]) -> Callable[[Any], None]:
    """The standard reader's instruction, once `keys` of the stack are all plain scalars."""

    def load(reader: Any) -> None:
        _set(keys(reader.stack))
        getattr(_Standard, name)(reader)

    return load


class _Reader(_Standard):
    """The reader of the standard library, with checks of what is called, set and used as a key."""

    stack: list[Any]
    metastack: list[Any]
    read: Callable[[int], bytes]
    load_setitem = _checking("load_setitem", lambda stack: [stack[-2]])
    load_setitems = _checking("load_setitems", lambda stack: stack[::2])
    load_dict = _checking("load_dict", lambda stack: stack[::2])
    load_additems = _checking("load_additems", list)
    load_frozenset = _checking("load_frozenset", list)

    def __init__(self, file: Any, most: int) -> None:
        # bytes of Python 2 are texts, of which letter and byte are the same number
        super().__init__(file, encoding="latin-1")
        self.dispatch = _Instructions(most)

    def find_class(self, module: Any, name: Any) -> Any:
        found = KNOWN.get(f"{module}.{name}")
        if found is None:
            raise ValueError(f"it names {module}.{name}; accepted are numpy arrays and plain containers")
        return found

    def load_stop(self) -> None:
        if len(self.stack) != 1 or self.metastack:
            raise ValueError(f"{len(self.stack)} values where one is expected")
        super().load_stop()

    def load_bytearray8(self) -> None:
        """The standard reader makes room for as many bytes as are announced."""
        self.stack.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        # some of what they have is private, or not typed
        told: Any = target
        if isinstance(target, np.ndarray):
            _, shape, dtype, fortran, raw = state
            made = _array(raw, dtype, shape, "F" if fortran else "C")
            told.__setstate__((1, made.shape, made.dtype, bool(fortran), made.tobytes("A")))
        elif isinstance(target, np.dtype):
            if state[1] not in ("<", ">", "=", "|") or any(of is not None for of in state[2:5]):
                raise ValueError("an array of a type with fields")
            told.__setstate__((3, state[1], None, None, None, target.itemsize, target.alignment, 0))
        else:
            raise ValueError(f"a state for a {type(target).__name__}")


REFUSED = (
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID, pickle.INST, pickle.OBJ),
    *(pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)
KNOWN_CODES = {code: do.__name__ for code, do in pickle._Unpickler.dispatch.items() if bytes([code]) not in REFUSED}
ACCEPTED = {code: getattr(_Reader, name) for code, name in KNOWN_CODES.items()}


class _Instructions(dict[int, Callable[[_Reader], None]]):
    """What is done at each instruction; they are counted, and `most` are accepted."""

    def __init__(self, most: int) -> None:
        super().__init__(ACCEPTED)
        self.most, self.count = most, 0

    def __getitem__(self, code: int) -> Callable[[_Reader], None]:
        self.count += 1
        if self.count > self.most:
            raise ValueError(f"more than {self.most} instructions")
        if code not in self:
            raise ValueError(f"the instruction {bytes([code])!r} is not accepted")
        return super().__getitem__(code)

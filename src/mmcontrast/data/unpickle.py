"""Pickles of the papers' data sets, read without running anything in them.

A pickle is a program. The standard reader carries it out, with any function it names; here its instructions are
interpreted one by one, and only those that build plain values, numpy arrays and scipy's sparse matrices are known. An
array becomes one from its raw bytes, so that none is larger than the file. Protocols 0 to 5, in one piece (no
out-of-band buffers).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmcontrast.data.unpickle_arrays import CONSTRUCTORS, GLOBALS, Delayed, Global, finish
from mmcontrast.errors import DataError

MAX_PICKLE_BYTES = 2 * 1024**3
MAX_INSTRUCTIONS = 5_000_000
KEYS = (str, bytes, int, float, bool, type(None))

_MARK = object()


def read_pickle(path: Path) -> Any:
    """What a pickle holds: None, numbers, strings, bytes, lists, tuples, dicts, sets, arrays and sparse matrices.

    Raises:
        DataError: missing, damaged, larger than MAX_PICKLE_BYTES, or it names anything else; says what.
    """
    try:
        size = path.stat().st_size
        if size > MAX_PICKLE_BYTES:
            raise DataError(f"{path}: {size} bytes, and at most {MAX_PICKLE_BYTES} are read")
        with path.open("rb") as file:
            return finish(_Machine().run(file))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `mmcontrast data fetch` again") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, MemoryError) as e:
        reason = "nested too deeply" if isinstance(e, RecursionError) else str(e) or type(e).__name__
        raise DataError(f"{path}: not a pickle of plain data ({reason.splitlines()[0]})") from None


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: Any) -> Any:
        """Carry out the instructions up to the last.

        Raises:
            ValueError: an instruction that is not known here, or too many. Others: the instructions make no sense.
        """
        for count, (code, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_INSTRUCTIONS:
                raise ValueError(f"more than {MAX_INSTRUCTIONS} instructions")
            if code.name == "STOP":
                break
            if code.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[code.name])
            elif code.name in _LITERALS:
                self.stack.append(argument)
            elif code.name in _DO:
                _DO[code.name](self, argument)
            else:
                raise ValueError(f"the instruction {code.name} is not accepted")
        if len(self.stack) != 1:
            raise ValueError(f"{len(self.stack)} values where one is expected")
        return self.stack[0]

    def pop(self) -> Any:
        """The top of the stack, which must not be a mark."""
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is expected")
        return value

    def pop_to_mark(self) -> list[Any]:
        """All above the last mark, in order; the mark goes too."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def top(self, kind: type) -> Any:
        """The top of the stack, left there, which must be of one kind."""
        value = self.stack[-1]
        if type(value) is not kind:
            raise ValueError(f"a {type(value).__name__} where a {kind.__name__} is expected")
        return value


def _tuple(n: int) -> Callable[[_Machine, Any], None]:
    def do(machine: _Machine, _: Any) -> None:
        values = [machine.pop() for _ in range(n)]
        machine.stack.append(tuple(reversed(values)))

    return do


def _from_mark(make: Callable[[list[Any]], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make(machine.pop_to_mark()))


def _put(machine: _Machine, index: Any) -> None:
    machine.memo[int(index)] = machine.stack[-1]


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _get(machine: _Machine, index: Any) -> None:
    machine.stack.append(machine.memo[int(index)])


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    """Keys are plain scalars: hashing nested tuples may take forever."""
    if len(values) % 2:
        raise ValueError("a key without a value")
    pairs = list(zip(values[::2], values[1::2], strict=True))
    for key, _ in pairs:
        _check_key(key)
    return pairs


def _check_key(key: Any) -> Any:
    if type(key) not in KEYS:
        raise ValueError(f"a {type(key).__name__} as a key or in a set; scalars are accepted")
    return key


def _set_items(machine: _Machine, _: Any) -> None:
    pairs = _pairs(machine.pop_to_mark())
    machine.top(dict).update(pairs)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.top(dict)[_check_key(key)] = value


def _append(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _appends(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    machine.top(list).extend(values)


def _add_items(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    machine.top(set).update(map(_check_key, values))


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = str(argument).partition(" ")
    machine.stack.append(_known(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(_known(module, name))


def _known(module: Any, name: Any) -> Global:
    found = GLOBALS.get(f"{module}.{name}")
    if found is None:
        raise ValueError(f"it names {module}.{name}; accepted are numpy arrays, sparse matrices and plain containers")
    return found


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, what = machine.pop(), machine.pop()
    if not isinstance(what, Global) or type(arguments) is not tuple:
        raise ValueError("a call of something that is not a known constructor")
    machine.stack.append(CONSTRUCTORS[what.name](*arguments))


def _build(machine: _Machine, _: Any) -> None:
    state, target = machine.pop(), machine.stack[-1]
    if not isinstance(target, Delayed):
        raise ValueError(f"a state for a {type(target).__name__}")
    target.state = state


def _pop(machine: _Machine, _: Any) -> None:
    machine.stack.pop()


def _pop_mark(machine: _Machine, _: Any) -> None:
    machine.pop_to_mark()


def _nothing(machine: _Machine, _: Any) -> None:
    pass


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


def _text(machine: _Machine, argument: Any) -> None:
    """A byte string of Python 2, which pickletools gives as latin-1 text."""
    machine.stack.append(argument if isinstance(argument, str) else argument.decode("latin-1"))


_DO: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _text),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "MEMOIZE": _memoize,
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "EMPTY_TUPLE": _tuple(0),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": _from_mark(tuple),
    "LIST": _from_mark(list),
    "DICT": _from_mark(lambda values: dict(_pairs(values))),
    "FROZENSET": _from_mark(lambda values: frozenset(map(_check_key, values))),
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "ADDITEMS": _add_items,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "BUILD": _build,
}

"""The files of `params/` as plain objects, from a checkout or from a plan: bounded, and easily read as nothing else."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmcontrast.errors import ConfigError, first_line, nearest

MAX_YAML_BYTES = 256 * 1024
MAX_VALUES = 100_000
MAX_DEPTH = 50


# by libyaml where PyYAML has it, which is ten times as fast
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NAME = re.compile(r"[a-z0-9_]+")


def _at(node: yaml.Node, fault: str) -> ConfigError:
    return ConfigError(f"line {node.start_mark.line + 1}: {fault}")


class _StrictLoader(_Loader):
    """YAML without merge keys, with a key given twice an error and not a silent last-one-wins, all numbers finite."""

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value = float(super().construct_yaml_float(node))
        if not math.isfinite(value):
            raise _at(node, f"{node.value} is not a finite number")
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        # 012 would be 10, and 1:30 would be 90
        if not re.fullmatch(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", node.value):
            raise _at(node, f"{node.value} is not accepted as a number; write it without 0 first, or in quotes")
        return int(super().construct_yaml_int(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _at(key_node, "a list or a mapping is not accepted as a key")
            if key_node.tag == "tag:yaml.org,2002:merge":
                # a few lines of them stand for any number of values, and are expanded while the file is read
                raise _at(key_node, "merge keys (<<) are not accepted")
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _at(key_node, f"the key '{key}' is given twice")
            seen.add(key)
        return dict(super().construct_mapping(node, deep=deep))


_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_yaml_float)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)


def _refuse_too_deep(text: str) -> None:
    """Before anything is made of it, since what reads brackets in brackets calls itself."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ConfigError(f"line {line}: nested too deeply; at most {MAX_DEPTH} levels are read")


def _refuse_too_many(data: Any) -> None:
    """A few lines of aliases (*name) can stand for any number of values, or for one that holds itself."""
    pending, seen = [data], 0
    while pending:
        value = pending.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise ConfigError(f"stands for more than {MAX_VALUES} values, which is the most that is read")
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping as plain objects. Raises ConfigError: missing, over MAX_YAML_BYTES, not YAML, no mapping, a key
    twice, over MAX_VALUES values by aliases, or a number that is not finite.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_YAML_BYTES + 1)
        text = raw.decode("utf-8")
    except FileNotFoundError:
        siblings = [p.stem for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file; {nearest(path.stem, siblings)}") from None
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 text ({e.reason} at byte {e.start})") from None
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read ({e.strerror})") from None
    if len(raw) > MAX_YAML_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_YAML_BYTES} bytes, which is the most that is read")
    try:
        _refuse_too_deep(text)
        data = yaml.load(text, Loader=_StrictLoader)
        _refuse_too_many(data)
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid YAML (nested too deeply)") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as e:
        # values that look like a date or a number and are none
        raise ConfigError(f"{path}: not valid YAML ({first_line(e)})") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise ConfigError(f"{path}:{where} not valid YAML ({getattr(e, 'problem', e)})") from None
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{path}: holds {found}, not keys with values")
    return data


class ParamFiles:
    """What the files of `params/` hold, before any check; those of a checkout are read when asked for.

    A file is named by its kind (a folder of params/) and its stem, unique in its kind whatever folders are below it.
    `given`: path relative to the checkout -> content, in place of the checkout's files.
    """

    def __init__(self, root: Path, given: Mapping[str, dict[str, Any]] | None = None) -> None:
        self.root = root
        self._read = dict(given or {})
        there = (path.relative_to(root).as_posix() for path in (root / "params").rglob("*.yaml"))
        self._listed = sorted(there) if given is None else list(given)
        self._paths: dict[str, dict[str, str]] = {}

    def names(self, kind: str) -> list[str]:
        """The names of a kind, sorted."""
        return sorted(self._of(kind))

    def where(self, kind: str, name: str) -> str:
        """The path of a file relative to the checkout, as messages say it."""
        return self._of(kind).get(name, f"params/{kind}/{name}.yaml")

    def raw(self, kind: str, name: str) -> dict[str, Any]:
        """The content of a file. Raises ConfigError where there is none, or it holds no mapping of keys to values."""
        where = self.where(kind, name)
        _check_name(where, name)
        if where not in self._read:
            self._read[where] = _with_members(read_yaml(self.root / where), self.root, where)
        return self._read[where]

    def _of(self, kind: str) -> dict[str, str]:
        if kind not in self._paths:
            found: dict[str, str] = {}
            for path in [p for p in self._listed if p.startswith(f"params/{kind}/")]:
                name = Path(path).stem
                _check_name(path, name)
                if name in found:
                    raise ConfigError(f"{path}: {found[name]} has the same name; rename one of them")
                found[name] = path
            self._paths[kind] = found
        return self._paths[kind]


def _with_members(raw: dict[str, Any], root: Path, where: str) -> dict[str, Any]:
    """A dataset's file with what its tables of members list in their place; any other as it is."""
    sources = raw.get("sources")
    for i, source in enumerate(sources if isinstance(sources, list) else ()):
        if isinstance(source, dict) and source.get("kind") == "archive" and isinstance(source.get("members"), str):
            source["members"] = _members((root / where).parent / source["members"], f"{where}: sources[{i}].members")
    return raw


def _members(path: Path, where: str) -> dict[str, dict[str, Any]]:
    """Path -> bytes and sha256, of a table of an archive's members."""
    try:
        header, *lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as e:
        raise ConfigError(f"{where}: {path.name}: no such table beside this file, or not readable ({e})") from None
    for number, line in enumerate(lines, 2):
        if header != ["path", "bytes", "sha256"] or len(line) != len(header) or not line[1].isdecimal():
            raise ConfigError(f"{where}: {path.name}, line {number}: expected path, bytes and sha256, tab-separated")
    if len({name for name, *_ in lines}) != len(lines):
        raise ConfigError(f"{where}: {path.name}: a path stands twice")
    return {name: {"bytes": int(size), "sha256": sha256} for name, size, sha256 in lines}


def _check_name(where: str, name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise ConfigError(f"{where}: the name '{name}' is not accepted; use lower-case letters, digits and _")

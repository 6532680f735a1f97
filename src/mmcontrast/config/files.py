"""The files of `params/` as plain objects, from a checkout or from a plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcontrast.config.yaml_file import read_yaml
from mmcontrast.errors import ConfigError

NAME = re.compile(r"[a-z0-9_]+")


class ParamFiles:
    """What the files of `params/` hold, before any of it is checked.

    A file is named by its kind (a folder of params/) and its stem, which is unique in its kind whatever folders are
    below it. Files of a checkout are read when they are asked for.

    Args:
        root: the checkout that holds params/.
        given: path relative to the checkout -> content, in place of the checkout's files.
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
        """Name -> path, of a kind."""
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
            raise ConfigError(
                f"{where}: {path.name}, line {number}: expected path, bytes and sha256, separated by tabs"
            )
    if len({name for name, *_ in lines}) != len(lines):
        raise ConfigError(f"{where}: {path.name}: a path stands twice")
    return {name: {"bytes": int(size), "sha256": sha256} for name, size, sha256 in lines}


def _check_name(where: str, name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise ConfigError(f"{where}: the name '{name}' is not accepted; use lower-case letters, digits and _")

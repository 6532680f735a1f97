"""docs/licences.md: under which licence each dataset and each package of the environment may be used."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from mmcontrast.config import Grid
from mmcontrast.pipeline.plan import put

FILE = "docs/licences.md"
# exact versions of everything that `make env-all` installs, but for CUDA
LOCKS = ("locks/all.txt", "locks/cuda.txt")
CUDA = ("cuda-", "nvidia-", "triton")
# what tells this licence by its text, where a package's metadata do not name it
MIT = "Permission is hereby granted, free of charge, to any person"
HEAD = """# Licences

Written by `mmcontrast licences` from params/datasets/ and from the packages' own metadata. The code of this repository
is under the MIT licence.
"""
DATA_HEAD = """## Data

| Dataset | Licence | May be passed on | Source |
|:---|:---|:---|:---|"""
PACKAGES_HEAD = """
## Packages

| Package | Version | Licence |
|:---|:---|:---|"""
NOT_GIVEN = "not given in its metadata"


def text(root: Path) -> str:
    """The page."""
    grid = Grid(root)
    data = [
        f"| {d.title} (`{name}`) | {d.licence} | {'yes' if d.redistribute else 'no'} | {d.citation} |"
        for name, d in grid.datasets.items()
    ]
    packages = [f"| {name} | {version} | {licence(name)} |" for name, version in pins(root)]
    return "\n".join([HEAD, DATA_HEAD, *data, PACKAGES_HEAD, *packages, ""])


def pins(root: Path) -> list[tuple[str, str]]:
    """(name, version) of every package of an environment, CUDA's apart."""
    text = "".join((root / file).read_text(encoding="utf-8") for file in LOCKS)
    found = sorted(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))
    return [(name, version) for name, version in found if not name.startswith(CUDA)]


def licence(package: str) -> str:
    """In short: as the installed package's metadata say it, else by the text of the licence that comes with it."""
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return "not installed here"
    of = found.metadata
    classifiers = [c.rsplit(" :: ", 1)[-1] for c in of.get_all("Classifier") or [] if c.startswith("License ::")]
    said = of["License-Expression"] or ", ".join(c for c in classifiers if c != "OSI Approved")
    # some put the whole text there
    said = said or (of["License"] or "").strip().split("\n")[0] or _by_text(found)
    return said.replace("|", "/") or NOT_GIVEN


def _by_text(found: metadata.Distribution) -> str:
    files = (f for f in found.files or [] if f.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")))
    return "MIT" if any(MIT in file.read_text() for file in files) else ""


def write(root: Path) -> str:
    """Write the page; returns its path."""
    put(root / FILE, text(root), sync=True)
    return FILE

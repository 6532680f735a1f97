"""Write docs/licences.md: under which licence each dataset, and each package of the locks, may be used.

python workflow/envs/licences.py
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from mmcontrast.config import Grid

ROOT = Path(__file__).parents[2]
FILE = "docs/licences.md"
# exact versions of everything that `make env-all` installs, but for CUDA
LOCKS = ("locks/all.txt", "locks/cuda.txt")
CUDA = ("cuda-", "nvidia-", "triton")
# what tells this licence by its text, where a package's metadata do not name it
MIT = "Permission is hereby granted, free of charge, to any person"
HEAD = """# Licences

Written by `make licences` from params/datasets/ and from the packages' own metadata. The code of this repository
is under the MIT licence.

## Data

| Dataset | Licence | May be passed on | Source |
|:---|:---|:---|:---|"""
PACKAGES_HEAD = """
## Packages

| Package | Version | Licence |
|:---|:---|:---|"""
NOT_GIVEN = "not given in its metadata"


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
    said = said or (of["License"] or "").strip().split("\n")[0]
    files = (f for f in found.files or [] if f.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")))
    said = said or ("MIT" if any(MIT in file.read_text() for file in files) else NOT_GIVEN)
    return said.replace("|", "/")


def page(root: Path) -> str:
    """The page, from params/ and from what the installed packages say of themselves."""
    data = [
        f"| {d.title} (`{name}`) | {d.licence} | {'yes' if d.redistribute else 'no'} | {d.citation} |"
        for name, d in Grid(root).datasets.items()
    ]
    packages = [f"| {name} | {version} | {licence(name)} |" for name, version in pins(root)]
    return "\n".join([HEAD, *data, PACKAGES_HEAD, *packages, ""])


if __name__ == "__main__":
    (ROOT / FILE).write_text(page(ROOT), encoding="utf-8")
    print(f"{FILE}: written")

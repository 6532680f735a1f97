"""Commands on a disk that takes no more, or in folders that may not be written to."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

PR_CAPBSET_DROP = 24
# to read, write and search whatever the permissions say: what makes root different
CAPABILITIES = (1, 2)
# one page, which the folders of a command fill
MOUNTED = """
folder=$1; shift
mount -t tmpfs -o size=4k,nr_inodes=40 tmpfs "$folder"
head -c 4096 /dev/zero > "$folder/ballast"
"$@"
status=$?
find "$folder" -type f -printf 'left behind: %P\\n'
exit $status
"""


@cache
def _may_mount() -> bool:
    try:
        return (
            subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode
            == 0
        )
    except FileNotFoundError:
        return False


def on_a_full_disk(
    folder: Path, command: Sequence[str], cwd: Path | None = None
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a command that must fail, `folder` being a full disk of its own for as long as it takes.

    Returns:
        The finished process, and names of files that the command left on the disk.
    """
    if not _may_mount():
        pytest.skip("mounting a small disk is not permitted here: it takes `unshare -m` and root")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", MOUNTED, "sh", str(folder), *command], cwd=cwd, text=True, capture_output=True
    )
    assert done.returncode not in (0, 32), done.stdout + done.stderr
    mark = "left behind: "
    left = [line.removeprefix(mark) for line in done.stdout.splitlines() if line.startswith(mark)]
    assert "ballast" in left
    left.remove("ballast")
    return done, left


def _as_anybody() -> None:
    """In a child of root's, before exec: permissions hold for it too."""
    for capability in CAPABILITIES:
        if ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


@contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    """The folders, which are made, may not be written to within the context."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    modes = [folder.stat().st_mode for folder in folders]
    for folder in folders:
        folder.chmod(0o555)
    try:
        yield
    finally:
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)


def with_ordinary_rights(
    command: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command for which permissions hold, even where the tests run as root."""
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            env=env,
            preexec_fn=_as_anybody if os.geteuid() == 0 else None,
            text=True,
            capture_output=True,
        )
    except subprocess.SubprocessError:
        pytest.skip("root cannot give up its rights over files here (prctl PR_CAPBSET_DROP is refused)")

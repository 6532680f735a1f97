"""GPUs of this machine, and which of them a job takes where several run at once; imports no torch."""

import fcntl
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

DEVICES = Path("/dev")


def visible() -> list[str]:
    """The GPUs that a process started here may use, as CUDA_VISIBLE_DEVICES has them."""
    every = ",".join(str(i) for i, _ in enumerate(DEVICES.glob("nvidia[0-9]*")))
    given = os.environ.get("CUDA_VISIBLE_DEVICES", every)
    return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]


def take(n: int) -> None:
    """Let this process see the first n GPUs alone that no other job has taken; all of them where fewer are free.

    They are taken until it ends, also where it becomes another program: the system then gives its locks back.
    """
    taken: list[str] = []
    for name in visible():
        lock = Path(tempfile.gettempdir()) / f"mmcontrast-gpu-{os.getuid()}-{re.sub(r'[^A-Za-z0-9-]', '_', name)}"
        handle = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.set_inheritable(handle, True)
            taken.append(name)
        if len(taken) == n:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
            return

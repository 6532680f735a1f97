"""What importing loads, in a process that has loaded nothing yet."""

import subprocess
import sys


def loaded(code: str) -> set[str]:
    """Top-level names of all modules that are there once `code` has run."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())

"""Nothing that runs here tells another machine about it, by the project's own settings alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.pipeline.conftest import SUITE, Checkout

pytestmark = pytest.mark.slow

# python imports it before anything else, in every process that a command starts
WATCH = """
import os, socket

def note(host):
    if host not in (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname()):
        with open(os.environ["ASKED_FOR"], "a") as f:
            f.write(f"{host}\\n")
        raise OSError("no other machine may be asked")

def watched(original):
    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            note(address[0])
        return original(self, address)
    return connect

def looked_up(host, *args, original=socket.getaddrinfo, **kwargs):
    note(host.decode() if isinstance(host, bytes) else host)
    return original(host, *args, **kwargs)

socket.socket.connect = watched(socket.socket.connect)
socket.socket.connect_ex = watched(socket.socket.connect_ex)
socket.getaddrinfo = looked_up
"""


def test_no_other_machine_is_asked(finished: Checkout, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    asked = tmp_path / "asked"
    finished.env["PYTHONPATH"] = str(tmp_path)
    finished.env["ASKED_FOR"] = str(asked)
    # what would switch it off from outside is not there
    for name in ("DVC_NO_ANALYTICS", "DVC_TEST", "CI", "DO_NOT_TRACK", "ITERATIVE_DO_NOT_TRACK"):
        finished.env.pop(name, None)
    deepspeed = SUITE | {"engine": {"backend": "deepspeed"}}
    (finished.root / "params/suites/deepspeed.yaml").write_text(yaml.safe_dump(deepspeed))
    finished("snakemake", "--cores", "1", "--forcerun", "page", "reproduce")
    finished("dvc", "repro", "--force", "--single-item", "generate@synthetic")
    finished("dvc", "status")
    finished.mmcontrast("finetune", "synthetic/concat", "--suite", "deepspeed")
    assert not asked.exists(), asked.read_text()
    finished("python", "-c", "import urllib.request as u; u.urlopen('http://example.org')", ok=False)
    assert asked.read_text() == "example.org\n"

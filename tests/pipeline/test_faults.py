"""Two people at once, a lock that was left behind, a clock that jumps."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.slow

LOCKED = ["cannot be locked", "--unlock"]
DAY = 24 * 3600


def waited_for(path: Path, process: psutil.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not list(path.parent.glob(path.name)):
        assert process.poll() is None
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.01)


def test_the_second_of_two_at_once_refuses_and_the_first_is_not_disturbed(checkout: Checkout) -> None:
    first = psutil.Popen(
        ["snakemake", "--cores", "1", "reproduce"],
        cwd=checkout.root,
        env=checkout.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    waited_for(checkout.root / ".snakemake/locks/*.lock", first)
    second = checkout.snakemake(ok=False)
    assert all(word in second for word in LOCKED), second
    assert first.wait(180) == 0, checkout.logs()
    checkout.assert_both_idle()


def test_a_lock_that_was_left_behind_is_told_with_its_remedy(checkout: Checkout) -> None:
    checkout.kill_when("data/prepared/synthetic/datasheet.json")
    told = checkout.snakemake(ok=False)
    assert all(word in told for word in LOCKED), told
    checkout("snakemake", "--unlock")
    checkout.snakemake()
    checkout.assert_both_idle()


def test_a_clock_that_jumps_runs_nothing_again(checkout: Checkout) -> None:
    """Sources, parameters and data look older or newer than they are; their bytes are the same."""
    suite = checkout.root / "profiles/default/config.yaml"
    # the small checkout lets Snakemake go by times for what is larger; here it is as it is shipped
    suite.write_text(suite.read_text().replace("max-checksum-file-size: 1KB", "max-checksum-file-size: 1GB"))
    checkout.snakemake()
    checkout.executed()
    for days in (-400, 400):
        moved = time.time() + days * DAY
        for folder in ("src", "params", "data"):
            for path in (checkout.root / folder).rglob("*"):
                if path.is_file():
                    os.utime(path, (moved, moved))
        checkout.assert_both_idle()
        checkout.snakemake()
        assert checkout.executed() == []

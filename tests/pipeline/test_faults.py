"""A clock that jumps."""

from __future__ import annotations

import os
import time

import pytest

from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.slow

DAY = 24 * 3600


@pytest.mark.exhaustive
def test_a_clock_that_jumps_runs_nothing_again(checkout: Checkout) -> None:
    """Sources, parameters and data look older or newer than they are; their bytes are the same."""
    checkout.keep_cells("m3col/pretrained")
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

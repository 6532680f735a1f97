"""The checkout that benchmarks/kills.py kills again and again is one that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import kills
from tests.pipeline.conftest import Checkout


@pytest.mark.slow
def test_the_checkout_to_be_killed_passes_every_check(tmp_path: Path) -> None:
    kills.make_template(tmp_path / "checkout", tmp_path / "mirror")
    planned = Checkout(tmp_path / "checkout")("snakemake", "-n", "reproduce")
    assert "finetune" in planned
    assert (tmp_path / "mirror").is_dir()

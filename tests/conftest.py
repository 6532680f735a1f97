"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# the same few examples at every run, and nothing kept between runs
settings.register_profile("repeatable", derandomize=True, max_examples=25, deadline=None, database=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).parents[1]
# read once: tests of fetching set the variable themselves
MIRROR = os.environ.get("MMCONTRAST_MIRROR", "")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout, wherever pytest was started."""
    return ROOT


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The first folder of MMCONTRAST_MIRROR; skips where there is none."""
    folders = [Path(part.strip()).expanduser() for part in MIRROR.split(";") if part.strip()]
    for folder in folders:
        if folder.is_dir():
            return folder.resolve()
    pytest.skip(f"MMCONTRAST_MIRROR names no folder that exists (it is '{MIRROR}')")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker starts a long file when the others are done."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: not slow[item.path])

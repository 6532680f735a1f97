"""A world of one for tests that train in this process, two ranks for those that need more, a checkout to train in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmcontrast import config
from mmcontrast.training.distributed import World, start_world
from tests.training import resuming
from tests.training.ranks import Ranks, stop_world


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    before = os.environ.copy()
    threads = torch.get_num_threads()
    yield start_world(config.Engine())
    stop_world()
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="package")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(2)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with params/ and the generated datasets."""
    root = tmp_path_factory.mktemp("resume")
    resuming.write_data(root)
    return root


@pytest.fixture
def checkout(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tests run in it; what they train is removed."""
    monkeypatch.chdir(prepared)
    for folder in ("build", ".state"):
        shutil.rmtree(prepared / folder, ignore_errors=True)
    return prepared

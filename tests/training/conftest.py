"""A world of one for the tests that train in this process, and a pool of two ranks for those that need more."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from mmcontrast import config
from mmcontrast.training.distributed import World, start_world, stop_world
from tests.training.ranks import Ranks


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

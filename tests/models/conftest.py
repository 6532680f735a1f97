"""Folders of tiny pretrained encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_pretrained import write_encoder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("encoders")
    return lambda name: folder / name if (folder / name).exists() else write_encoder(name, folder / name)


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], Path]:
    """A folder that the test may spoil."""
    return lambda name: write_encoder(name, tmp_path / name)

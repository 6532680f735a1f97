"""Which files a job's result is said to depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcontrast.sources import sources

ROOT = Path(__file__).parents[2]


def test_a_method_brings_what_it_imports_and_no_other_method() -> None:
    files = sources("mmcontrast.training.cell", "mmcontrast.methods.m3col.method")
    assert "mmcontrast/methods/m3col/method.py" in files
    assert "mmcontrast/losses/mixing.py" in files
    assert "mmcontrast/training/loop.py" in files
    assert "mmcontrast/methods/baselines/mixup.py" not in files
    assert not [f for f in files if "/config/" in f or f.endswith("paths.py") or "/report/" in f]


def test_all_files_exist() -> None:
    for file in sources("mmcontrast.training.cell", "mmcontrast.report.page", "mmcontrast.evaluation.evaluate"):
        assert (ROOT / "src" / file).is_file()


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="nonesuch"):
        sources("mmcontrast.nonesuch")

"""The cache never gives out a file that is not what its name says."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from mmcontrast.data.fetch import Cache, cache_root
from mmcontrast.errors import FetchError
from tests.disk import with_ordinary_rights


def test_the_folder_is_the_environments_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCONTRAST_CACHE", str(tmp_path / "elsewhere"))
    assert cache_root() == tmp_path / "elsewhere"
    monkeypatch.delenv("MMCONTRAST_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "mmcontrast"


def test_what_is_put_in_comes_out(tmp_path: Path, small: Any) -> None:
    cache, file = Cache(tmp_path / "cache"), tmp_path / "a"
    file.write_bytes(b"content")
    key = small.sha256(b"content")
    assert cache.get(key) is None
    stored = cache.put(file, key)
    assert cache.get(key) == stored
    assert stored.read_bytes() == b"content"


def test_a_copy_that_changed_on_disk_is_removed(tmp_path: Path, small: Any, caplog: pytest.LogCaptureFixture) -> None:
    cache, file = Cache(tmp_path / "cache"), tmp_path / "a"
    file.write_bytes(b"content")
    key = small.sha256(b"content")
    stored = cache.put(file, key)
    stored.write_bytes(b"Content")
    with caplog.at_level(logging.WARNING):
        assert cache.get(key) is None
    assert not stored.exists()
    assert "has changed on disk" in caplog.text


def test_a_lock_that_another_user_has_made_can_be_held(tmp_path: Path) -> None:
    """It is theirs to write, and everybody's to read."""
    with Cache(tmp_path).lock("a"):
        pass
    for file in (tmp_path / "locks").iterdir():
        file.chmod(0o444)
    code = "import sys; from pathlib import Path; from mmcontrast.data.fetch import Cache\n"
    code += f"with Cache(Path({str(tmp_path)!r})).lock('a'): print('held')"
    done = with_ordinary_rights([sys.executable, "-c", code])
    assert done.stdout == "held\n", done.stderr


def test_first_use_is_remembered_by_label(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.first_use("http://a/b") is None
    cache.remember("http://a/b", "0" * 64)
    assert cache.first_use("http://a/b") == "0" * 64
    assert cache.first_use("http://a/c") is None


def test_a_damaged_record_is_not_taken_for_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.remember("http://a/b", "0" * 64)
    (record,) = (tmp_path / "first_use").iterdir()
    record.write_text("{")
    with pytest.raises(FetchError, match=r"damaged.*remove it to trust http://a/b"):
        cache.first_use("http://a/b")

"""A file is there whole or not at all, and never outside its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcontrast.data.files import inside, replacing, sha256_of, write_json
from mmcontrast.errors import FetchError


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as temp:
        temp.write_text("new")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "b" / "c"
    with replacing(path) as temp:
        temp.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with replacing(path) as one, replacing(path) as two:
        one.write_text("one")
        two.write_text("two")
        assert one != two
    assert path.read_text() == "one"  # the outer block ends last


def test_write_json_keeps_the_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "ä"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "ä"\n}\n'


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../../b", "a\\b", "a\0b", "."])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FetchError, match="not accepted as a file name"):
        inside(tmp_path, name)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "out").symlink_to(tmp_path)
    with pytest.raises(FetchError, match="through a link"):
        inside(tmp_path / "raw", "out/a")


def test_ordinary_names_stay_inside(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b.csv") == tmp_path / "a" / "b.csv"
    assert inside(tmp_path, "@scope/b..csv") == tmp_path / "@scope" / "b..csv"

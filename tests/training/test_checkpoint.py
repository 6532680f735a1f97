"""State on disk: a kill at any point, a damaged file or another configuration never end in a wrong resume."""

from __future__ import annotations

import hashlib
import json
import logging
import os

import pytest
import torch

from mmcontrast.training import checkpoint
from mmcontrast.training.distributed import World

ALONE = World(0, 1, torch.device("cpu"))
MARK = "configuration 1"


def payload(step):
    return {
        "step": step,
        "weights": {"w": torch.full((300,), float(step)), "half": torch.ones(2, dtype=torch.bfloat16)},
        "history": [[0, "train/loss", 0.5], [1, "train/loss", None]],
        "name": "ünïcode",
    }


def save(folder, step, mark=MARK):
    return checkpoint.save(folder, step, payload(step), mark, ALONE)


def load(folder, mark=MARK, world=ALONE):
    return checkpoint.load_latest(folder, mark, world)


def rewrite_manifest(folder, **changes):
    file = folder / checkpoint.MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path):
    save(tmp_path / "deep" / "er", 4)
    got = load(tmp_path / "deep" / "er")
    expected = payload(4)
    assert {k: v for k, v in got.items() if k != "weights"} == {k: v for k, v in expected.items() if k != "weights"}
    assert got["weights"].keys() == expected["weights"].keys()
    for key, value in expected["weights"].items():
        assert torch.equal(got["weights"][key], value)
        assert got["weights"][key].dtype == value.dtype


def test_the_newest_is_loaded_and_two_are_kept(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step)
    assert names(tmp_path) == ["checkpoint-000002", "checkpoint-000003"]
    assert load(tmp_path)["step"] == 20


def test_nothing_there(tmp_path):
    assert load(tmp_path) is None
    assert load(tmp_path / "nowhere") is None


def test_remove_leaves_nothing(tmp_path):
    save(tmp_path / "state", 1)
    checkpoint.remove(tmp_path / "state", ALONE)
    assert names(tmp_path) == []


def flip_a_bit(folder):
    file = folder / "rank0.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate(folder):
    file = folder / "rank0.pt"
    file.write_bytes(file.read_bytes()[:-100])


def lose(folder):
    (folder / "rank0.pt").unlink()


def lose_manifest(folder):
    (folder / checkpoint.MANIFEST).unlink()


def spoil_manifest(folder):
    (folder / checkpoint.MANIFEST).write_text('{"step": 2, "files": {"rank0')


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (flip_a_bit, "rank0.pt does not have the checksum in manifest.json"),
        (truncate, "rank0.pt does not have the checksum in manifest.json"),
        (lose, "rank0.pt cannot be read (FileNotFoundError"),
        (lose_manifest, "manifest.json cannot be read (FileNotFoundError"),
        (spoil_manifest, "manifest.json cannot be read (JSONDecodeError"),
    ],
)
def test_a_broken_one_gives_way_to_the_one_before(tmp_path, caplog, damage, named):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    damage(newest)
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path)["step"] == 1
    assert str(newest) in caplog.text
    assert named in caplog.text
    damage(tmp_path / "checkpoint-000000")
    assert load(tmp_path) is None


def test_training_that_went_on_from_the_one_before_is_believed_again(tmp_path):
    """Its number is new, so that the broken one is in nobody's way."""
    save(tmp_path, 1)
    flip_a_bit(save(tmp_path, 2))
    assert load(tmp_path)["step"] == 1
    save(tmp_path, 2)
    assert load(tmp_path)["step"] == 2


def test_another_configuration_is_never_resumed(tmp_path, caplog):
    save(tmp_path, 1, "configuration 2")
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path) is None
    assert "another configuration" in caplog.text
    save(tmp_path, 7)
    assert load(tmp_path)["step"] == 7


def test_another_number_of_ranks_is_never_resumed(tmp_path, caplog):
    rewrite_manifest(save(tmp_path, 1), ranks=4)
    assert load(tmp_path) is None
    assert "written by 4 rank(s), not 1" in caplog.text


class Evil:
    """What an attacker would put into a pickle."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_nothing_is_ever_unpickled_freely(tmp_path, caplog):
    folder = save(tmp_path, 1)
    file = folder / "rank0.pt"
    torch.save({"step": Evil(tmp_path / "owned")}, file)
    rewrite_manifest(folder, files={"rank0.pt": hashlib.sha256(file.read_bytes()).hexdigest()})
    assert load(tmp_path) is None
    assert "rank0.pt cannot be read (UnpicklingError" in caplog.text
    assert not (tmp_path / "owned").exists()


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("call", range(12))
@pytest.mark.parametrize("function", ["replace", "fsync", "open"])
def test_killed_anywhere_the_last_whole_one_is_loaded(tmp_path, monkeypatch, function, call):
    """Every call that reaches the disk, in turn, is the last one the process makes."""
    save(tmp_path, 1)
    original, calls = getattr(os, function), 0

    def count(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > call:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, count)
        try:
            save(tmp_path, 2)
            finished = True
        except Killed:
            finished = False
    assert finished == (calls <= call)
    got = load(tmp_path)["step"]
    assert got == 2 if finished else got in (1, 2)
    save(tmp_path, 3)
    assert load(tmp_path)["step"] == 3
    assert len(names(tmp_path)) == 2, "drafts and old ones are cleared away"


def test_a_draft_is_never_believed(tmp_path):
    """Before its name is swapped in, a checkpoint does not exist, whatever is in it."""
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    newest.rename(tmp_path / f".{newest.name}")
    assert load(tmp_path)["step"] == 1

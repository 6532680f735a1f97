"""What evaluated epochs leave: written once beside the checkpoints, which name it and are not believed without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmcontrast.errors import StoppedError, TrainingError
from mmcontrast.training.checkpoint import EpochTensors
from mmcontrast.training.loop import KEPT
from tests.training import resuming
from tests.training.resuming import LAYOUT, small

CASES = ["synthetic/m3col/base", "emoji/mxm_clr/base"]


def test_tensors_come_back_in_their_order_from_files_that_are_written_once(tmp_path: Path) -> None:
    kept, expected = EpochTensors(tmp_path), {}
    for epoch in range(5):
        for split in ("val", "test"):
            kept[epoch, split] = expected[epoch, split] = torch.rand(4, 3)
        if epoch in (1, 3):
            kept.write()
            kept.write()
    assert len(list(tmp_path.iterdir())) == 2
    again = EpochTensors(tmp_path, dict(kept.files))
    assert list(again) == list(expected)[:8]
    kept.write()
    again = EpochTensors(tmp_path, kept.files)
    assert list(again) == list(kept) == list(expected)
    assert len(again) == 10
    assert all(torch.equal(again[key], value) for key, value in expected.items())
    assert set(again.sums()) == set(tmp_path.iterdir())
    with pytest.raises(KeyError):
        again[7, "val"]


@pytest.mark.parametrize("damage", [lambda f: f.unlink(), lambda f: f.write_bytes(f.read_bytes()[:-1])])
def test_a_file_that_is_not_as_it_was_written_is_refused(tmp_path: Path, damage) -> None:
    kept = EpochTensors(tmp_path)
    kept[0, "val"] = torch.ones(2)
    kept.write()
    (file,) = tmp_path.iterdir()
    damage(file)
    with pytest.raises(TrainingError, match=r"safetensors: missing, or not as it was written; run the same command"):
        EpochTensors(tmp_path, kept.files)[0, "val"]


@pytest.mark.parametrize("case", CASES)
def test_checkpoints_do_not_hold_what_earlier_epochs_left(checkout: Path, case: str) -> None:
    cell = small(case)
    state = LAYOUT.state(cell.name, cell.last_stage) / "seed3"
    sizes = []
    for moment in (resuming.STEPS + 1, resuming.STEPS + 1):
        with resuming.at_step(moment, resuming.asked), pytest.raises(StoppedError):
            resuming.train(cell)
        newest = max(state.glob("checkpoint-*"))
        sizes.append((newest / "rank0.pt").stat().st_size)
    assert len(list((state / KEPT).iterdir())) == 2
    assert abs(sizes[1] - sizes[0]) < 2000
    resuming.train(cell)
    assert not state.exists()


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_without_what_it_names_is_passed_over(
    checkout: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    cell = small(case)
    resuming.train(cell)
    undisturbed = resuming.outputs(cell)
    with resuming.at_step(2 * resuming.STEPS + 1, resuming.asked), pytest.raises(StoppedError):
        resuming.train(cell)
    state = LAYOUT.state(cell.name, cell.last_stage) / "seed3"
    first, last = sorted((state / KEPT).iterdir(), key=lambda file: file.stat().st_mtime_ns)
    last.write_bytes(b"")
    resuming.train(cell)
    assert f"{KEPT}/{last.name} beside it does not have the checksum in manifest.json" in caplog.text
    assert first.name not in caplog.text
    assert resuming.outputs(cell) == undisturbed

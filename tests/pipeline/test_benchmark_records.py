"""What benchmarks/faults.py keeps, goes on from and counts; what benchmarks/sealing.py makes of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks import faults, sealing, system_faults
from benchmarks.faults import Known, Outcome


def test_faults_go_on_where_they_were_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Known] = []
    verdicts = {"a": ["survived in 3 s"], "b": ["LOST: it was", "survived in 5 s"], "c": ["not tried: no disk"] * 2}

    def part(known: Known, number: int) -> Iterator[Outcome]:
        asked.append(known)
        for name in verdicts:
            if ("kind", name) not in known:
                yield Outcome("system", "kind", name, verdicts[name][len(asked) - 1])

    monkeypatch.setitem(faults.PARTS, "system", part)
    words = ["--only", "system", "--record", str(tmp_path / "record")]
    assert faults.main(words) == 1
    first = capsys.readouterr().out
    assert "system: kind: b: LOST: it was" in first
    assert first.endswith("all faults held / tried: 1 / 2\n")
    assert faults.main(words) == 0
    assert asked == [set(), {("kind", "a")}]
    second = capsys.readouterr().out
    assert "LOST" not in second
    assert "system: kind: c: not tried: no disk" in second
    assert second.endswith("all faults held / tried: 2 / 2\n")


def test_a_fault_of_the_system_that_ends_in_an_error_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(bench: system_faults.Bench) -> None:
        raise AssertionError("other results")

    monkeypatch.setattr(system_faults, "Bench", lambda folder: None)
    monkeypatch.setattr(system_faults, "FAULTS", {"one": lost, "two": lambda bench: None, "three": lost})
    found = dict(system_faults.run(skip={"three"}))
    assert found == {"one": "LOST: AssertionError: other results", "two": "survived in 0 s"}
    assert not list(system_faults.run(only=["four"]))


def test_what_sealing_costs_is_a_share_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sealing, "LARGE", 1024**2)
    assert sealing.main() == 2
    folder = {"path": "models", "size": 30, "nfiles": 3}
    lock = {"stages": {"a": {"deps": [folder], "outs": [{"path": "x", "size": 5}]}, "b": {"outs": [folder]}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    cost = tmp_path / "runs/data/method/base/finetune/cost.json"
    cost.parent.mkdir(parents=True)
    for seconds, status in ((1000.0, 0), (1e-6, 1)):
        cost.write_text(json.dumps({"seconds": seconds}))
        assert sealing.main() == status
    assert "hashed at most: 7 files, 0.00 GB" in capsys.readouterr().out
    assert sealing.share(10, 2_000, 50.0, 0.1, 0.002) == (5.0, 0.1)

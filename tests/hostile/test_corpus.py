"""Every file of the corpus is refused by name, or read as if nothing were wrong with it where nothing is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.hostile.corpus import cases, equal, judged
from tests.hostile.formats import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_no_damage_goes_unnoticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cases").mkdir()
    verdicts = list(judged(name, FORMATS[name], tmp_path / "cases"))
    wrong = {case.name: verdict for case, verdict in verdicts if verdict not in ("refused", "unchanged")}
    assert not wrong
    assert len(verdicts) >= 10
    assert sum(verdict == "refused" for _, verdict in verdicts) >= len(verdicts) // 2
    assert [p.name for p in tmp_path.iterdir()] == ["cases"], "a file of the corpus ran a command"
    assert not Path("/tmp/hostile-was-here").exists()


def test_there_are_at_least_200_cases_over_all_formats(tmp_path: Path) -> None:
    total = 0
    for number, (name, form) in enumerate(FORMATS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        valid = form.write(folder).read_bytes()
        made = list(cases(name, form, valid))
        assert [c.raw for c in made] == [c.raw for c in cases(name, form, valid)], (
            "the corpus is the same at every call"
        )
        assert all(c.raw != valid for c in made)
        total += len(made)
    assert total >= 200


def test_values_are_compared_to_the_last_bit() -> None:
    one = {"a": [np.array([1.0, np.nan]), (1, "x")]}
    assert equal(one, {"a": [np.array([1.0, np.nan]), (1, "x")]})
    assert not equal(one, {"a": [np.array([1.0, 2.0]), (1, "x")]})
    assert not equal(one, {"a": [np.array([1.0, np.nan]), (1.0, "x")]})
    assert not equal(np.zeros(2), np.array([0.0, -0.0]))

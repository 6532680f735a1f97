"""What tables say beside their numbers: rates at an end of those tried, scores that no seed changes, sets of scenes."""

from __future__ import annotations

import math
from statistics import fmean
from types import SimpleNamespace

import pytest

from mmcontrast.report.results import shown
from mmcontrast.report.tables.formats import Value, text_of
from mmcontrast.report.text.wording import rates_at_an_end, told
from tests.grids import grid_of


def test_a_rate_at_an_end_of_those_tried_is_said_with_its_reason() -> None:
    choices = grid_of().tunings["shared"].choices["weak_modality"]
    at_an_end = [m for m, c in choices.items() if c.reason]
    assert {"cross", "mxm_clr"} <= set(at_an_end)
    said = rates_at_an_end(grid_of(), "matrix")
    assert said == [
        f"Weak modality, {label}: learning rate 3e-06, an end of those tried: {choices[method].reason}."
        for label, method in (("Cross (CLIP, CMC)", "cross"), ("MXM-CLR (reconstruction)", "mxm_clr"))
    ]
    assert rates_at_an_end(grid_of(), "m3col_omics") == []


def test_a_reason_is_no_mere_count_of_rates() -> None:
    """Of a rate at the lower end it says what an untrained network scores."""
    for choices in grid_of().tunings["shared"].choices.values():
        for method, choice in choices.items():
            if choice.missing_side == "lower":
                assert "the untrained network" in choice.reason, method
                means = {t.lr: f"{100 * fmean(t.validation):.1f} %" for t in choice.trials}
                if choice.reason.startswith("the lower the rate"):
                    assert f"falls from {means[choice.lr]} here to {means[1e-3]} at 0.001" in choice.reason


def test_a_score_that_no_seed_changes_has_no_interval() -> None:
    assert text_of(Value.of((0.76, 0.76, 0.76)), "score") == "76.0"
    assert text_of(Value.of((1.0, 1.0, 1.0)), "score") == "100.0"
    assert text_of(Value.of((0.76, 0.7599, 0.7601)), "score") == "76.0 [76.0, 76.0]"
    assert all(map(math.isnan, shown((0.76, 0.76 - 1e-15, 0.76 + 1e-15))[1:]))
    assert "has no brackets" in told("notes", "matrix_intervals")


@pytest.mark.parametrize(("dataset", "narrow"), [("sp_sw_har", True), ("handwritten", False)])
def test_an_interval_over_instances_of_few_scenes_is_not_called_95_percent(dataset: str, narrow: bool) -> None:
    of = SimpleNamespace(data=grid_of().datasets[dataset], n_seeds=5, n_instances=2550)
    said = told("notes", "wide_interval", of)
    assert ("95 % interval" not in said) == narrow
    assert ("too narrow to be called 95 %, since instances of one execution" in said) == narrow

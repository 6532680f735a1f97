"""One list of values is variants, rows and an axis; what is there already is not made twice."""

from __future__ import annotations

from typing import Any

import pytest

from mmcontrast.config.merging import Layers
from mmcontrast.config.sweeps import Expansion, spelled
from mmcontrast.errors import ConfigError
from tests.grids import grid_of

GRID = grid_of()
WHERE = "params/experiments/x.yaml"


def expand(sweep: dict[str, Any], **other: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    expansion = Expansion(Layers(GRID.declared, GRID.recipes, None), GRID.datasets)
    raw = {"datasets": ["tcga_brca"], "sweep": sweep} | other
    return expansion.experiment(raw, WHERE), expansion.variants


def test_values_make_variants_rows_labels_and_an_axis() -> None:
    raw, variants = expand({"m3col": {"objective.alpha": [0.05, 0.15, 2]}})
    assert variants == {"m3col": {v: {"objective": {"alpha": a}} for v, a in (("alpha_0_05", 0.05), ("alpha_2", 2))}}
    assert raw["cells"] == [
        {"method": "m3col", "variant": v, "label": f"alpha = {a}"}
        for v, a in (("alpha_0_05", "0.05"), ("base", "0.15"), ("alpha_2", "2"))
    ]
    assert raw["sweep"] == {
        "axis": "alpha",
        "scale": "log",
        "dataset": None,
        "series": {"M3CoL": {"m3col/alpha_0_05": 0.05, "m3col/base": 0.15, "m3col/alpha_2": 2}},
    }


def test_a_variant_of_the_methods_file_that_gives_the_value_is_taken() -> None:
    raw, variants = expand({"scale": "linear", "m3col": {"objective.schedule_fraction": [0, 0.33, 0.5, 1]}})
    assert [c["variant"] for c in raw["cells"]] == ["multisclip_only", "base", "fraction_0_5", "m3co_only"]
    assert list(variants["m3col"]) == ["fraction_0_5"]


def test_a_line_starts_from_a_variant_and_full_is_placed_at_the_training_rows() -> None:
    raw, variants = expand({"comm/shared": {"pretrain.batch_size": [128, "full"], "label": "{title}, {place}"}})
    assert variants == {"comm": {"shared_batch_full": {"recipe": "shared", "pretrain": {"batch_size": "full"}}}}
    assert [c["label"] for c in raw["cells"]] == ["CoMM, 128", "CoMM, 461"]


def test_rows_that_are_written_out_stay_and_panels_of_one_dataset_are_on_it_only() -> None:
    first = {"method": "m3col", "label": "as it is"}
    panel = {"dataset": "rosmap", "m3col": {"objective.tau": [0.1, 0.2]}}
    raw, _ = expand(
        {"m3col": {"objective.tau": [0.1]}}, cells=[first], panels=[panel], datasets=["tcga_brca", "rosmap"]
    )
    assert raw["cells"] == [first, {"method": "m3col", "variant": "tau_0_2", "label": "tau = 0.2", "only": ["rosmap"]}]
    assert raw["panels"][0]["series"] == {"M3CoL": {"m3col/base": 0.1, "m3col/tau_0_2": 0.2}}


@pytest.mark.parametrize(
    ("value", "name"),
    [(0.05, "0_05"), (1.0, "1"), (512, "512"), ("full", "full"), (1e-5, "1e_05"), ({"image": 2, "text": 1}, "2_1")],
)
def test_values_are_spelled_one_way(value: Any, name: str) -> None:
    assert spelled(value) == name


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ({"m3cl": {"objective.tau": [1]}}, r"sweep: no method 'm3cl'; did you mean 'm3col'"),
        ({"m3col/sharde": {"objective.tau": [1]}}, r"sweep: m3col: no variant 'sharde'; did you mean 'shared'"),
        ({"m3col": {"objektive.tau": [1]}}, r"sweep.m3col.* one key with its values .* objective"),
        ({"m3col": {"objective.tau": [1, 2], "places": [1]}}, "places: 1 of them for 2 values"),
        ({"m3col": {"objective.pairing": ["ring"]}}, "'ring' has no place on an axis; give `places`"),
        ({"axis": "tau"}, "no line is given"),
        ({"m3col": {"pretrain.epochs": [1]}}, "m3col has no `pretrain`, so there is no pretrain.epochs to vary"),
        ({"m3col": [{"objective.tau": [1]}, {"objective.alpha": [1]}]}, "there is a line 'M3CoL' already"),
        ({"m3col": {"finetune.epochs": [100]}}, r"is what it has on some of .*; give `dataset`"),
    ],
)
def test_a_wrong_sweep_is_refused(sweep: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=rf"params/experiments/x\.yaml: .*{told}"):
        expand(sweep, datasets=["tcga_brca", "rosmap"])


def test_two_sweeps_share_a_variant_and_may_not_differ_in_it() -> None:
    expansion = Expansion(Layers(GRID.declared, GRID.recipes, None), GRID.datasets)
    for values in ([32, 64], [64, 128]):
        raw = {"datasets": ["tcga_brca"], "sweep": {"m3col": {"finetune.batch_size": values}}}
        expansion.experiment(raw, WHERE)
    assert list(expansion.variants["m3col"]) == ["batch_32", "batch_64", "batch_128"]
    with pytest.raises(ConfigError, match="another variant 'batch_64' already"):
        expansion.experiment({"datasets": ["tcga_brca"], "sweep": {"m3col": {"objective.batch": [64]}}}, WHERE)

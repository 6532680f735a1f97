"""params/ is read, merged and refused as a user would expect."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, model_validator

from mmcontrast.config import Grid, Overrides, merge, validate
from mmcontrast.errors import ConfigError
from mmcontrast.pipeline.workflow import named_selection, selection
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of params/ that a test may spoil."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    return tmp_path


@pytest.fixture
def edit(checkout: Path) -> Edit:
    """Change one file of the copy."""

    def change(file: str, how: Callable[[dict[str, Any]], None]) -> None:
        path = checkout / "params" / file
        content = yaml.safe_load(path.read_text())
        how(content)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    return change


def test_every_suite_of_the_repository_is_in_order() -> None:
    for path in sorted((ROOT / "params/suites").glob("*.yaml")):
        assert grid_of(path.stem).cells, path


def test_later_layers_win(checkout: Path, edit: Edit) -> None:
    def change(m: dict[str, Any]) -> None:
        m["objective"]["alpha"] = 0.3
        m["datasets"]["tcga_brca"] = {"objective": {"alpha": 0.4, "tau": 0.2}}
        m["variants"]["strong"] = {"objective": {"alpha": 0.5}}

    edit("methods/m3col.yaml", change)
    grid = Grid(checkout)
    assert grid.cell("rosmap", "m3col").objective["alpha"] == 0.3
    assert grid.cell("tcga_brca", "m3col").objective["alpha"] == 0.4
    assert grid.cell("tcga_brca", "m3col", "strong").objective["alpha"] == 0.5
    assert grid.cell("tcga_brca", "m3col", "strong").objective["tau"] == 0.2


def test_a_baseline_borrows_encoders_and_recipe_but_no_objective(checkout: Path, edit: Edit) -> None:
    edit("methods/m3col.yaml", lambda m: m["datasets"]["rosmap"]["finetune"].update(epochs=123))
    grid = Grid(checkout)
    ours, theirs = grid.cell("rosmap", "concat"), grid.cell("rosmap", "m3col")
    assert ours.model == theirs.model
    assert ours.finetune == theirs.finetune
    assert ours.finetune is not None
    assert ours.finetune.epochs == 123
    assert "alpha" not in ours.objective


def test_suite_overrides_never_add_a_stage() -> None:
    grid = grid_of("smoke")
    assert grid.cell("tcga_brca", "m3col").stages == ["finetune"]
    assert grid.cell("tcga_brca", "m3col", "pretrained").stages == ["pretrain", "finetune"]


def test_merge_leaves_its_arguments_alone() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": None}
    over = {"a": {"b": 3}, "d": {"e": 4}}
    assert merge(base, over) == {"a": {"b": 3, "c": 2}, "d": {"e": 4}}
    assert base == {"a": {"b": 1, "c": 2}, "d": None}


def set_key(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content.setdefault(key, {})
        content[path[-1]] = value

    return change


FAULTS = [
    (
        "methods/m3col.yaml",
        set_key("objective", "alhpa", value=1),
        ["m3col.yaml", "objective.alhpa", "'alpha'"],
    ),
    ("methods/m3col.yaml", set_key("objective", "alpha", value=0), ["objective.alpha", "greater than 0"]),
    ("methods/m3col.yaml", set_key("objective", "alpha", value="high"), ["objective.alpha", "'high'"]),
    ("methods/m3col.yaml", set_key("objektive", value={}), ["methods/m3col.yaml", "objektive", "'objective'"]),
    ("methods/m3col.yaml", set_key("recipe_from", value="m3cl"), ["recipe_from", "'m3col'"]),
    ("methods/m3col.yaml", set_key("paper", value="m3cool"), ["paper", "'m3col'"]),
    ("methods/m3col.yaml", set_key("implementation", value="m3kol"), ["implementation", "'m3col'"]),
    ("methods/m3col.yaml", set_key("finetune", "batch_size", value=1), ["finetune", "nothing to contrast"]),
    ("methods/m3col.yaml", set_key("finetune", "optimizer", "lr", value=-1), ["finetune.optimizer.lr"]),
    ("methods/m3col.yaml", set_key("finetune", "optimizer", "leraning_rate", value=1), ["finetune.optimizer"]),
    ("methods/concat.yaml", set_key("finetune", value=None), ["neither `pretrain` nor `finetune`"]),
    ("methods/m3col.yaml", set_key("finetune", value=None), ["across/batch_size.yaml", "m3col has no `finetune`"]),
    ("methods/m3col.yaml", set_key("datasets", "rosmop", value={}), ["rosmop", "'rosmap'"]),
    ("methods/m3col.yaml", set_key("variants", "detached", "objectiv", value={}), ["objectiv", "'objective'"]),
    (
        "methods/unimodal.yaml",
        set_key("variants", "mrna", "objective", "modality", value="rna"),
        ["'mrna'", "tcga_brca"],
    ),
    (
        "methods/comm.yaml",
        set_key("objective", "augmentations", "vector", value=[{"name": "nois"}]),
        ["comm.yaml", "objective.augmentations", "vector[0]", "'noise'"],
    ),
    (
        "methods/simclr.yaml",
        set_key("objective", "augmentations", "vector", value=[{"name": "drop", "share": 2}]),
        ["simclr.yaml", "vector[0] (drop)", "share"],
    ),
    (
        "methods/comm.yaml",
        set_key("objective", value={"augmentations": {}, "unimodal_weight": 0, "fused_weight": 0}),
        ["comm.yaml", "nothing to minimise"],
    ),
    ("methods/cross.yaml", set_key("objective", "cross_weight", value=0), ["cross.yaml", "nothing to minimise"]),
    ("methods/comm.yaml", set_key("model", "fusion", "heds", value=4), ["model.fusion.heds", "'heads'"]),
    ("datasets/tcga_brca.yaml", set_key("split", "train", value=0.9), ["tcga_brca.yaml", "split", "must be 1"]),
    ("datasets/rosmap.yaml", set_key("split", "train", value=200), ["rosmap.yaml", "rows says 351"]),
    ("datasets/tcga_brca.yaml", set_key("metrics", value=["auc"]), ["two classes"]),
    ("datasets/tcga_brca.yaml", set_key("sources", value=[]), ["`sources`", "`generate`"]),
    ("datasets/tcga_brca.yaml", set_key("modalities", "mrna", "shape", value=[2, 3]), ["shape of 1 numbers"]),
    ("suites/default.yaml", set_key("seeds", value=[0, 0]), ["default.yaml", "repeats a seed"]),
    (
        "suites/default.yaml",
        lambda p: p.update(datasets=["tcga_brac"], seeds_by_dataset={}),
        ["default.yaml", "'tcga_brca'"],
    ),
    ("suites/default.yaml", set_key("experiments", value=["m3col"]), ["no experiment 'm3col'"]),
    ("suites/default.yaml", set_key("engine", "backend", value="tensorflow"), ["engine.backend", "'tensorflow'"]),
    (
        "experiments/m3col/m3col_parts.yaml",
        set_key("cells", value=[{"method": "concat"}, {"method": "m3col", "variant": "m3co"}]),
        ["m3co_only"],
    ),
    (
        "experiments/m3col/m3col_parts.yaml",
        set_key("cells", value=[{"method": "m3col"}]),
        ["m3col_parts", "kind: table"],
    ),
    (
        "methods/comm.yaml",
        set_key("datasets", "trifeature_mid", "objective", "augmentations", "image", value=[{"name": "rotate"}]),
        ["comm.yaml", "image[0]", "no augmentation 'rotate' for image", "'rotation'"],
    ),
    (
        "methods/comm.yaml",
        set_key("datasets", "trifeature_mid", "model", "image", value="smallconv"),
        ["comm.yaml", "model.image", "small_conv"],
    ),
    ("methods/comm.yaml", set_key("pretrain", "optimizer", "decay", value="some"), ["optimizer.decay", "'matrices'"]),
    ("datasets/trifeature_mid.yaml", set_key("class_weighted", value=["synergi"]), ["class_weighted: no task"]),
    (
        "datasets/trifeature_mid_biased.yaml",
        set_key("probe_from", value="trifeature_smal"),
        ["trifeature_mid_biased.yaml: probe_from", "'trifeature_mid'"],
    ),
    (
        "datasets/trifeature_mid_biased.yaml",
        set_key("probe_from", value="trifeature"),
        ["modalities of 'trifeature' are not those of 'trifeature_mid_biased'"],
    ),
    (
        "experiments/comm/comm_trifeature.yaml",
        set_key("information", "synergistic", value="synergi"),
        ["comm_trifeature.yaml: information", "no task 'synergi'", "'synergy'"],
    ),
    (
        "experiments/comm/comm_trifeature.yaml",
        set_key("information", "arms", value=[{"unbiased": "tcga_brca", "biased": "trifeature_mid_biased"}]),
        ["comm_trifeature.yaml: information.arms", "no 'tcga_brca' among"],
    ),
    (
        "experiments/comm/comm_probe.yaml",
        set_key("panels", value=[{"axis": "epochs", "series": {"a": {"comm/bas": 1}}}]),
        ["comm_probe.yaml", "panels: epochs", "comm/bas is no cell"],
    ),
    ("papers/m3col.yaml", set_key("yaer", value=2025), ["papers/m3col.yaml", "yaer", "'year'"]),
]


@pytest.mark.parametrize(("file", "change", "words"), FAULTS, ids=[f"{f}-{w[-1]}" for f, _, w in FAULTS])
def test_a_fault_is_named(
    checkout: Path, edit: Edit, file: str, change: Callable[[dict[str, Any]], None], words: list[str]
) -> None:
    edit(file, change)
    with pytest.raises(ConfigError) as e:
        Grid(checkout)
    for word in words:
        assert word in str(e.value)


class Stumbles(BaseModel):
    """A check that takes for granted what it is not given."""

    names: list[str]

    @model_validator(mode="after")
    def _first(self) -> Stumbles:
        assert self.names[0]
        return self


def test_a_check_that_stumbles_names_the_file() -> None:
    with pytest.raises(ConfigError, match=r"params/x\.yaml: \(whole file\): its keys do not fit together \(IndexError"):
        validate(Stumbles, {"names": []}, "params/x.yaml")


def test_an_unknown_implementation_is_named_for_a_variant_with_a_recipe(checkout: Path) -> None:
    grid = Grid(checkout)
    grid.methods["comm"] = grid.methods["comm"].model_copy(update={"implementation": "com"})
    with pytest.raises(ConfigError, match=r"comm\.yaml: implementation: no 'com'; did you mean 'comm'"):
        grid.cell("trifeature_mid", "comm", "shared")


def test_a_suite_that_takes_pretraining_away_takes_it_from_an_untrained_cell_too() -> None:
    grid = Grid(ROOT)  # of its own, as it is changed
    untrained = grid.methods["comm"].model_copy(update={"datasets": {}, "pretrain": {"epochs": 0}})
    grid.methods["comm"] = untrained
    grid.suite = grid.suite.model_copy(update={"overrides": Overrides(pretrain=None)})
    with pytest.raises(ConfigError, match=r"comm/base\): neither `pretrain` nor `finetune` is given"):
        grid.cell("trifeature_mid", "comm")


def test_one_modality_is_refused(checkout: Path, edit: Edit) -> None:
    edit("datasets/synthetic.yaml", set_key("modalities", value={"mrna": {"kind": "vector", "shape": [20]}}))
    with pytest.raises(ConfigError, match="at least two"):
        Grid(checkout).cell("synthetic", "m3col")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: [", ["line 2, column 1", "not valid YAML"]),
        ("title: a\ntitle: b\n", ["line 2", "'title' is given twice"]),
        ("- a\n- b\n", ["holds a list"]),
    ],
)
def test_what_is_not_yaml_is_refused(checkout: Path, text: str, words: list[str]) -> None:
    (checkout / "params/methods/m3col.yaml").write_text(text)
    with pytest.raises(ConfigError) as e:
        Grid(checkout)
    for word in ["params/methods/m3col.yaml", *words]:
        assert word in str(e.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"suit": "smoke"}, ["suit", "'suite'"]),
        ({"suite": "../methods/m3col"}, ["lower-case letters, digits and _"]),
        ({"suite": "smok"}, ["smok.yaml", "'smoke'"]),
        ({"datasets": ["rosmop"]}, ["'rosmap'"]),
        ({"datasets": 3}, ["a list of names"]),
        ({"datasets": ["synthetic"]}, ["none of the suite's experiments"]),
    ],
)
def test_a_wrong_selection_is_refused(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], words: list[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError) as e:
        selection(*named_selection(config))
    for word in words:
        assert word in str(e.value)


def test_datasets_can_be_run_on_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    grid, layout = selection(*named_selection({"datasets": ["rosmap"]}))
    assert {c.dataset for c in grid.cells.values()} == {"rosmap"}
    assert not layout.is_default
    assert layout.select == " --datasets rosmap"


@pytest.mark.parametrize("file", ["datasets/My-data.yaml", "suites/two words.yaml", "experiments/a/m3col_omics.yaml"])
def test_a_name_that_is_not_accepted_or_not_unique_is_refused(checkout: Path, file: str) -> None:
    path = checkout / "params" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("title: x\n")
    words = "has the same name" if "m3col_omics" in file else "lower-case letters, digits and _"
    with pytest.raises(ConfigError, match=rf"params/.*{words}"):
        Grid(checkout).files.names("suites")


@pytest.mark.parametrize(
    ("experiment", "keys"),
    [
        ("comm_epochs", ("pretrain", "epochs")),
        ("comm_batch_size", ("pretrain", "batch_size")),
        ("comm_temperature", ("objective", "tau")),
    ],
)
def test_a_cell_of_a_sweep_stands_where_its_parameters_say(experiment: str, keys: tuple[str, str]) -> None:
    grid = grid_of()
    spec = grid.experiments[experiment]
    assert spec.sweep is not None
    for line in spec.sweep.series.values():
        for name, place in line.items():
            for dataset in spec.datasets:
                section = grid.cell(dataset, *name.split("/")).model_dump()[keys[0]]
                assert section[keys[1]] == place, name

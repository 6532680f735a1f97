"""The study's cells differ in their objectives alone, and each learning rate is the best of its recorded trials."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmcontrast.config import CellConfig, Grid, Stage
from mmcontrast.errors import ConfigError
from mmcontrast.pipeline.tune import tuned_methods
from tests.grids import grid_of

ROOT = Path(__file__).parents[2]
MATRIX = "matrix"


def matrix_cells(grid: Grid) -> Iterator[CellConfig]:
    for dataset, ref in grid.experiment_cells(MATRIX):
        yield grid.cell(dataset, ref.method, ref.variant)


def stage_of(cell: CellConfig) -> Stage:
    stage: Stage = getattr(cell, cell.last_stage)
    return stage


def trained(cell: CellConfig) -> bool:
    return stage_of(cell).epochs > 0


def without_rate(stage: Stage) -> Stage:
    return stage.model_copy(update={"optimizer": stage.optimizer.model_copy(update={"lr": 1.0})})


def test_the_cells_of_a_dataset_differ_in_the_objective_alone() -> None:
    grid = grid_of()
    shared: dict[str, set[str]] = defaultdict(set)
    for cell in matrix_cells(grid):
        assert len(cell.stages) == 1, cell.name
        assert cell.scored_by == "probe", cell.name
        alike = [cell.model.model_dump_json(), cell.selection.model_dump_json(), cell.seeds]
        if trained(cell):
            alike.append(without_rate(stage_of(cell)).model_dump_json())
        shared[cell.dataset].add(str(alike[:3]))
        if trained(cell):
            shared[f"{cell.dataset}, training"].add(str(alike[3]))
    assert len(shared) == 2 * len(grid.experiments[MATRIX].datasets)
    assert {key: len(values) for key, values in shared.items()} == dict.fromkeys(shared, 1)


def test_methods_that_augment_see_the_same_views() -> None:
    views = defaultdict(set)
    for cell in matrix_cells(grid_of()):
        if trained(cell) and any(cell.objective.get("augmentations", {}).values()):
            kind = next(iter(cell.modalities.values())).kind
            views[cell.dataset].add(str(cell.objective["augmentations"][kind]))
    assert set(views) == set(grid_of().experiments[MATRIX].datasets)
    assert all(len(seen) == 1 for seen in views.values()), views


def test_every_cell_has_the_learning_rate_that_was_chosen_for_its_method() -> None:
    grid = grid_of()
    recipe, choices = grid.recipes["shared"], grid.tunings["shared"].choices
    for cell in matrix_cells(grid):
        if not trained(cell):
            continue
        tuned = recipe.tuning.datasets[cell.dataset]
        assert stage_of(cell).optimizer.lr == choices[tuned.choices_of or cell.dataset][cell.method].lr


def test_every_choice_is_between_rates_of_the_plan_and_has_as_many_trials_as_any_other() -> None:
    """Or says why not: a rate at an end of those that were tried is refused where there is no reason."""
    grid = grid_of()
    plan, choices = grid.recipes["shared"].tuning, grid.tunings["shared"].choices
    tried = [d for d, of_it in plan.datasets.items() if of_it.choices_of is None]
    tuned = {d: {m for m, _ in tuned_methods(grid, "shared", d)} for d in tried}
    assert {d: set(of_it) for d, of_it in choices.items()} == tuned
    for dataset, methods in choices.items():
        planned = plan.on(dataset)
        for method, choice in methods.items():
            assert {t.lr for t in choice.trials} >= set(planned.rates), (dataset, method)
            assert {len(t.validation) for t in choice.trials} <= {0, len(planned.seeds)}, (dataset, method)
            assert choice.tasks == planned.tasks
            assert choice.missing_side is None or choice.reason, (dataset, method)


def test_no_reported_run_has_the_seed_of_the_trials() -> None:
    grid = grid_of()
    seeds = {s for cell in grid.cells.values() for s in cell.seeds}
    assert not seeds & set(grid.recipes["shared"].tuning.seeds)


def test_a_recipe_replaces_what_a_method_has_of_its_own() -> None:
    grid = grid_of()
    own, shared = grid.cell("tcga_brca", "m3col"), grid.cell("tcga_brca", "m3col", "shared")
    assert shared.objective == own.objective
    assert shared.model != own.model
    assert (own.scored_by, shared.scored_by) == ("classifier", "probe")
    # supervised methods train the shared stage as finetune, the others as pretrain
    assert (shared.stages, grid.cell("tcga_brca", "comm", "shared").stages) == (["finetune"], ["pretrain"])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    return tmp_path


def change(file: Path, how: Any) -> None:
    content = yaml.safe_load(file.read_text())
    how(content)
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def test_a_missing_choice_names_the_command_that_makes_it(checkout: Path) -> None:
    change(checkout / "params/tuning/shared.yaml", lambda t: t["choices"]["tcga_brca"].pop("cross"))
    with pytest.raises(ConfigError, match=r"no learning rate of cross.*mmcontrast tune shared --datasets tcga_brca"):
        Grid(checkout)
    assert Grid(checkout, untuned=True).cells


def test_a_choice_that_is_not_the_best_is_refused(checkout: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        choice = content["choices"]["tcga_brca"]["cross"]
        scores = [t["validation"] for t in choice["trials"]]
        choice["lr"] = choice["trials"][scores.index(min(scores))]["lr"]

    change(checkout / "params/tuning/shared.yaml", spoil)
    with pytest.raises(ConfigError, match=r"tcga_brca.cross: lr: .* is not the best of its trials"):
        Grid(checkout)


def test_a_choice_at_an_end_of_what_was_tried_needs_a_reason(checkout: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        choice = content["choices"]["tcga_brca"]["cross"]
        choice["lr"] = max(choice["trials"], key=lambda t: t["lr"])["lr"]
        for trial in choice["trials"]:
            trial["validation"] = [float(trial["lr"] == choice["lr"])]
        choice.pop("reason", None)

    change(checkout / "params/tuning/shared.yaml", spoil)
    with pytest.raises(ConfigError, match=r"tcga_brca.cross: lr: 0.03 is at an end"):
        Grid(checkout)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"rates": [1e-3, 3e-4]}, r"rates: \[0.001, 0.0003\] are not in ascending order"),
        (
            {"datasets": {"emoji": {"choices_of": "tcga"}}},
            r"datasets.emoji.choices_of: 'tcga' is not one that is tried, \[\]",
        ),
        ({"datasets": {"emoji": {"choices_of": "tcga_brca", "seeds": [100]}}}, "choices_of: nothing is tried where"),
    ],
)
def test_a_plan_of_trials_is_checked(checkout: Path, plan: dict[str, Any], words: str) -> None:
    change(checkout / "params/recipes/shared.yaml", lambda r: r["tuning"].update(plan))
    with pytest.raises(ConfigError, match=words):
        Grid(checkout)


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ({"recipe": "sharde"}, "variants.shared.recipe: no recipe 'sharde'.*'shared'"),
        ({"train_for": 2.0}, "train_for: a factor on the epochs of a recipe, and there is none"),
        (
            {"recipe": "shared", "train_for": {"tcga_brc": 2.0}},
            "train_for: no dataset 'tcga_brc'; did you mean 'tcga_brca'",
        ),
        ({"recipe": "shared", "model": {"width": 3}}, "takes all of it, and this one gives model of its own"),
        ({"recipe": "shared", "pretrain": {"epochs": 3}}, "gives pretrain of its own"),
        ({"recipe": "shared", "pretrain": {"batch_size": 8, "epochs": 3}}, "gives pretrain of its own"),
        (
            {"recipe": "shared", "pretrain": {"batch_size": 8}, "model": {"width": 3}},
            "gives model, pretrain of its own",
        ),
    ],
)
def test_a_variant_takes_a_whole_recipe_or_none(checkout: Path, variant: dict[str, Any], words: str) -> None:
    change(checkout / "params/methods/comm.yaml", lambda m: m["variants"].update(shared=variant))
    with pytest.raises(ConfigError, match=words):
        Grid(checkout)


@pytest.mark.parametrize(
    ("method", "other", "own"), [("m3col", "pretrain", "finetune"), ("comm", "finetune", "pretrain")]
)
def test_a_batch_size_of_the_stage_that_a_method_does_not_have_is_refused(
    checkout: Path, method: str, other: str, own: str
) -> None:
    variant = {"recipe": "shared", other: {"batch_size": 8}}
    change(checkout / f"params/methods/{method}.yaml", lambda m: m["variants"].update(shared=variant))
    with pytest.raises(ConfigError, match=f"trained by `{own}`, and a variant gives `{other}`; give `{own}`"):
        Grid(checkout)


def test_a_dataset_may_have_other_counts_of_labels_than_its_recipe() -> None:
    grid = grid_of()
    recipe = grid.recipes["shared"]
    own = {d: o.label_counts for d, o in recipe.datasets.items() if o.label_counts is not None}
    assert own
    assert list(own.values()) != [recipe.label_counts]
    for cell in matrix_cells(grid):
        assert cell.label_counts == own.get(cell.dataset, recipe.label_counts)


def test_of_a_recipe_the_batch_size_alone_may_be_changed() -> None:
    grid = grid_of()
    whole, changed = (grid.cell("tcga_brca", "comm", v) for v in ("shared", "shared_batch_full"))
    assert whole.pretrain is not None
    assert whole.pretrain.batch_size == 128
    assert changed.pretrain == whole.pretrain.model_copy(update={"batch_size": "full"})
    assert (changed.model, changed.objective, changed.selection) == (whole.model, whole.objective, whole.selection)


@pytest.mark.parametrize(
    ("method", "variant"),
    [
        ("comm", "base"),
        ("comm", "shared"),
        ("cross", "shared"),
        ("tuple_infonce", "shared"),
        ("tuple_infonce", "early"),
    ],
)
def test_an_untrained_twin_has_no_epochs_and_nothing_else_is_different(method: str, variant: str) -> None:
    grid = grid_of()
    twin = grid.cell("handwritten", method, "untrained" if variant == "base" else f"{variant}_untrained")
    cell = grid.cell("handwritten", method, variant)
    assert cell.pretrain is not None
    assert twin.pretrain is not None
    assert (twin.pretrain.epochs, twin.finetune) == (0, None)
    # nothing is learned, so no learning rate was chosen
    rate = cell.pretrain.optimizer.model_copy(update={"lr": twin.pretrain.optimizer.lr})
    same = cell.pretrain.model_copy(update={"epochs": 0, "optimizer": rate})
    assert twin == cell.model_copy(update={"variant": twin.variant, "pretrain": same})


@pytest.mark.parametrize("name", ["comm/fine_tuned_untrained", "m3col/untrained", "cross/x_untrained"])
def test_what_learns_from_labels_or_is_not_there_has_no_untrained_twin(name: str) -> None:
    method, variant = name.split("/")
    with pytest.raises(ConfigError, match=f"{method}.yaml: variants: no variant '{variant}'"):
        grid_of().cell("handwritten", method, variant)


def test_equal_steps_and_equal_seconds_change_the_epochs_and_nothing_else() -> None:
    grid = grid_of()
    whole, steps = (grid.cell("weak_modality", "comm", v).pretrain for v in ("shared", "shared_batch_512_steps"))
    assert whole is not None
    assert steps == whole.model_copy(update={"batch_size": 512, "epochs": 4 * whole.epochs})
    long = {d: grid.cell(d, "cross", "shared_as_long_as_comm") for d in ("weak_modality", "tcga_brca", "rosmap")}
    for dataset, factor in (("weak_modality", 9), ("tcga_brca", 10), ("rosmap", 1)):
        plain = grid.cell(dataset, "cross", "shared")
        assert plain.pretrain is not None
        longer = plain.pretrain.model_copy(update={"epochs": factor * plain.pretrain.epochs})
        assert long[dataset] == plain.model_copy(update={"variant": "shared_as_long_as_comm", "pretrain": longer})
    twin = grid.cell("weak_modality", "comm", "shared_batch_512_steps_untrained").pretrain
    assert twin is not None
    assert twin.epochs == 0


@pytest.mark.parametrize(
    ("file", "change_to", "words"),
    [
        (MATRIX, lambda e: e["cells"][0].update(only=["tcga_brac"]), "not among the experiment's datasets"),
        ("defects", lambda e: e.pop("figures"), "give some of agreement, contrasts, cost"),
        ("defects", lambda e: e["contrasts"][0].update(cell="m3col/bas"), "m3col/bas is no cell .* on tcga_brca"),
        ("batch_size", lambda e: e["panels"][0].update(dataset="rosmap"), "'rosmap' is not among"),
        ("negatives", lambda e: e.pop("contrasts"), "contrasts shows `contrasts`, and there are none"),
        ("mixup", lambda e: e["panels"][1].update(scale="log"), "0 has no place on a logarithmic axis"),
        (MATRIX, lambda e: e.pop("columns"), "a matrix has columns"),
    ],
)
def test_what_a_study_shows_is_checked(checkout: Path, file: str, change_to: Any, words: str) -> None:
    change(next((checkout / "params/experiments").rglob(f"{file}.yaml")), change_to)
    with pytest.raises(ConfigError, match=words):
        Grid(checkout)


@pytest.mark.parametrize(
    ("experiment", "keys"),
    [
        ("mixup", ["alpha", "p_select"]),
        ("m3col_terms", ["tau", "schedule_fraction"]),
        ("batch_size", ["batch_size"] * 4),
    ],
)
def test_a_cell_of_a_panel_stands_where_its_parameters_say(experiment: str, keys: list[str]) -> None:
    grid = grid_of()
    spec = grid.experiments[experiment]
    for panel, key in zip(spec.panels, keys, strict=True):
        dataset = panel.dataset or spec.datasets[0]
        for line in panel.series.values():
            for name, place in line.items():
                cell = grid.cell(dataset, *name.split("/"))
                found = stage_of(cell).batch_size if key == "batch_size" else cell.objective[key]
                assert place == (train_rows(grid, dataset) if found == "full" else found), name


def train_rows(grid: Grid, dataset: str) -> int:
    """Rows of the training split; of a random one what is left of the rounded others."""
    data = grid.datasets[dataset]
    if data.split.kind == "published":
        return data.split.train
    return data.rows - round(data.split.val * data.rows) - round(data.split.test * data.rows)


def test_a_search_leaves_at_least_half_of_the_training_rows_to_train_on() -> None:
    grids = [grid_of(), grid_of("tuple_further_sets")]
    searched = {c.name: (grid, c) for grid in grids for c in grid.cells.values() if c.objective.get("search")}
    assert {"weak_modality/tuple_infonce/searched", "tcga_brca/tuple_infonce/searched"} <= set(searched)
    for name, (grid, cell) in searched.items():
        assert 2 * cell.objective["search"]["held_out"] <= train_rows(grid, cell.dataset), name

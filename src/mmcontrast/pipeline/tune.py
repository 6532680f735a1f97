"""Equal tuning: every method is tried at the same learning rates, and the linear probe's validation score decides.

Trials use a separate tuning seed. The probe is fitted on embeddings of the train split and scored on the validation
split; the test split is not used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mmcontrast.config import CellConfig, Grid, Recipe
from mmcontrast.config.checks import has_file
from mmcontrast.config.methods import Variant
from mmcontrast.config.metrics import measure
from mmcontrast.config.yaml_file import read_yaml
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.paths import Layout
from mmcontrast.pipeline.plan import put

HEADER = """\
# Written by `mmcontrast tune {recipe}`: what each method was tried with on each dataset, and what was chosen.
# Trials are of seed {seed}, which no reported run has; `validation` is the linear probe's score on validation.
"""

Trainer = Callable[[CellConfig, Layout], float]


def tune(grid: Grid, recipe_name: str, datasets: list[str] | None = None, train: Trainer | None = None) -> Path:
    """Run every trial of a recipe's plan, and write params/tuning/<recipe>.yaml, which is returned, after each method.

    What the file says of other datasets stays.

    Args:
        grid: read with `untuned`, as there may be no choices yet.
        datasets: of the plan's; default: all. Another one raises ConfigError.
        train: (cell, where its outputs go) -> the validation score; default: training and a probe.
    """
    has_file("recipe", recipe_name, grid.recipes)
    recipe = grid.recipes[recipe_name]
    planned = recipe.tuning.datasets
    for name in datasets or []:
        if name not in planned:
            where = f"tune: params/recipes/{recipe_name}.yaml"
            raise ConfigError(f"{where} does not tune on '{name}'; {nearest(name, planned)}")
    file = grid.root / "params" / "tuning" / f"{recipe_name}.yaml"
    for dataset in datasets or planned:
        for method, variant in tuned_methods(grid, recipe_name, dataset):
            choice = try_rates(grid.cell(dataset, method, variant), recipe, train or probe_after_training)
            _record(file, recipe_name, recipe, dataset, method, choice)
            print(f"{dataset}/{method}: {choice['lr']:g} of {[t['lr'] for t in choice['trials']]}", flush=True)
    return file


def tuned_methods(grid: Grid, recipe: str, dataset: str) -> list[tuple[str, str]]:
    """(method, variant) of every method whose cell shares the recipe on a dataset and is trained, of all experiments.

    A method is tuned once, as the first variant in its file with the recipe; its other variants take that choice.
    """
    shared = [
        (ref.method, ref.variant)
        for experiment in grid.experiments.values()
        for ref in experiment.cells
        if dataset in (ref.only or experiment.datasets)
        and grid.methods[ref.method].variants.get(ref.variant, Variant()).recipe == recipe
    ]
    first = {m: next(v for v in grid.methods[m].variants if (m, v) in shared) for m, _ in shared}
    cells = [(m, v, grid.cell(dataset, m, v)) for m, v in first.items()]
    return [(m, v) for m, v, cell in cells if getattr(cell, cell.last_stage).epochs]


def try_rates(cell: CellConfig, recipe: Recipe, train: Trainer) -> dict[str, Any]:
    """The trials of one cell, and its choice: the best on validation; ties go to the first."""
    trials = []
    stage = getattr(cell, cell.last_stage)
    # starts faster, and an engine changes no result
    engine = cell.engine.model_copy(update={"backend": "torch", "zero_stage": 0})
    for i, lr in enumerate(recipe.tuning.rates):
        changed = stage.model_copy(update={"optimizer": stage.optimizer.model_copy(update={"lr": lr})})
        trial = cell.model_copy(update={cell.last_stage: changed, "seeds": [recipe.tuning.seed], "engine": engine})
        started = time.process_time()
        score = train(trial, Layout(f"tune_{cell.recipe}_{i}"))
        seconds = time.process_time() - started
        trials.append({"lr": lr, "validation": round(score, 6), "seconds": round(seconds, 1)})
    best = max(trials, key=lambda t: measure(cell.metrics[0]).sign * t["validation"])
    return {"lr": best["lr"], "metric": cell.metrics[0], "trials": trials}


def probe_after_training(cell: CellConfig, layout: Layout) -> float:
    """Train the cell's one seed; the probe's score on validation, by the cell's first metric."""
    from mmcontrast.evaluation.embeddings import read_embeddings
    from mmcontrast.evaluation.probe import fit_probe
    from mmcontrast.training.cell import run_stage

    run_stage(cell, cell.last_stage, layout)
    embeddings = read_embeddings(Path(layout.scored(cell.name, cell.last_stage, cell.scored_by)), cell)
    train, val = (embeddings[cell.seeds[0], split] for split in ("train", "val"))
    probe = fit_probe(train.z, train.labels, val.z, val.labels, len(cell.classes), cell.metrics[0])
    return probe.validation[probe.strength]


def _record(file: Path, name: str, recipe: Recipe, dataset: str, method: str, choice: dict[str, Any]) -> None:
    """Lay one choice over what the file holds by now, whoever wrote it."""
    choices: dict[str, Any] = read_yaml(file)["choices"] if file.exists() else {}
    choices.setdefault(dataset, {})[method] = choice
    ordered = {d: dict(sorted(choices[d].items())) for d in sorted(choices)}
    text = HEADER.format(recipe=name, seed=recipe.tuning.seed)
    text += yaml.safe_dump({"choices": ordered}, sort_keys=False, default_flow_style=None, width=110)
    put(file, text, sync=True)

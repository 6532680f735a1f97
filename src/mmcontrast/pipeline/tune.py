"""Equal tuning: every method is tried at the same learning rates, and the linear probe's validation score decides.

Trials use separate tuning seeds, and never the test split: the probe is fitted on train embeddings and scored on
validation. Where the best rate is at an end, further ones are tried beyond it.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from mmcontrast.config import CellConfig, Grid, Recipe
from mmcontrast.config.base import known
from mmcontrast.config.files import read_yaml
from mmcontrast.config.methods import Choice, Trial, TunedDataset, Variant, best_trial
from mmcontrast.config.metrics import measure
from mmcontrast.config.sweeps import spelled
from mmcontrast.errors import DivergedError
from mmcontrast.paths import Layout
from mmcontrast.pipeline.plan import put

HEADER = """\
# Written by `mmcontrast tune {recipe}`: what each method was tried with on each dataset, and what was chosen.
# Trials are of seeds that no reported run has, of {seeds}; `validation` and `loss` are the linear probe's, by seed.
"""
# rates that are tried at most beyond either end of the plan's
BEYOND = 3

Scored = list[tuple[float, float]]  # score and loss on validation, by seed
Trainer = Callable[[CellConfig, Layout, Sequence[str]], Scored]


def tune(
    grid: Grid,
    recipe_name: str,
    datasets: list[str] | None = None,
    methods: list[str] | None = None,
    train: Trainer | None = None,
) -> Path:
    """Run every trial of a recipe's plan, and write params/tuning/<recipe>.yaml, which is returned, after each method.

    What the file says of other datasets and methods stays. `grid`: read with `untuned`, as there may be no choices yet.
    `datasets`, `methods`: of those that share the recipe (default: all); another one raises ConfigError. `train`:
    (cell, where its outputs go, further tasks) -> validation scores; default: training and a probe per task.
    """
    known("params/recipes/", "recipe", recipe_name, grid.recipes)
    recipe = grid.recipes[recipe_name]
    where = f"tune: params/recipes/{recipe_name}.yaml"
    tried = [d for d, of_it in recipe.tuning.datasets.items() if of_it.choices_of is None]
    known(f"{where}: tuning.datasets", "dataset", datasets, tried)
    cells = {d: tuned_methods(grid, recipe_name, d) for d in datasets or tried}
    known(f"{where}: methods that share it", "method", methods, sorted({m for of in cells.values() for m, _ in of}))
    file = grid.root / "params" / "tuning" / f"{recipe_name}.yaml"
    for dataset, of_it in cells.items():
        for method, variant in of_it:
            if methods is not None and method not in methods:
                continue
            choice = try_rates(grid.cell(dataset, method, variant), recipe, train or probe_after_training)
            _record(file, recipe_name, recipe, dataset, method, choice)
            print(f"{dataset}/{method}: {choice.lr:g} of {sorted({t.lr for t in choice.trials})}", flush=True)
    return file


def tuned_methods(grid: Grid, recipe: str, dataset: str) -> list[tuple[str, str]]:
    """(method, variant) of every trained method whose cell shares the recipe on a dataset, of all experiments: once, as
    the first variant in its file with the recipe; its other variants take that choice.
    """
    shared = [
        (ref.method, ref.variant)
        for experiment in grid.experiments.values()
        for ref in experiment.cells
        if dataset in (ref.only or experiment.datasets)
        and (grid.methods[ref.method].variant(ref.variant) or Variant()).recipe == recipe
    ]
    of_it = {m: [v for v in grid.methods[m].variants if (m, v) in shared] for m, _ in shared}
    cells = [(m, of[0], grid.cell(dataset, m, of[0])) for m, of in of_it.items() if of]
    return [(m, v) for m, v, cell in cells if getattr(cell, cell.last_stage).epochs]


def try_rates(cell: CellConfig, recipe: Recipe, train: Trainer) -> Choice:
    """The trials of one cell, and its choice: the best on validation, between rates that were tried as well."""
    plan, metric = recipe.tuning.on(cell.dataset), cell.metrics[0]
    rates = plan.rates or []
    lowest, highest = rates[0], rates[-1]
    trials = [_trial(cell, lr, plan, train) for lr in rates]
    while True:
        best = best_trial(trials, metric)
        chosen = Choice(lr=best.lr, metric=metric, tasks=plan.tasks, reason="not known yet", trials=trials)
        if chosen.missing_side is None:
            return chosen.model_copy(update={"reason": None})
        rates = sorted(t.lr for t in trials)
        if len([r for r in rates if not lowest <= r <= highest]) == BEYOND:
            return chosen.model_copy(update={"reason": _at_the_end(cell, chosen, plan, train)})
        trials.append(_trial(cell, _beyond(rates, chosen.missing_side), plan, train))


def _at_the_end(cell: CellConfig, chosen: Choice, plan: TunedDataset, train: Trainer) -> str:
    """Why a rate is the best though it is at an end: of the lowest, what the untrained network scores beside it."""
    tried = f"the best of {len(chosen.trials)} rates, {BEYOND} beyond the plan's"
    if chosen.missing_side == "higher" or cell.pretrain is None or cell.last_stage != "pretrain":
        return tried
    of = measure(chosen.metric)
    untrained = cell.model_copy(update={"pretrain": cell.pretrain.model_copy(update={"epochs": 0})})
    trials = (best_trial(chosen.trials, chosen.metric), _trial(untrained, chosen.lr, plan, train))
    best, without = (of.sign * fmean(trial.validation) for trial in trials)
    scores = [f"{abs(of.factor * score):.4g}{of.unit}" for score in (best, without)]
    than = "no rate is better than no training" if without >= best else "the lowest rate is the best"
    return f"{than}: {tried}, scores {scores[0]} on validation, and the untrained network {scores[1]}"


def _beyond(rates: Sequence[float], side: str) -> float:
    """One step further than the ascending rates, of the size of their last step, with one significant digit."""
    first, second = rates[:2] if side == "lower" else rates[:-3:-1]
    return float(f"{first**2 / second:.0e}")


def _trial(cell: CellConfig, lr: float, plan: TunedDataset, train: Trainer) -> Trial:
    stage = getattr(cell, cell.last_stage)
    stage = stage.model_copy(update={"optimizer": stage.optimizer.model_copy(update={"lr": lr})})
    # starts faster, and an engine changes no result
    engine = cell.engine.model_copy(update={"backend": "torch", "zero_stage": 0})
    trial = cell.model_copy(update={cell.last_stage: stage, "seeds": plan.seeds, "engine": engine})
    started = time.process_time()
    try:
        where = Layout("_".join(["tune", str(cell.recipe), spelled(lr), spelled(stage.batch_size)]))
        found = train(trial, where, plan.tasks)
    except DivergedError:
        found = []
    seconds = round(time.process_time() - started, 1)
    scores, losses = ([round(of_seed[i], 6) for of_seed in found] for i in (0, 1))
    return Trial(lr=lr, validation=scores, loss=losses, seconds=seconds)


def probe_after_training(cell: CellConfig, layout: Layout, tasks: Sequence[str] = ()) -> Scored:
    """Train the cell; by seed the probes' mean score on validation, of the cell's first metric, and their mean loss."""
    from mmcontrast.evaluation.probe_predictions import fit_on
    from mmcontrast.evaluation.scores import score
    from mmcontrast.evaluation.stored import read_embeddings
    from mmcontrast.training.cell import run_stage

    run_stage(cell, cell.last_stage, layout)
    embeddings = read_embeddings(Path(layout.scored(cell.name, cell.last_stage, cell.scored_by)), cell)
    out = []
    for seed in cell.seeds:
        scores, losses = [], []
        for task in ("", *tasks):
            probe, val = fit_on(embeddings, cell, seed, task), embeddings[seed, "val"].cases(task)
            scores.append(score(cell.metrics[0], val.labels, probe.predict(val.z), val.weights.get("")))
            losses.append(probe.validation[probe.strength])
        out.append((fmean(scores), fmean(losses)))
    return out


def _record(file: Path, name: str, recipe: Recipe, dataset: str, method: str, choice: Choice) -> None:
    choices: dict[str, Any] = read_yaml(file)["choices"] if file.exists() else {}
    choices.setdefault(dataset, {})[method] = choice.model_dump(mode="json", exclude_none=True)
    ordered = {d: dict(sorted(choices[d].items())) for d in sorted(choices)}
    text = HEADER.format(recipe=name, seeds=recipe.tuning.seeds)
    text += yaml.safe_dump({"choices": ordered}, sort_keys=False, default_flow_style=None, width=110)
    put(file, text, sync=True)

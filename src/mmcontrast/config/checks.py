"""Hold the files of `params/` against one another, so that a fault shows before any work starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmcontrast.config.experiments import Experiment, MatrixColumn
from mmcontrast.config.methods import BASE_VARIANT, Method
from mmcontrast.errors import ConfigError, nearest

if TYPE_CHECKING:
    from mmcontrast.config.datasets import Dataset
    from mmcontrast.config.grid import Grid


def known(where: str, what: str, name: str | None, names: Iterable[str]) -> None:
    """Raise ConfigError, with the nearest name there is, for a name that nothing has; None names nothing."""
    names = list(names)
    if name is not None and name not in names:
        raise ConfigError(f"{where}: no {what} '{name}'; {nearest(name, names)}")


def known_variant(where: str, spec: Method, name: str | None) -> None:
    """As `known`, of a method's variants and their untrained twins."""
    if name is not None and spec.variant(name) is None:
        known(where, "variant", name, [BASE_VARIANT, *spec.variants])


def has_file(kind: str, name: str, names: Iterable[str]) -> None:
    """Raise ConfigError for a name that no file of params/<kind>s/ has."""
    if name not in names:
        raise ConfigError(f"no {kind} '{name}' in params/{kind}s/; {nearest(name, names)}")


def check_datasets(grid: Grid) -> None:
    """A probe is fitted on a dataset of the same modalities, classes and tasks; features are of the same instances."""
    for name, data in grid.datasets.items():
        if data.features_of is not None:
            _check_features(name, data, grid)
        if data.probe_from is None:
            continue
        where = f"params/datasets/{name}.yaml: probe_from"
        known(where, "dataset", data.probe_from, grid.datasets)
        for key in ("modalities", "classes", "target", "tasks", "scenes"):
            if getattr(grid.datasets[data.probe_from], key) != getattr(data, key):
                raise ConfigError(f"{where}: {key} of '{data.probe_from}' are not those of '{name}'")


def _check_features(name: str, data: Dataset, grid: Grid) -> None:
    """Everything but the encoded modalities is as in the dataset that they are features of."""
    where = f"params/datasets/{name}.yaml"
    known(f"{where}: features_of", "dataset", data.features_of, grid.datasets)
    base = grid.datasets[str(data.features_of)]
    for key in ("classes", "target", "tasks", "scenes", "rows"):
        if getattr(base, key) != getattr(data, key):
            raise ConfigError(f"{where}: {key}: not that of '{data.features_of}', whose features these are")
    if data.split.kind != "published":
        raise ConfigError(f"{where}: split: give `kind: published` and the sizes of the splits of '{data.features_of}'")
    if list(base.modalities) != list(data.modalities):
        raise ConfigError(f"{where}: modalities: '{data.features_of}' has {list(base.modalities)}, in this order")
    for m, was in base.modalities.items():
        now = data.modalities[m]
        changed = {"kind": "vector", "shape": now.shape, "encoded": False} if m in data.encoders else {}
        wanted = was.model_copy(update=changed)
        if now != wanted or (m in data.encoders and was.kind == "vector"):
            raise ConfigError(
                f"{where}: modalities.{m}: '{data.features_of}' has {was.model_dump(exclude_defaults=True)}; expected "
                f"{wanted.model_dump(exclude_defaults=True)}"
            )


def check_methods(grid: Grid) -> None:
    """What a method borrows, overrides and cites exists."""
    for name, spec in grid.declared.items():
        where = f"params/methods/{name}.yaml"
        known(f"{where}: recipe_from", "method", spec.recipe_from, grid.declared)
        for dataset in spec.datasets:
            known(f"{where}: datasets", "dataset", dataset, grid.datasets)
        for variant, given in spec.variants.items():
            known(f"{where}: variants.{variant}.recipe", "recipe", given.recipe, grid.recipes)
            for dataset in given.train_for if isinstance(given.train_for, dict) else []:
                known(f"{where}: variants.{variant}.train_for", "dataset", dataset, grid.datasets)
        known(f"{where}: paper", "paper", spec.paper, grid.papers)


def check_recipes(grid: Grid) -> None:
    """Recipes name datasets that exist, and choices belong to a recipe."""
    for name, recipe in grid.recipes.items():
        for key, named in {"datasets": list(recipe.datasets), "tuning.datasets": list(recipe.tuning.datasets)}.items():
            for dataset in named:
                known(f"params/recipes/{name}.yaml: {key}", "dataset", dataset, grid.datasets)
    for name in grid.tunings:
        if name not in grid.recipes:
            raise ConfigError(f"params/tuning/{name}.yaml: there is no params/recipes/{name}.yaml")


def check_experiment(experiment: Experiment, where: str, grid: Grid) -> None:
    """What an experiment names exists. Its cells are built, and so checked, by the grid."""
    for dataset in experiment.datasets:
        known(f"{where}: datasets", "dataset", dataset, grid.datasets)
    known(f"{where}: paper", "paper", experiment.paper, grid.papers)
    if experiment.paper is not None:
        known(f"{where}: published", "table", experiment.published, grid.papers[experiment.paper].published)
    for column in experiment.columns:
        _check_column(f"{where}: columns: {column.title}", column, grid)
    asked = experiment.information
    if asked is None:
        return
    for name in [dataset for arms in asked.arms for dataset in (arms.unbiased, arms.biased)]:
        if name not in experiment.datasets:
            near = nearest(name, experiment.datasets)
            raise ConfigError(f"{where}: information.arms: no '{name}' among this experiment's datasets; {near}")
        for task in (*asked.unique, asked.synergistic):
            known(f"{where}: information: {name}", "task", task, grid.datasets[name].tasks)
        if other := [
            t for t in ("", *asked.unique, asked.synergistic) if grid.datasets[name].targets[t].kind != "classes"
        ]:
            what = f"task '{other[0]}'" if other[0] else "target"
            raise ConfigError(f"{where}: information: {name}: its {what} is not classes, which the measures ask for")


def _check_column(at: str, column: MatrixColumn, grid: Grid) -> None:
    """Its parts exist, and are scored by one metric, of which there is a mean."""
    metrics = {}
    for part in column.parts:
        targets = grid.datasets[part.dataset].targets
        known(f"{at}: {part.dataset}", "task", part.task, targets)
        metrics[targets[part.task or ""].metrics[0]] = part
    if len(metrics) > 1:
        said = ", ".join(f"{metric} ({part.task or part.dataset})" for metric, part in metrics.items())
        raise ConfigError(f"{at}: parts of different metrics have no mean: {said}; give each a column of its own")


def check_published(grid: Grid) -> None:
    """Every published row that stands beside ours is of a dataset, method and metric that there is."""
    placed = [
        (f"params/papers/{name}.yaml: published.{key}.rows[{i}] ({row.row})", row)
        for name, paper in grid.papers.items()
        for key, table in paper.published.items()
        for i, row in enumerate(table.rows)
    ]
    for at, row in placed:
        known(f"{at}: dataset", "dataset", row.dataset, grid.datasets)
        data = grid.datasets[row.dataset]
        metrics = [f"{t}/{m}" if t else m for t, target in data.targets.items() for m in target.metrics]
        for metric in row.values:
            known(f"{at}: values", "metric", metric, [*metrics, *(["R", "U", "S"] if data.tasks else [])])
        known(f"{at}: method", "method", row.method, grid.methods)
        if row.method is not None:
            known_variant(f"{at}: variant", grid.methods[row.method], row.variant)

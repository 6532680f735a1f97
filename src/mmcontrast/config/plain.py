"""A grid, or what one experiment's report needs of it, as plain objects that JSON can hold.

A report job is given these and reads no file of params/, so that an edit during a run changes nothing in it. Of other
experiments, datasets, methods and variants nothing is in them, so that a change there leaves them as they are.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mmcontrast.config.grid import Grid
from mmcontrast.config.merging import SHARED_SECTIONS
from mmcontrast.config.methods import BASE_VARIANT

KINDS = ("datasets", "methods", "experiments", "recipes", "tuning", "papers")


def whole(grid: Grid) -> dict[str, Any]:
    """Everything but other suites: `Grid.from_plain` makes the same grid of it."""
    named = [("suites", grid.suite_name)] + [(kind, name) for kind in KINDS for name in grid.files.names(kind)]
    files = {grid.files.where(kind, name): grid.files.raw(kind, name) for kind, name in named}
    return _plain(grid, grid.dataset_names, files)


def subset(grid: Grid, experiment: str) -> dict[str, Any]:
    """What decides the report of one experiment, its results aside.

    Of other methods there is the name alone, which decides who has which colour.
    """
    spec = grid.experiments[experiment]
    files = {grid.files.where("experiments", experiment): grid.written_out[experiment]}

    def take(kind: str, name: str, **changed: Any) -> None:
        raw = grid.files.raw(kind, name)
        files[grid.files.where(kind, name)] = raw | {k: v for k, v in changed.items() if v or k in raw}

    selected = [d for d in grid.dataset_names if d in spec.datasets]
    seeds = {d: s for d, s in grid.suite.seeds_by_dataset.items() if d in selected}
    take("suites", grid.suite_name, description="", experiments=[experiment], datasets=selected, seeds_by_dataset=seeds)
    probed = [grid.datasets[d].probe_from for d in spec.datasets]
    for dataset in dict.fromkeys([*spec.datasets, *filter(None, probed)]):
        take("datasets", dataset)

    cited = {spec.paper}
    used: dict[str, set[str]] = {}
    for ref in [*spec.cells, *([spec.reference] if spec.reference else [])]:
        used.setdefault(ref.method, set()).add(ref.variant)
    lenders = {grid.methods[m].recipe_from for m in used}
    recipes: dict[str, set[str]] = {}
    for method, spec_of_it in grid.methods.items():
        if method in used:
            raw = grid.files.raw("methods", method)
            named = [v for v in (*spec_of_it.variants, *sorted(used[method])) if v in used[method] - {BASE_VARIANT}]
            found = {v: given for v in named if (given := spec_of_it.variant(v)) is not None}
            made = {v: given.model_dump(mode="json", exclude_unset=True) for v, given in found.items()}
            variants = made | _only(raw.get("variants"), made)
            take("methods", method, datasets=_only(raw.get("datasets"), spec.datasets), variants=variants)
            cited.add(spec_of_it.paper)
            for given in found.values():
                if given.recipe is not None:
                    recipes.setdefault(given.recipe, set()).add(method)
        elif method in lenders:
            raw = grid.files.raw("methods", method)
            shared = {d: _only(v, SHARED_SECTIONS) for d, v in _only(raw.get("datasets"), spec.datasets).items()}
            kept = _only(raw, ("title", "implementation", *SHARED_SECTIONS))
            files[grid.files.where("methods", method)] = kept | {"datasets": shared}
        else:
            files[grid.files.where("methods", method)] = {"title": method, "implementation": "none"}
    for recipe, methods in recipes.items():
        take("recipes", recipe, datasets=_only(grid.files.raw("recipes", recipe).get("datasets"), spec.datasets))
        if recipe in grid.files.names("tuning"):
            tuned = grid.recipes[recipe].tuning.datasets
            tried_on = [tuned[d].choices_of or d for d in spec.datasets if d in tuned]
            choices = _only(grid.files.raw("tuning", recipe)["choices"], tried_on)
            take("tuning", recipe, choices={d: _only(of_it, methods) for d, of_it in choices.items()})
    for paper in sorted(filter(None, cited)):
        table = [spec.published] if paper == spec.paper and spec.published else []
        take("papers", paper, published=_only(grid.files.raw("papers", paper).get("published"), table), not_run={})
    return _plain(grid, selected, files)


def _plain(grid: Grid, datasets: list[str], files: dict[str, Any]) -> dict[str, Any]:
    return {"suite": grid.suite_name, "datasets": datasets, "untuned": grid.untuned, "files": files}


def _only(mapping: dict[str, Any] | None, keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in (mapping or {}).items() if key in keys}

"""What one call runs: a suite, and perhaps other datasets than the suite's own."""

from __future__ import annotations

from typing import Any

from mmcontrast.config import Grid
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.paths import Layout

ACCEPTED = ("suite", "datasets")


def selection(suite: str = "default", datasets: list[str] | None = None) -> tuple[Grid, Layout]:
    """The grid, and its paths.

    Raises ConfigError where anything in params/ is wrong, or nothing would be run.
    """
    grid = Grid(suite=suite, datasets=datasets)
    if not grid.cells:
        usable = sorted({d for e in grid.suite.experiments for d in grid.experiments[e].datasets})
        raise ConfigError(
            f"suite '{suite}' with datasets {grid.dataset_names}: none of the suite's experiments has a cell on "
            f"them; its experiments use {usable}"
        )
    return grid, Layout(suite, datasets)


def named_selection(config: dict[str, Any]) -> tuple[str, list[str] | None]:
    """The suite's name, and the datasets, from Snakemake's `--config suite=NAME datasets=[A,B]`.

    Raises ConfigError where another key is given, or a value has the wrong type.
    """
    for key in config:
        if key not in ACCEPTED:
            raise ConfigError(f"--config {key}=...: unknown key; {nearest(key, ACCEPTED)}; all else is set in params/")
    suite, datasets = config.get("suite", "default"), config.get("datasets")
    if isinstance(datasets, str):
        datasets = [datasets]
    if not isinstance(suite, str):
        raise ConfigError(f"--config suite={suite!r}: the name of a file in params/suites/ is accepted")
    if datasets is not None and not (isinstance(datasets, list) and all(isinstance(d, str) for d in datasets)):
        raise ConfigError(f"--config datasets={datasets!r}: a list of names is accepted, e.g. 'datasets=[rosmap]'")
    return suite, datasets

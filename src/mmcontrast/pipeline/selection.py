"""What one call runs: a profile, and perhaps other datasets than the profile's own."""

from __future__ import annotations

from typing import Any

from mmcontrast.config import Study
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.paths import Layout

ACCEPTED = ("profile", "datasets")


def selection(profile: str = "default", datasets: list[str] | None = None) -> tuple[Study, Layout, str]:
    """The study, its paths, and the arguments that repeat the selection on the command line.

    Raises:
        ConfigError: anything in params/ is wrong, or nothing would be run.
    """
    study = Study(profile=profile, datasets=datasets)
    if not study.cells:
        usable = sorted({d for e in study.profile.experiments for d in study.experiments[e].datasets})
        raise ConfigError(
            f"profile '{profile}' with datasets {study.dataset_names}: none of the profile's experiments has a cell on "
            f"them; its experiments use {usable}"
        )
    arguments = "" if profile == "default" else f" --profile {profile}"
    if datasets is not None:
        arguments += " --datasets " + " ".join(datasets)
    return study, Layout(profile, datasets), arguments


def selection_from_config(config: dict[str, Any]) -> tuple[Study, Layout, str]:
    """The same from Snakemake's `--config profile=NAME datasets=[A,B]`.

    Raises:
        ConfigError: another key is given, or a value has the wrong type.
    """
    for key in config:
        if key not in ACCEPTED:
            raise ConfigError(f"--config {key}=...: unknown key; {nearest(key, ACCEPTED)}; all else is set in params/")
    profile, datasets = config.get("profile", "default"), config.get("datasets")
    if isinstance(datasets, str):
        datasets = [datasets]
    if not isinstance(profile, str):
        raise ConfigError(f"--config profile={profile!r}: the name of a file in params/profiles/ is accepted")
    if datasets is not None and not (isinstance(datasets, list) and all(isinstance(d, str) for d in datasets)):
        raise ConfigError(f"--config datasets={datasets!r}: a list of names is accepted, e.g. 'datasets=[rosmap]'")
    return selection(profile, datasets)

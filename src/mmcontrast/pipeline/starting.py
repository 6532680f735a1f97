"""What a user starts with: a workspace, a dataset of their own, a method of their own. Nothing is overwritten."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from mmcontrast.config.files import NAME, read_yaml
from mmcontrast.errors import ConfigError

STARTERS = Path(__file__).parents[1] / "starters"
RECIPE = Path("params/recipes/shared.yaml")


def new_workspace(folder: Path) -> list[str]:
    """params/ as they come with the package, and the workflow. Raises ConfigError: something is there already."""
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: not empty; name a folder that is not there yet")
    for name in ("params", "workflow"):
        shutil.copytree(STARTERS / name, folder / name)
    shutil.copy(STARTERS / "Snakefile", folder / "Snakefile")
    return [f"{folder}: written. Next: cd {folder}; mmcontrast new dataset NAME FILE..."]


@contextmanager
def all_or_nothing(name: str) -> Iterator[None]:
    """What `new_dataset` has written goes again where what is done here fails, so that it can be tried again."""
    before = {place: place.read_bytes() if place.exists() else None for place in (*_places(name).values(), RECIPE)}
    try:
        yield
    except BaseException:
        for place, content in before.items():
            place.unlink(missing_ok=True) if content is None else place.write_bytes(content)
        raise


def _places(name: str) -> dict[str, Path]:
    return {kind: Path(f"params/{kind}/{name}.yaml") for kind in ("datasets", "experiments", "suites")}


def new_dataset(name: str, files: Sequence[str], told: Mapping[str, str]) -> list[str]:
    """params/ of a dataset, an experiment and a suite, all of one name; what was written, and a line per guess.
    `files`: as named from the current folder. `told`: role of `guess.USUAL` -> column. Raises ConfigError: the name is
    not accepted or taken; DataError: see `guess.Guess`.
    """
    from mmcontrast.data.guess import Guess

    places = _places(name)
    _refuse_taken(name, places.values())
    guess = Guess(files, told)
    values = guess.values
    scored = "retrieval" if "retrieval" in values else "probe"
    starter = read_yaml(STARTERS / "dataset.yaml")
    about = {"title": name, "description": f"Own data: {', '.join(Path(f).name for f in files)}."} | starter["dataset"]
    kinds = sorted({spec["kind"] for spec in values["modalities"].values()} & set(starter["encoders"]))
    model = {"fusion": {"width": 32 * len(values["modalities"])}}
    for kind in kinds:
        model |= starter["encoders"][kind]
    recipe = {name: {"model": model, "augmentations": {kind: starter["augmentations"][kind] for kind in kinds}}}
    experiment = {"title": f"Methods on {name}"} | starter["experiment"] | {"datasets": [name]}
    experiment |= starter["compared"][scored]
    if "text" in kinds:  # which has no numbers, so that there are no raw inputs of it
        experiment["cells"] = [row for row in experiment["cells"] if row["method"] != "raw"]
    if scored == "probe" and not kinds:  # its recipe has encoders of vectors alone
        experiment["cells"] = [*experiment["cells"], starter["classifier"]]
    suite = {"description": f"The experiment on {name}.", "datasets": [name], "experiments": [name]} | starter["suite"]
    head = f"# Written by `mmcontrast new dataset {name}`; edit it. What was guessed:\n"
    head += "".join(f"# - {line}\n" for line in guess.said)
    _write(places["datasets"], head, about | values)
    _write(places["experiments"], "", experiment)
    _write(places["suites"], "", suite)
    if scored == "probe":
        _add_to_recipe(name, recipe)
    return [*guess.said, *(f"{path}: written" for path in places.values())]


def _add_to_recipe(name: str, entry: dict[str, Any]) -> None:
    """Put a dataset's encoders below `datasets` of the shared recipe, which is the last key there."""
    there = read_yaml(RECIPE).get("datasets", {})
    if there.get(name) == entry[name]:
        return
    if name in there:
        was = f"there already, {there[name]}, and these files ask for {entry[name]}"
        raise ConfigError(f"{RECIPE}: datasets.{name}: {was}; remove it, or take another name")
    lines = yaml.safe_dump(entry, sort_keys=False, width=116, default_flow_style=None).splitlines()
    RECIPE.write_text(RECIPE.read_text(encoding="utf-8") + "".join(f"  {line}\n" for line in lines), encoding="utf-8")
    if set(entry) - set(read_yaml(RECIPE).get("datasets", {})):
        raise ConfigError(f"{RECIPE}: `datasets` is not its last key; put {entry} there by hand")


def new_method(name: str, experiment: str | None) -> list[str]:
    """Code, params and test of a method that trains as it is; with `experiment` also a row of that one. Raises
    ConfigError: the name is not accepted or taken, or there is no such experiment.
    """
    from mmcontrast.methods.registry import implementations

    folder, params = Path("methods") / name, Path(f"params/methods/{name}.yaml")
    _refuse_taken(name, [folder, params])
    if name in implementations():
        raise ConfigError(f"'{name}': a method of this name comes with the package; take another")
    listed = sorted(Path("params/experiments").rglob(f"{experiment}.yaml")) if experiment else []
    if experiment and (not listed or "\ncells:\n" not in listed[0].read_text(encoding="utf-8")):
        raise ConfigError(f"--experiment {experiment}: no file of this name with `cells` in params/experiments/")
    words = {"name": name, "title": name.replace("_", " "), "camel": name.title().replace("_", "")}
    targets = {folder / "objective.py": "objective.py.txt", folder / "method.py": "method.py.txt",
               folder / f"test_{name}.py": "test.py.txt", params: "params.yaml"}  # fmt: skip
    for path, template in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((STARTERS / "method" / template).read_text(encoding="utf-8").format(**words), encoding="utf-8")
    for path in listed[:1]:
        row = rf"\ncells:\n\1- {{method: {name}, variant: shared, label: {words['title']}}}\n\1"
        path.write_text(re.sub(r"\ncells:\n( *)", row, path.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    implementations.cache_clear()
    return [f"{path}: written" for path in (*targets, *listed[:1])]


def as_source(file: str, here: Path) -> str:
    """A file that a user names from the folder `here`, as `sources` has it from the current one."""
    path = os.path.normpath(here / file)
    if Path(file).is_absolute():
        return path
    relative = os.path.relpath(path)
    return relative if relative.startswith("..") else f"./{relative}"


def _refuse_taken(name: str, places: Any) -> None:
    if not re.fullmatch(r"[a-z]" + NAME.pattern[:-1] + "*", name):
        raise ConfigError(f"'{name}': not accepted as a name; use lower-case letters, digits and _, a letter first")
    # a name is unique in its kind, whatever folders are below it
    there = [[place] if place.exists() else sorted(place.parent.rglob(place.name)) for place in places]
    if taken := [str(path) for found in there for path in found]:
        raise ConfigError(f"{taken[0]}: there already; take another name, or remove it")


def _write(path: Path, head: str, values: dict[str, Any]) -> None:
    text = yaml.safe_dump(values, sort_keys=False, width=116, default_flow_style=None, allow_unicode=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + text, encoding="utf-8")
    read_yaml(path)

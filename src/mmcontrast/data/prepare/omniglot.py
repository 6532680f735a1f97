"""Omniglot: handwritten characters as pictures and as the movements of the pen that drew them.

Layout of Lake et al.'s release: `images_*.zip` with `<folder>/<alphabet>/character<NN>/<CCCC>_<DD>.png`, black on
white, and `strokes_*.zip` with a text of the same name for each. `DD` is the person who drew: twenty, each of whom drew
all characters of an alphabet once. A text has the line START, then `x,y,t`, in pixels, y negative downwards, t in
milliseconds, and BREAK where the pen is lifted. The two small background sets share two alphabets, byte for byte.
The archives are pinned, so what is in them is not checked again.

A drawing is an instance, and splits are by person: what is scored are characters that train has, by hands that it has
not. With `multifold: true` of both modalities a character is one, and splits are by alphabet: its pictures are of half
of the people and its movements of the others, so that no two are of one act.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.pictures import pixels
from mmcontrast.errors import ConfigError

MEMBER = re.compile(r"^(images|strokes)_\w+/([^/]+)/character(\d\d)/\d{4}_(\d\d)\.(png|txt)$")
SIDE = 105
QUARTILES, QUARTILE_ENDS = ["shortest", "short", "long", "longest"], [0.25, 0.5, 0.75]
TASKS = ("alphabet", "strokes", "duration")
STEP = ["x", "y", "dx", "dy", "log time", "drawn"]
MODALITIES = {"image": ("image", [1]), "pen": ("sequence", [len(STEP)])}


class OmniglotOptions(Strict):
    """`prepare` in the dataset's file."""

    every: int = Field(default=1, ge=1, description="Take every so many of a stroke's points, and its last one.")
    val: list[int | str] = Field(description="People, by number, or alphabets of characters whose drawings validate.")
    test: list[int | str] = Field(description="The same of those that are tested on; all others train.")


class Drawing:
    """One character by one person: where its picture and its strokes are."""

    def __init__(self, alphabet: str, character: str, person: int) -> None:
        self.alphabet, self.person = alphabet, person
        self.name, self.id = f"{alphabet} {character}", f"{alphabet}/{character}/{person:02d}"
        self.read: dict[str, Callable[[], bytes]] = {}

    def strokes(self) -> list[np.ndarray]:
        """Of each stroke (points, 3): x, y, t."""
        strokes: list[list[list[float]]] = [[]]
        for line in self.read["strokes"]().decode("ascii").split():
            if line == "BREAK":
                strokes.append([])
            elif line != "START":
                strokes[-1].append([float(number) for number in line.split(",")])
        return [np.array(points) for points in strokes if points]


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All drawings, by alphabet, character and person."""
    where = f"params/datasets/{name}.yaml"
    options = validate(OmniglotOptions, dataset.prepare, where, prefix="prepare")
    found = {m: (s.kind, s.shape[:1] if s.kind == "image" else s.shape[1:]) for m, s in dataset.modalities.items()}
    multifold = {s.multifold for s in dataset.modalities.values()}
    if found != MODALITIES or len(multifold) > 1:
        raise ConfigError(
            f"{where}: modalities: give `image` of one channel, and `pen`, a sequence of {len(STEP)} numbers per step; "
            "both or none with `multifold: true`"
        )
    drawings = _drawings(raw_dir, [source.url.rpartition("/")[2] for source in dataset.sources if source.kind == "url"])
    whole = multifold == {True}
    _check_names(where, "classes", dataset.classes, {"character"} if whole else {d.name for d in drawings})
    if unknown := {*options.val, *options.test} - {d.alphabet if whole else d.person for d in drawings}:
        accepted = "alphabets, by name" if whole else "people, by number"
        raise ConfigError(f"{where}: prepare: nothing is drawn by or in {sorted(unknown, key=str)}; give {accepted}")
    known = {"alphabet": {d.alphabet for d in drawings}, "duration": set(QUARTILES)}
    for task, target in dataset.targets.items():
        if task and (whole or task not in TASKS or target.kind != "classes"):
            known_tasks = "of characters none" if whole else f"each of classes: {TASKS}"
            raise ConfigError(f"{where}: tasks: no '{task}' of kind {target.kind}; known, {known_tasks}")
        if task in known:
            _check_names(where, f"tasks.{task}", target.names, known[task])
    by, instances = ("alphabet", _characters) if whole else ("person", _instances)
    rule = f"by {by}: drawings of {options.val} validate, those of {options.test} are tested on, all others train"
    return Stream(instances(dataset, options, drawings), {"pen": STEP}, split_rule=rule)


def _check_names(where: str, key: str, names: list[str], found: set[str]) -> None:
    if odd := sorted(set(names) ^ found):
        which = "the data have it, and the file does not" if odd[0] in found else "the data do not have it"
        raise ConfigError(f"{where}: {key}: '{odd[0]}': {which}; list all {len(found)}")


def _drawings(raw_dir: Path, archives: list[str]) -> list[Drawing]:
    out: dict[str, Drawing] = {}
    for file in archives:
        archive = zipfile.ZipFile(raw_dir / file)
        for member in archive.namelist():
            if parts := MEMBER.match(member):
                kind, alphabet, character, person, _ = parts.groups()
                drawing = Drawing(alphabet, character, int(person))
                out.setdefault(drawing.id, drawing).read.setdefault(kind, partial(archive.read, member))
    return [out[key] for key in sorted(out)]


def _instances(dataset: Dataset, options: OmniglotOptions, drawings: list[Drawing]) -> Iterator[Instance]:
    splits = dict.fromkeys(options.val, "val") | dict.fromkeys(options.test, "test")
    split_of = [splits.get(d.person, "train") for d in drawings]
    ends = [d.strokes()[-1][-1, 2] for d in drawings]
    quartiles = np.quantile([t for t, split in zip(ends, split_of, strict=True) if split == "train"], QUARTILE_ENDS)
    shape, names = dataset.modalities["image"].shape, {task: t.names for task, t in dataset.targets.items()}
    for drawing, split, duration in zip(drawings, split_of, ends, strict=True):
        strokes = drawing.strokes()
        named = {
            "alphabet": drawing.alphabet,
            "duration": QUARTILES[int(np.searchsorted(quartiles, duration))],
            "strokes": names["strokes"][min(len(strokes), len(names["strokes"])) - 1] if "strokes" in names else "",
        }
        yield Instance(
            drawing.id,
            {"image": picture(drawing, shape), "pen": pen(strokes, options.every)},
            dataset.classes.index(drawing.name),
            split,
            {task: names[task].index(named[task]) for task in dataset.tasks},
            group=f"{drawing.alphabet}, person {drawing.person}",
        )


def _characters(dataset: Dataset, options: OmniglotOptions, drawings: list[Drawing]) -> Iterator[Instance]:
    splits = dict.fromkeys(options.val, "val") | dict.fromkeys(options.test, "test")
    for name, group in groupby(drawings, key=lambda d: d.name):
        drawn = list(group)
        seen, traced = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
        values = {
            "image": [picture(d, dataset.modalities["image"].shape) for d in seen],
            "pen": [pen(d.strokes(), options.every) for d in traced],
        }
        yield Instance(name, values, 0, splits.get(drawn[0].alphabet, "train"))


def picture(drawing: Drawing, shape: list[int]) -> np.ndarray:
    """(1, H, W) uint8, ink bright."""
    with Image.open(io.BytesIO(drawing.read["images"]()), formats=["PNG"]) as image:
        grey = ImageOps.invert(image.convert("L"))
    return pixels(grey.resize((shape[2], shape[1]), Image.Resampling.BOX))


def pen(strokes: list[np.ndarray], every: int) -> np.ndarray:
    """(T, 6) steps of a pen: where to, by how much, log(1 + milliseconds) it takes, and 1 where it draws, else 0.
    Lengths are in sides of the picture, to the right and down; the first step leads from its middle. `strokes`:
    (points, 3) of each: x, y, t.
    """
    kept = [s[np.unique([*range(0, len(s), every), len(s) - 1])] for s in strokes]
    x, y, t = np.concatenate(kept).T
    drawn = np.concatenate([np.arange(len(s)) > 0 for s in kept])
    place = np.stack([x, -y], axis=1) / SIDE
    dt = np.log1p(np.maximum(np.diff(t, prepend=t[0]), 0))
    return np.column_stack([place, np.diff(place, axis=0, prepend=[[0.5, 0.5]]), dt, drawn])

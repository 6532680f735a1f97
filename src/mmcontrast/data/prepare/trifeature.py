"""Bimodal Trifeature: pairs of images of one shape, for what a contrastive objective keeps of redundant, unique and
synergistic information.

Split, pairs and the map M are those of CoMM's released generator at seed 42 (2,400 and 200 images; 576,846, 57,636,
4,094 and 404 candidate pairs). A combination is (shape, texture, colour); a split owns its combinations. A pair shares
its shape; a BIASED pair also has colour(second) = M[texture(first)]. Probes are always on unbiased pairs: share = the
shape, unique1 and unique2 = the textures, synergy = whether (texture of the first, colour of the second) is in M. What
the released generator does not say plainly: an image may be paired with itself, and textures may be equal.

N images, P pairs.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmcontrast.data.prepare import trifeature_images as images
from mmcontrast.errors import nearest

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
TASKS = ("share", "unique1", "unique2", "synergy")


class Counts(BaseModel):
    """A number for each split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(gt=0)
    val: int = Field(default=0, ge=0)
    test: int = Field(gt=0)


class Generate(BaseModel):
    """`generate` of a Trifeature dataset; the defaults are the published construction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shapes: list[str] = list(images.SHAPES)
    textures: list[str] = list(images.TEXTURES)
    colours: list[str] = list(images.COLOURS)
    size: int = Field(default=224, ge=8, description="Height and width of an image.")
    shape_size: float = Field(default=128 / 224, gt=0, le=1, description="Side of the template, share of the image.")
    period: int = Field(default=images.PERIOD, ge=2, description="Period of the textures, pixels.")
    gap: float = Field(default=images.BACKGROUND, ge=0, le=1, description="Brightness between a texture's strokes.")
    combinations: Counts = Field(default=Counts(train=800, val=0, test=200), description="Combinations of each split.")
    stratify: bool = Field(default=False, description="Hold out as many combinations of each shape (not published).")
    renders: Counts = Field(default=Counts(train=3, val=0, test=1), description="Images of each combination.")
    pairs: Counts = Field(default=Counts(train=10_000, val=0, test=10_000), description="Most pairs of each split.")
    biased: bool = Field(default=False, description="Pretraining pairs respect M (the arm for synergy).")
    seed: int = Field(default=42, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for key, known in (("shapes", images.SHAPES), ("textures", images.TEXTURES), ("colours", images.COLOURS)):
            names = getattr(self, key)
            for name in names:
                if name not in known:
                    raise ValueError(f"{key}: no '{name}'; {nearest(name, known)}")
            if len(set(names)) != len(names) or len(names) < 2:
                raise ValueError(f"{key}: at least two different names, not {names}")
        if len(self.textures) != len(self.colours):
            raise ValueError(
                f"M pairs textures with colours one to one, and there are {len(self.textures)} and {len(self.colours)}"
            )
        c, total = self.combinations, len(self.shapes) * len(self.textures) * len(self.colours)
        if c.train + c.val + c.test != total:
            raise ValueError(f"combinations: {c.train} + {c.val} + {c.test} must be all {total} there are")
        if self.stratify and (c.val % len(self.shapes) or c.test % len(self.shapes)):
            raise ValueError(
                f"stratify: val ({c.val}) and test ({c.test}) must be multiples of {len(self.shapes)} shapes"
            )
        if len({bool(c.val), bool(self.renders.val), bool(self.pairs.val)}) > 1:
            raise ValueError("val: combinations, renders and pairs must all be given or all be 0")
        return self

    @property
    def side(self) -> int:
        """Side of the template in pixels."""
        return round(self.shape_size * self.size)


@dataclass(frozen=True)
class ImageList:
    """The images of a split, in the order of their names.

    Attributes:
        names: N file names. attributes: (N, 3) class indices of shape, texture, colour. serial: (N,) number of the
        image in the order of generation, which seeds its rendering.
    """

    names: list[str]
    attributes: np.ndarray
    serial: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs of images of one split.

    Attributes:
        rows: (P, 2) rows of the split's ImageList. candidates: how many pairs they were drawn from.
    """

    rows: np.ndarray
    candidates: int


def split_flags(params: Generate) -> np.ndarray:
    """(combinations,) index into SPLITS, in the order shape -> texture -> colour."""
    c, rng = params.combinations, np.random.default_rng(params.seed)
    groups = len(params.shapes) if params.stratify else 1
    flags = [np.repeat([2, 1, 0], np.array([c.test, c.val, c.train]) // groups) for _ in range(groups)]
    for group in flags:
        rng.shuffle(group)
    return np.concatenate(flags)


def list_images(params: Generate, split: Split) -> ImageList:
    """The split's images by name, `shape_texture_colour[_k].png`; the number only where a split renders several."""
    several = getattr(params.renders, split) > 1
    entries = []
    serial = 0
    combos = [(s, t, c) for s in params.shapes for t in params.textures for c in params.colours]
    for combo, flag in zip(combos, split_flags(params), strict=True):
        own: Split = SPLITS[flag]
        for k in range(getattr(params.renders, own)):
            if own == split:
                name = "_".join(combo) + (f"_{k}" if several else "") + ".png"
                where = (params.shapes.index(combo[0]), params.textures.index(combo[1]), params.colours.index(combo[2]))
                entries.append((name, where, serial))
            serial += 1
    entries.sort(key=lambda e: e[0])
    return ImageList(
        [e[0] for e in entries],
        np.array([e[1] for e in entries], np.int64).reshape(-1, 3),
        np.array([e[2] for e in entries], np.int64),
    )


def texture_to_colour(params: Generate) -> np.ndarray:
    """M: (textures,) the colour that goes with each texture; the first draw of the pairs' generator."""
    return np.random.default_rng(params.seed).permutation(len(params.textures))


def draw_pairs(params: Generate, split: Split, biased: bool) -> Pairs:
    """Pairs of equal shape without replacement, in the order they were drawn; all of them where there are too few."""
    rng = np.random.default_rng(params.seed)
    mapping = rng.permutation(len(params.textures))
    shape_N, texture_N, colour_N = list_images(params, split).attributes.T
    possible_NN = shape_N[:, None] == shape_N[None, :]
    if biased:
        possible_NN &= mapping[texture_N][:, None] == colour_N[None, :]
    candidates = np.argwhere(possible_NN)
    chosen = rng.choice(len(candidates), size=min(getattr(params.pairs, split), len(candidates)), replace=False)
    return Pairs(candidates[chosen], len(candidates))


def task_labels(params: Generate, listed: ImageList, pairs: Pairs) -> dict[str, np.ndarray]:
    """(P,) int64 for each of the four probes."""
    first, second = listed.attributes[pairs.rows[:, 0]], listed.attributes[pairs.rows[:, 1]]
    fits = texture_to_colour(params)[first[:, 1]] == second[:, 2]
    return {"share": first[:, 0], "unique1": first[:, 1], "unique2": second[:, 1], "synergy": fits.astype(np.int64)}


def task_classes(params: Generate) -> dict[str, list[str]]:
    """Names of the classes of each probe."""
    return {
        "share": params.shapes,
        "unique1": params.textures,
        "unique2": params.textures,
        "synergy": ["apart", "in M"],
    }


def render_images(params: Generate, listed: ImageList) -> np.ndarray:
    """(N, 3, size, size) uint8. Every image has a generator of its own, so the order of the threads changes nothing."""
    out = np.empty((len(listed.names), 3, params.size, params.size), np.uint8)

    def some(rows: np.ndarray) -> None:
        for row in rows:
            shape, texture, colour = listed.attributes[row]
            rng = np.random.default_rng([params.seed, int(listed.serial[row])])
            names = params.shapes[shape], params.textures[texture], params.colours[colour]
            out[row] = images.render(*names, rng, params.size, params.side, params.period, params.gap)

    chunks = np.array_split(np.arange(len(out)), max(1, -(-len(out) // 64)))
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(some, chunks):
            pass
    return out

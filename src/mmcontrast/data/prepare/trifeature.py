"""Bimodal Trifeature: pairs (P) of images (N) of one shape, for what a contrastive objective keeps of redundant, unique
and synergistic information.

Split, pairs and the map M are those of CoMM's released generator at seed 42 (2,400 and 200 images; 576,846, 57,636,
4,094 and 404 candidate pairs). A combination is (shape, texture, colour); a split owns its combinations. A pair shares
its shape; a BIASED pair also has colour(second) = M[texture(first)]. Probes are always on unbiased pairs: share = the
shape, unique1 and unique2 = the textures, synergy = whether (texture of the first, colour of the second) is in M. What
the released generator does not say plainly: an image may be paired with itself, and textures may be equal.

With `seen` (not published) val and test also have pairs of fresh renders of the combinations that train has. These are
the cases of the tasks; pairs of new combinations are those of the same tasks with the suffix `_new`. For synergy pairs
then have weights (`balanced`), and there is a task for the other half of it, colour2 = the colour of the second.

A row is a pair, with two images and a label for each probe. The dataset's own label is the shape (the probe `share`);
the other probes are its tasks. Of a biased dataset `train` alone is biased: it names in `probe_from` the unbiased
dataset of the same seed, whose train pairs are of the same images, and `val` and `test` are the same in both.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.instances import Instance, Stream
from mmcontrast.data.prepare import trifeature_images as images
from mmcontrast.errors import ConfigError, DataError, nearest
from mmcontrast.paths import SPLITS

NEW = "_new"
RAKES = 100
LABEL, GROUP_ROWS = "share", 512
# serial numbers of fresh renders begin at multiples of it
FRESH_SERIAL = 1_000_000


class Counts(Strict):
    """A number for each split."""

    train: int = Field(gt=0)
    val: int = Field(default=0, ge=0)
    test: int = Field(gt=0)


class Fresh(Strict):
    """What val and test have of the combinations that train has."""

    renders: int = Field(gt=0, description="Further images of each combination, in each of the two splits.")
    pairs: int = Field(gt=0, description="Most pairs of each of the two splits.")


class Generate(Strict):
    """`generate` of a Trifeature dataset; the defaults are the published construction."""

    shapes: list[str] = Field(default=list(images.SHAPES))
    textures: list[str] = Field(default=list(images.TEXTURES))
    colours: list[str] = Field(default=list(images.COLOURS))
    size: int = Field(default=224, ge=8, description="Height and width of an image.")
    shape_size: float = Field(default=128 / 224, gt=0, le=1, description="Side of the template, share of the image.")
    period: int = Field(default=images.PERIOD, ge=2, description="Period of the textures, pixels.")
    gap: float = Field(default=images.BACKGROUND, ge=0, le=1, description="Brightness between a texture's strokes.")
    combinations: Counts = Field(default=Counts(train=800, val=0, test=200), description="Combinations of each split.")
    stratify: bool = Field(
        default=False,
        description="Hold out every texture and every colour of each shape equally often (not published).",
    )
    renders: Counts = Field(default=Counts(train=3, val=0, test=1), description="Images of each combination.")
    pairs: Counts = Field(default=Counts(train=10_000, val=0, test=10_000), description="Most pairs of each split.")
    seen: Fresh | None = Field(default=None, description="Score on combinations that train has, too (not published).")
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
        once = len(self.shapes) * len(self.textures)
        if self.stratify and (c.val % once or c.test % once):
            raise ValueError(
                f"stratify: val ({c.val}) and test ({c.test}) must be multiples of {once}, the textures of all shapes"
            )
        if self.seen and not (c.val and self.stratify):
            raise ValueError("seen: needs `stratify: true` and combinations of val")
        if len({bool(c.val), bool(self.renders.val), bool(self.pairs.val)}) > 1:
            raise ValueError("val: combinations, renders and pairs must all be given or all be 0")
        return self

    @property
    def side(self) -> int:
        """Side of the template in pixels."""
        return round(self.shape_size * self.size)


class ImageList(NamedTuple):
    """N file names in their order, (N, 3) class indices of shape, texture and colour, and (N,) the number of each image
    in the order of generation, which seeds its rendering.
    """

    names: list[str]
    attributes: np.ndarray
    serial: np.ndarray


class Pairs(NamedTuple):
    """Ordered pairs of images as (P, 2) rows of the split's ImageList, and how many pairs they were drawn from."""

    rows: np.ndarray
    candidates: int


def split_flags(params: Generate) -> np.ndarray:
    """(combinations,) index into SPLITS, in the order shape -> texture -> colour."""
    c, rng = params.combinations, np.random.default_rng(params.seed)
    if not params.stratify:
        flags = np.repeat([2, 1, 0], [c.test, c.val, c.train])
        rng.shuffle(flags)
        return flags
    # a Latin square of each shape: each of its values stands once in every row and column
    n = len(params.textures)
    squares = [(rng.permutation(n)[:, None] - rng.permutation(n)) % n for _ in params.shapes]
    of_test, of_val = (held // (len(params.shapes) * n) for held in (c.test, c.val))
    return np.repeat([2, 1, 0], [of_test, of_val, n - of_test - of_val])[np.ravel(squares)]


def list_images(params: Generate, split: str, seen: bool = False) -> ImageList:
    """Images by name, `shape_texture_colour[_k].png`, k where a split renders several; those that are `seen` are fresh
    renders of combinations that train has, `shape_texture_colour_<split>_k.png`.
    """
    flags, at = split_flags(params), SPLITS.index(split)
    if seen and params.seen:
        counts = np.where(flags == 0, params.seen.renders, 0)
        starts, mark = at * FRESH_SERIAL + counts.cumsum() - counts, f"_{split}"
    else:
        renders = np.array([getattr(params.renders, s) for s in SPLITS])[flags]
        counts, starts, mark = np.where(flags == at, renders, 0), renders.cumsum() - renders, ""
    several = bool(mark) or getattr(params.renders, split) > 1
    entries = []
    for combination, (s, t, c) in enumerate(np.ndindex(len(params.shapes), len(params.textures), len(params.colours))):
        name = f"{params.shapes[s]}_{params.textures[t]}_{params.colours[c]}{mark}"
        for k in range(counts[combination]):
            entries.append((name + (f"_{k}" if several else "") + ".png", (s, t, c), starts[combination] + k))
    entries.sort(key=lambda e: e[0])
    return ImageList(
        [e[0] for e in entries],
        np.array([e[1] for e in entries], np.int64).reshape(-1, 3),
        np.array([e[2] for e in entries], np.int64),
    )


def texture_to_colour(params: Generate) -> np.ndarray:
    """M: (textures,) the colour that goes with each texture; the first draw of the pairs' generator."""
    return np.random.default_rng(params.seed).permutation(len(params.textures))


def draw_pairs(params: Generate, split: str, biased: bool, seen: bool = False) -> Pairs:
    """Pairs of equal shape, `seen` or not, drawn in this order without replacement; all where there are too few."""
    # of combinations that train has, val and test draw their pairs apart
    rng = np.random.default_rng([params.seed, SPLITS.index(split)] if seen else params.seed)
    mapping = texture_to_colour(params) if seen else rng.permutation(len(params.textures))
    shape_N, texture_N, colour_N = list_images(params, split, seen).attributes.T
    possible_NN = shape_N[:, None] == shape_N[None, :]
    if biased:
        possible_NN &= mapping[texture_N][:, None] == colour_N[None, :]
    candidates = np.argwhere(possible_NN)
    most = params.seen.pairs if seen and params.seen else getattr(params.pairs, split)
    chosen = rng.choice(len(candidates), size=min(most, len(candidates)), replace=False)
    return Pairs(candidates[chosen], len(candidates))


def task_labels(params: Generate, listed: ImageList, pairs: Pairs) -> dict[str, np.ndarray]:
    """(P,) int64 for each of the probes but those with the suffix NEW, whose labels are the same."""
    first, second = listed.attributes[pairs.rows[:, 0]], listed.attributes[pairs.rows[:, 1]]
    fits = texture_to_colour(params)[first[:, 1]] == second[:, 2]
    unique = {"unique1": first[:, 1], "unique2": second[:, 1], "colour2": second[:, 2]}
    return {"share": first[:, 0], **unique, "synergy": fits.astype(np.int64)}


def task_classes(params: Generate) -> dict[str, list[str]]:
    """Names of the classes of each probe, the one of the dataset's own label first."""
    unique = {"unique1": params.textures, "unique2": params.textures, "colour2": params.colours}
    classes = {"share": params.shapes, **unique, "synergy": ["apart", "in M"]}
    return classes | {
        f"{'shape' if t == LABEL else t}{NEW}": of for t, of in classes.items() if params.seen and t != "colour2"
    }


def balanced(params: Generate, listed: ImageList, pairs: Pairs) -> np.ndarray:
    """(P,) weights of mean 1 under which neither image tells by itself whether (texture1, colour2) is in M.
    Both classes weigh alike. In each, all its cells (shape, texture1, colour2) weigh alike, and so do the textures of
    the second and the colours of the first image (iterative proportional fitting). So both classes have the same mean
    of every sum of functions of single attributes, and a linear probe of such a code fits zero and scores 50.

    Raises DataError: a cell has no pair.
    """
    (shape, texture1, colour1), (_, texture2, colour2) = (listed.attributes[of].T for of in pairs.rows.T)
    fits, n = texture_to_colour(params)[texture1] == colour2, len(params.textures)
    weights = np.empty(len(shape))
    for in_map, cells_of_shape in ((True, n), (False, n * (n - 1))):
        own = fits == in_map
        cell = ((shape * n + texture1) * n + colour2)[own]
        if len(np.unique(cell)) < len(params.shapes) * cells_of_shape:
            raise DataError(
                f"Trifeature: of {len(params.shapes) * cells_of_shape} (shape, texture1, colour2) that are "
                f"{'in' if in_map else 'not in'} M only {len(np.unique(cell))} have a pair; raise `pairs`"
            )
        found = np.ones(len(cell))
        for _ in range(RAKES):
            for group in (texture2[own], colour1[own], cell):
                total = np.bincount(group, found)
                found *= (found.sum() / np.count_nonzero(total)) / total[group]
        weights[own] = found * len(shape) / 2 / found.sum()
    return weights


def render_images(params: Generate, listed: ImageList) -> np.ndarray:
    """(N, 3, size, size) uint8. Every image has a generator of its own, so the order of the threads changes nothing."""
    out = np.empty((len(listed.names), 3, params.size, params.size), np.uint8)

    def one(row: int) -> None:
        shape, texture, colour = listed.attributes[row]
        rng = np.random.default_rng([params.seed, int(listed.serial[row])])
        names = params.shapes[shape], params.textures[texture], params.colours[colour]
        out[row] = images.render(*names, rng, params.size, params.side, params.period, params.gap)

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, range(len(out))))
    return out


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All pairs of a Trifeature dataset."""
    where = f"params/datasets/{name}.yaml"
    params = validate(Generate, dataset.generate, where, prefix="generate")
    _check(dataset, params, where)
    counts: dict[str, dict[str, int]] = {}
    evenly = ", each texture and each colour of each shape equally often" if params.stratify else ""
    biased = "; train pairs respect M, those of val and test are drawn without regard to it" if params.biased else ""
    seen = ", but for fresh renders of these, which are scored apart" if params.seen else ""
    rule = (
        f"combinations of shape, texture and colour are held out at random{evenly} (seed {params.seed}), so that no "
        f"image of val or test has a combination that train has{seen}; pairs are drawn within a split{biased}"
    )
    return Stream(_pairs(dataset, params, counts), {}, {"counts": counts}, rule, GROUP_ROWS)


def _pairs(dataset: Dataset, params: Generate, counts: dict[str, dict[str, int]]) -> Iterator[Instance]:
    for split in SPLITS:
        biased = params.biased and split == "train"
        found = counts[split] = Counter(combinations=getattr(params.combinations, split))
        for seen in (True, False) if params.seen and split != "train" else (False,):
            listed = list_images(params, split, seen)
            pairs = draw_pairs(params, split, biased, seen)
            found.update({"images": len(listed.names), "candidate pairs": pairs.candidates, "pairs": len(pairs.rows)})
            yield from _part(dataset, params, split, listed, pairs, seen)


def _part(
    dataset: Dataset, params: Generate, split: str, listed: ImageList, pairs: Pairs, seen: bool
) -> Iterator[Instance]:
    """Pairs of images of one list. `seen`: of val or test, of combinations that train has."""
    rendered = render_images(params, listed)
    names = [name.removesuffix(".png") for name in listed.names]
    known = task_labels(params, listed, pairs)
    known = {"": known.pop(LABEL)} | known
    known |= {f"{t or 'shape'}{NEW}": known[t] for t in known if f"{t or 'shape'}{NEW}" in dataset.tasks}
    weights: dict[str, np.ndarray] = {}
    if params.seen:
        even = np.ones(len(pairs.rows))
        # a train that respects M has one class of synergy; probes are not fitted on it
        weighed = even if params.biased and split == "train" else balanced(params, listed, pairs)
        for task in known:
            cases = split == "train" or task.endswith(NEW) != seen
            weights[task] = (weighed if task.startswith("synergy") else even) * cases
    for row, (a, b) in enumerate(pairs.rows.tolist()):
        images = dict(zip(dataset.modalities, (rendered[a], rendered[b]), strict=True))
        labels = {task: int(of[row]) for task, of in known.items()}
        weighs = {task: float(of[row]) for task, of in weights.items()}
        yield Instance(f"{names[a]}+{names[b]}", images, labels.pop(""), split, labels, weights=weighs)


def _check(dataset: Dataset, params: Generate, where: str) -> None:
    classes = task_classes(params)
    expected: dict[str, Any] = {"classes": classes.pop(LABEL), "tasks": classes}
    for key, value in expected.items():
        if getattr(dataset, key) != value:
            raise ConfigError(f"{where}: {key}: `generate` makes {value}, and the file says {getattr(dataset, key)}")
    if dataset.case_weights != bool(params.seen):
        raise ConfigError(f"{where}: case_weights: goes with `generate.seen`; give both or neither")
    shape = [3, params.size, params.size]
    if [(m.kind, m.shape, m.multifold) for m in dataset.modalities.values()] != [("image", shape, False)] * 2:
        raise ConfigError(f"{where}: modalities: `generate` makes two, each of kind image and shape {shape}")
    if params.biased and dataset.probe_from is None:
        raise ConfigError(
            f"{where}: probe_from: required where `generate.biased` is true, since probes are fitted on unbiased "
            "pairs; name the unbiased dataset of the same seed"
        )

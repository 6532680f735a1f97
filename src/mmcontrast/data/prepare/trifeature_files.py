"""Trifeature as Parquet: one row a pair, two image columns, and a label for each probe.

The dataset's own label is the shape, which both images share (the probe `share`, redundant information); the other
three probes are its tasks. Of a biased dataset `train` alone is biased: it names in `probe_from` the unbiased dataset
of the same seed, whose train pairs are of the same images, and `val` and `test` are the same in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmcontrast.config import Dataset, validate
from mmcontrast.data.instances import Instance
from mmcontrast.data.prepare import trifeature as tri
from mmcontrast.data.streaming import Stream
from mmcontrast.errors import ConfigError

LABEL = "share"
GROUP_ROWS = 512


def stream(name: str, dataset: Dataset, raw_dir: Path) -> Stream:
    """All pairs of a Trifeature dataset; `raw_dir` is not looked at.

    Raises:
        ConfigError: `generate` is not accepted, or classes, tasks, modalities or split are not those it makes.
    """
    where = f"params/datasets/{name}.yaml"
    params = validate(tri.Generate, dataset.generate, where, prefix="generate")
    _check(dataset, params, where)
    counts: dict[str, dict[str, int]] = {}
    pairs = _pairs(dataset, params, counts)
    return Stream(pairs, report={"counts": counts}, split_rule=split_rule(params), group_rows=GROUP_ROWS)


def _pairs(dataset: Dataset, params: tri.Generate, counts: dict[str, dict[str, int]]) -> Iterator[Instance]:
    """Every pair, split by split. `counts`: filled with what there is of each split."""
    for split in tri.SPLITS:
        biased = params.biased and split == "train"
        found = counts[split] = Counter(combinations=getattr(params.combinations, split))
        for seen in (True, False) if params.seen and split != "train" else (False,):
            listed = tri.list_images(params, split, seen)
            pairs = tri.draw_pairs(params, split, biased, seen)
            found.update({"images": len(listed.names), "candidate pairs": pairs.candidates, "pairs": len(pairs.rows)})
            yield from _part(dataset, params, split, listed, pairs, seen)


def _part(
    dataset: Dataset, params: tri.Generate, split: tri.Split, listed: tri.ImageList, pairs: tri.Pairs, seen: bool
) -> Iterator[Instance]:
    """Pairs of images of one list. `seen`: of val or test, of combinations that train has."""
    rendered = tri.render_images(params, listed)
    names = [name.removesuffix(".png") for name in listed.names]
    known = tri.task_labels(params, listed, pairs)
    known = {"": known.pop(LABEL)} | known
    known |= {f"{t or 'shape'}{tri.NEW}": known[t] for t in known if f"{t or 'shape'}{tri.NEW}" in dataset.tasks}
    weights: dict[str, np.ndarray] = {}
    if params.seen:
        even = np.ones(len(pairs.rows))
        # a train that respects M has one class of synergy; probes are not fitted on it
        balanced = even if params.biased and split == "train" else tri.balanced(params, listed, pairs)
        for task in known:
            cases = split == "train" or task.endswith(tri.NEW) != seen
            weights[task] = (balanced if task.startswith("synergy") else even) * cases
    for row, (a, b) in enumerate(pairs.rows.tolist()):
        images = dict(zip(dataset.modalities, (rendered[a], rendered[b]), strict=True))
        labels = {task: int(of[row]) for task, of in known.items()}
        weighs = {task: float(of[row]) for task, of in weights.items()}
        yield Instance(f"{names[a]}+{names[b]}", images, labels.pop(""), split, labels, weights=weighs)


def split_rule(params: tri.Generate) -> str:
    """How images came into splits, for the datasheet."""
    evenly = ", each texture and each colour of each shape equally often" if params.stratify else ""
    biased = "; train pairs respect M, those of val and test are drawn without regard to it" if params.biased else ""
    seen = ", but for fresh renders of these, which are scored apart" if params.seen else ""
    return (
        f"combinations of shape, texture and colour are held out at random{evenly} (seed {params.seed}), so that no "
        f"image of val or test has a combination that train has{seen}; pairs are drawn within a split{biased}"
    )


def _check(dataset: Dataset, params: tri.Generate, where: str) -> None:
    """Raise ConfigError where the dataset's file says otherwise than its `generate`."""
    classes = tri.task_classes(params)
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

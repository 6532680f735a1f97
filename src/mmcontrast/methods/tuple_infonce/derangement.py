"""Which row a disturbed tuple takes its foreign modality from: never its own row, never its own scene.

Shapes: B rows of the (global) batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmcontrast.errors import TrainingError

# A random permutation of 2 or more rows has no fixed point with probability 1/3 or more (1/e in the limit), so that
# 64 misses in a row happen less than once in 1e11 calls. With scenes they can be common; see `derangement`.
ATTEMPTS = 64


def derangement(n: int, generator: torch.Generator, scenes_B: Tensor | None = None) -> Tensor:
    """Source rows d with d[j] != j, and scene[d[j]] != scene[j] where scenes are given.

    Without scenes: uniform over all permutations without a fixed point (by rejection; about e draws). The released
    code of TupleInfoNCE draws plain permutations, whose fixed points put the positive among its own negatives.

    With scenes: uniform over the permutations that keep every row out of its own scene, where rejection finds one
    within ATTEMPTS draws; else a random one of the rotations of the rows grouped by scene, which is not uniform over
    all permutations but still takes every row once. Where one scene holds more than half of the rows no such
    permutation exists: each row then draws its source independently and uniformly from the rows of other scenes.

    Args:
        n: rows of the batch.
        generator: CPU generator that all draws come from, so that every rank deranges the global batch alike.
        scenes_B: (n,) integer scene of each row; None = every row is a scene of its own.

    Returns:
        (n,) int64 on the CPU; a permutation unless one scene holds more than half of the rows.

    Raises:
        TrainingError: fewer than two rows, or all rows are of one scene.
        ValueError: scenes_B has another shape.
    """
    if n < 2:
        raise TrainingError(
            f"a disturbed tuple takes one modality from another row, and this batch has {n} row{'s' * (n != 1)}; "
            "set batch_size to 2 or more (and let the last, smaller batch of an epoch be dropped)"
        )
    if scenes_B is None:
        scenes_B = torch.arange(n)
    elif scenes_B.shape != (n,):
        raise ValueError(f"scenes_B: shape {tuple(scenes_B.shape)}, and the batch has {n} rows")
    scenes_B = scenes_B.cpu()
    refuse_one_scene(scenes_B)
    _, group_B, counts = torch.unique(scenes_B, return_inverse=True, return_counts=True)
    largest = int(counts.max())
    if 2 * largest > n:
        return _independent_sources(group_B, counts, generator)
    for _ in range(ATTEMPTS):
        sources_B = torch.randperm(n, generator=generator)
        if not (group_B[sources_B] == group_B).any():
            return sources_B
    return _rotation(group_B, len(counts), largest, generator)


def refuse_one_scene(scenes_B: Tensor) -> None:
    """Raise TrainingError if all rows are of one scene, so that none can lend another a foreign modality."""
    if bool((scenes_B == scenes_B[0]).all()):
        raise TrainingError(
            f"all {len(scenes_B)} rows of a batch are of scene {scenes_B[0].item()}, so no row can lend another a "
            "foreign modality; use a larger batch, or shuffle so that scenes are mixed"
        )


def _rotation(group_B: Tensor, n_groups: int, largest: int, generator: torch.Generator) -> Tensor:
    """Rows grouped by scene, scenes and rows within them in random order; each row takes the one `largest` further.

    No scene is longer than `largest`, nor reaches round the circle (2 * largest <= n), so the source is of another one.
    """
    shuffled_B = torch.randperm(len(group_B), generator=generator)
    place = torch.randperm(n_groups, generator=generator)
    order_B = shuffled_B[torch.argsort(place[group_B[shuffled_B]], stable=True)]
    sources_B = torch.empty_like(order_B)
    sources_B[order_B] = order_B.roll(-largest)
    return sources_B


def _independent_sources(group_B: Tensor, counts: Tensor, generator: torch.Generator) -> Tensor:
    """For each row a uniform draw from the rows of other scenes.

    With rows sorted by scene, the others of a row are all places but one run: a draw below n - (size of the run)
    that lands in or after the run is moved behind it.
    """
    n = len(group_B)
    order_B = torch.argsort(group_B, stable=True)
    own_B = counts[group_B]
    start_B = (counts.cumsum(0) - counts)[group_B]
    draw_B = (torch.rand(n, generator=generator, dtype=torch.float64) * (n - own_B)).long()
    draw_B = draw_B.clamp(max=n - own_B - 1)
    return order_B[torch.where(draw_B >= start_B, draw_B + own_B, draw_B)]

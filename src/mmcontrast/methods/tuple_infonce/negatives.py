"""Disturbed tuples, in which one modality comes from another row: from which row, and what is kept of them.

Shapes: B rows of the (global) batch.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmcontrast.errors import TrainingError

# A random permutation of 2 or more rows has no fixed point with probability 1/3 or more (1/e in the limit), so that
# 64 misses in a row happen less than once in 1e11 calls. With scenes they can be common; see `derangement`.
ATTEMPTS = 64


def derangement(n: int, generator: torch.Generator, scenes_B: Tensor | None = None) -> Tensor:
    """(n,) int64 source rows d, on the CPU, with d[j] != j, and scene[d[j]] != scene[j] where scenes are given.

    Uniform over all permutations that do so, by rejection; where that finds none within ATTEMPTS draws, a random one of
    the rotations of the rows grouped by scene. Where one scene holds more than half of the rows there is none: each row
    then draws its source independently and uniformly from the rows of other scenes. The released code of TupleInfoNCE
    draws plain permutations, whose fixed points put the positive among its own negatives.
    generator: in the same state on every rank, so that all derange the batch alike. scenes_B: (n,) integer scene of
    each row; None = every row is a scene of its own.
    Raises TrainingError: fewer than two rows, or all rows are of one scene.
    """
    if n < 2:
        raise TrainingError(
            f"a disturbed tuple takes one modality from another row, and this batch has {n} row{'s' * (n != 1)}; "
            "choose a `batch_size` that leaves no batch of one"
        )
    if scenes_B is None:
        scenes_B = torch.arange(n)
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


def lenders(n: int, generator: torch.Generator, scenes_B: Tensor | None, has_B: Tensor | None) -> Tensor | None:
    """(n,) int64 on the CPU: a `derangement` of the rows that have a modality, the others being their own source.

    None where fewer than two rows have it, or rows of one scene alone. Where every row has it (has_B is None), raises
    TrainingError as `derangement`.
    """
    if has_B is None:
        return derangement(n, generator, scenes_B)
    having = has_B.cpu().nonzero().squeeze(1)
    scenes = torch.arange(n)[having] if scenes_B is None else scenes_B.cpu()[having]
    if len(torch.unique(scenes)) < 2:
        return None
    sources_B = torch.arange(n)
    sources_B[having] = having[derangement(len(having), generator, None if scenes_B is None else scenes)]
    return sources_B


def refuse_one_scene(scenes_B: Tensor) -> None:
    """Raise TrainingError if all rows are of one scene, so that none can lend another a foreign modality."""
    if bool((scenes_B == scenes_B[0]).all()):
        raise TrainingError(
            f"all {len(scenes_B)} rows of a batch are of scene {scenes_B[0].item()}, so no row can lend another a "
            "foreign modality; use a larger batch, or shuffle so that scenes are mixed"
        )


def _rotation(group_B: Tensor, n_groups: int, largest: int, generator: torch.Generator) -> Tensor:
    """Rows grouped by scene, in random order; each takes the one `largest` further, which is of another scene."""
    shuffled_B = torch.randperm(len(group_B), generator=generator)
    place = torch.randperm(n_groups, generator=generator)
    order_B = shuffled_B[torch.argsort(place[group_B[shuffled_B]], stable=True)]
    sources_B = torch.empty_like(order_B)
    sources_B[order_B] = order_B.roll(-largest)
    return sources_B


def _independent_sources(group_B: Tensor, counts: Tensor, generator: torch.Generator) -> Tensor:
    """For each row a uniform draw from the rows of other scenes: all places but one run, with rows sorted by scene."""
    n = len(group_B)
    order_B = torch.argsort(group_B, stable=True)
    own_B = counts[group_B]
    start_B = (counts.cumsum(0) - counts)[group_B]
    draw_B = (torch.rand(n, generator=generator, dtype=torch.float64) * (n - own_B)).long()
    draw_B = draw_B.clamp(max=n - own_B - 1)
    return order_B[torch.where(draw_B >= start_B, draw_B + own_B, draw_B)]


def check_disturbable(inputs: Mapping[str, Tensor]) -> None:
    """Raise TrainingError for a modality that is the same in every row, of which no disturbed tuple can be told.

    inputs: modality -> (N, ...) rows of the training split, before any noise of views.
    """
    for name, x in inputs.items():
        # the padding of a sequence is NaN
        if len(x) > 1 and bool(((x == x[:1]) | ((x != x) & (x != x)[:1])).all()):
            raise TrainingError(
                f"modality '{name}' is the same in all {len(x)} training rows, so a tuple disturbed in it equals the "
                "intact one; drop the modality, or check how the dataset was prepared"
            )

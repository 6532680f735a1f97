"""How the views of an instance become rows: each for itself, all as one, or in groups.

Shapes: P views of a batch, R rows, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

SINGLE = 0


def pool_views(z_PD: Tensor, ids_P: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """(R, D) largest value over the views of a group, feature by feature (MVCNN, Su et al., ICCV 2015), and (R,) ids.

    View k of an instance is in group k mod `groups`; an instance with fewer views than groups gives one row per view.

    Args:
        ids_P: integer instance of each view, the views of an instance one after another.
        groups: SINGLE (0) = no pooling; 1 = all views of an instance as one row.

    Returns:
        Rows by instance in the order in which the instances first occur, then by group.
    """
    if groups == SINGLE:
        return z_PD, ids_P
    unique, run_P, size = torch.unique_consecutive(ids_P, return_inverse=True, return_counts=True)
    start = size.cumsum(0) - size
    group_P = (torch.arange(len(ids_P), device=ids_P.device) - start[run_P]) % groups
    key, row_P = torch.unique(run_P * groups + group_P, return_inverse=True)
    peak_RD = z_PD.new_full((len(key), z_PD.shape[1]), -torch.inf)
    pooled_RD = peak_RD.scatter_reduce(0, row_P[:, None].expand_as(z_PD), z_PD, "amax")
    return pooled_RD, unique[key // groups]

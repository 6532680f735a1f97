"""Rows and the instances they belong to: what losses over several observations per instance share.

Shapes: P rows of modality a, Q rows of modality b, N instances, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError


def number_instances(ids_P: Tensor, ids_Q: Tensor) -> tuple[Tensor, Tensor, int]:
    """Any integers as indices 0 .. N - 1 of both modalities' rows, and N.

    Raises:
        ContrastError: an instance has rows in one modality only, and so no positive.
    """
    unique_N, index = torch.unique(torch.cat([ids_P, ids_Q]), return_inverse=True)
    index_P, index_Q = index[: len(ids_P)], index[len(ids_P) :]
    n = len(unique_N)
    lonely_N = (torch.bincount(index_P, minlength=n) == 0) | (torch.bincount(index_Q, minlength=n) == 0)
    if bool(lonely_N.any()):
        lonely = unique_N[lonely_N].tolist()
        shown = ", ".join(map(str, lonely[:5])) + (" ..." if len(lonely) > 5 else "")
        raise ContrastError(
            f"{len(lonely)} instance(s) have rows in one modality only, and so no positive: ids {shown}; "
            "give each a row in both, or leave it out"
        )
    return index_P, index_Q, n


def instance_mean(z_PD: Tensor, index_P: Tensor, n_instances: int) -> Tensor:
    """(N, D) mean of each instance's rows, not normalised; zeros of one without rows."""
    sum_ND = z_PD.new_zeros(n_instances, z_PD.shape[1]).index_add_(0, index_P, z_PD)
    count_N = torch.bincount(index_P, minlength=n_instances)
    return sum_ND / count_N.clamp(min=1)[:, None]

"""A loss over the rows that have what it compares, where a row may lack a modality.

The rule for all of them: the mean over the n rows that have it, times n / B. So a row weighs the same whichever rows
are beside it, and a pair of modalities that few rows have does not count as much as one that all rows have. Where no
row lacks anything it is the loss itself.

Shapes: B rows of the global batch, n of them that have what is compared.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmcontrast.losses.precision import upcast


def over_rows(loss: Callable[..., Tensor], rows_B: Tensor | None, *tensors: Tensor, least: int = 2) -> Tensor:
    """n / B times the loss of the n rows that are True; see the module.

    Args:
        loss: a mean over rows, of as many tensors (n, ...) as there are `tensors`.
        rows_B: bool, None = all rows, whose loss is as it is.
        tensors: (B, ...) each. least: n below it gives `nothing`: a contrast needs two rows.
    """
    if rows_B is None:
        return loss(*tensors)
    n = int(rows_B.sum())
    if n < least:
        return nothing(*tensors)
    return loss(*(x[rows_B] for x in tensors)) * (n / len(rows_B))


def shared_rows(*present: Tensor | None) -> Tensor | None:
    """(B,) rows that are True in all of these; None = all rows, here and in the arguments."""
    given = [rows_B for rows_B in present if rows_B is not None]
    return torch.stack(given).all(dim=0) if given else None


def nothing(*tensors: Tensor) -> Tensor:
    """0 that reaches what the tensors come from, so that there is a gradient, of 0, on every rank."""
    return torch.stack([0 * upcast(x).sum() for x in tensors if torch.is_floating_point(x)]).sum()

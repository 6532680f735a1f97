"""MIL-NCE: the observations of an instance share one numerator.

Miech et al., "End-to-End Learning of Visual Representations from Uncurated Instructional Videos", CVPR 2020, eq. 1;
released code: antoine77340/MIL-NCE_HowTo100M, which differs from the formula (see `double_count`).

Shapes: P rows of modality a, Q rows of modality b, N instances, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.instances import number_instances
from mmcontrast.losses.precision import full_precision


@full_precision
def mil_nce(
    a_PD: Tensor, b_QD: Tensor, ids_P: Tensor, ids_Q: Tensor, *, tau: float | Tensor = 1.0, double_count: bool = False
) -> Tensor:
    """mean_i [ logsumexp(l(i, *) and l(*, i)) - logsumexp(l(i, i)) ], l(i, j) all pairs of a row of i and a row of j.

    The original has one video and K texts an instance; here both sides may have several rows, in any order.

    Args:
        a_PD, b_QD: rows of each modality. The released code takes raw dot products: unnormalised rows and tau = 1.
        ids_P, ids_Q: integer instance of each row; every instance needs a row in both.
        tau: temperature, > 0.
        double_count: the released code counts l(i, i) twice in the denominator, once from each side, so that its
            smallest value is ln 2; False counts it once, and the smallest value is 0.

    Returns:
        Scalar, in float32 at least.

    Raises:
        ContrastError: an instance has rows in one modality only, or there are no rows.
    """
    if len(a_PD) == 0:
        raise ContrastError("MIL-NCE: a batch without rows leaves nothing to contrast")
    index_P, index_Q, n = number_instances(ids_P, ids_Q)
    logits_PQ = a_PD @ b_QD.T / tau
    floor = torch.finfo(logits_PQ.dtype).min / 2
    own_PQ = index_P[:, None] == index_Q
    own_N = _logsumexp_by(logits_PQ.masked_fill(~own_PQ, floor).logsumexp(1), index_P, n)
    row_N = _logsumexp_by(logits_PQ.logsumexp(1), index_P, n)
    column_PQ = logits_PQ if double_count else logits_PQ.masked_fill(own_PQ, floor)
    column_N = _logsumexp_by(column_PQ.logsumexp(0), index_Q, n)
    return (torch.logaddexp(row_N, column_N) - own_N).mean()


def _logsumexp_by(x_P: Tensor, index_P: Tensor, n_instances: int) -> Tensor:
    """(N,) logsumexp of the entries of each instance; every instance has one."""
    peak_N = x_P.detach().new_full((n_instances,), -torch.inf).scatter_reduce(0, index_P, x_P.detach(), "amax")
    sum_N = x_P.new_zeros(n_instances).index_add(0, index_P, (x_P - peak_N[index_P]).exp())
    return sum_N.log() + peak_N

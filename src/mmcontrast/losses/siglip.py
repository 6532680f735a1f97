"""SigLIP: every pair of rows is its own yes-or-no question, so several positives need no normalisation.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, eq. 1 and algorithm 1.

Shapes: P rows of modality a, Q rows of modality b, D width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.precision import full_precision


@full_precision
def siglip(
    a_PD: Tensor, b_QD: Tensor, ids_P: Tensor, ids_Q: Tensor, *, scale: float | Tensor, bias: float | Tensor
) -> Tensor:
    """-(1 / P) sum_pq log sigmoid(y_pq (scale * a_p . b_q + bias)), y = 1 for two rows of one instance, else -1.

    With one row a side this is the paper's loss; positives beyond the diagonal follow from its labels.

    Args:
        a_PD, b_QD: unit rows of each modality.
        ids_P, ids_Q: integer instance of each row.
        scale: the paper's t = exp(t'), starting at 10. bias: the paper's b, starting at -10. Both learned there.

    Returns:
        Scalar, in float32 at least.

    Raises:
        ContrastError: there are no rows.
    """
    if len(a_PD) == 0 or len(b_QD) == 0:
        raise ContrastError(f"SigLIP: {len(a_PD)} and {len(b_QD)} rows leave nothing to contrast")
    logits_PQ = scale * (a_PD @ b_QD.T) + bias
    sign_PQ = 2 * (ids_P[:, None] == ids_Q).to(logits_PQ.dtype) - 1
    return -F.logsigmoid(sign_PQ * logits_PQ).sum() / len(a_PD)

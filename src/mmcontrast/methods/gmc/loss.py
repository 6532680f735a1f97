"""GMC's loss: the joint embedding against each modality's own.

Source: Poklukar, Vasco et al., "Geometric Multimodal Contrastive Representation Learning", ICML 2022 (arXiv
2202.03390), as in the released code (miguelsvasco/gmc, gmc_code/unsupervised/architectures/models/gmc.py).

Shapes: N instances (of all ranks), K modalities, P width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import nt_xent
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.similarity import check_pair, unit_rows

__all__ = ["gmc_loss"]


@full_precision
def gmc_loss(
    joint: Tensor, modalities: Sequence[Tensor], tau: float = 0.1, joints_as_negatives: bool = False
) -> Tensor:
    """Sum over modalities m of NT-Xent(joint, z_m). Scalar; all embeddings alike give K ln(2N - 1).

    Where paper and released code differ: the paper's text could not be read. The code exponentiates before it sums,
    which overflows below a temperature of about 0.0115; here it is a log-sum-exp.

    Args:
        joint: (N, P) of all modalities together, any scale. modalities: K tensors (N, P). tau: > 0.
        joints_as_negatives: the variant sum_m mean_i [ lse_{j != i} joint_i.joint_j / tau - joint_i.z_mi / tau ].

    Raises:
        ContrastError: no modalities, shapes that differ, N < 2 or tau <= 0.
    """
    if not modalities:
        raise ContrastError("GMC: a joint embedding, and none of a modality to pull to it")
    if not joints_as_negatives:
        return torch.stack([nt_xent(joint, z_NP, tau) for z_NP in modalities]).sum()
    for z_NP in modalities:
        check_pair(joint, z_NP, tau)
    joint_NP = unit_rows(joint)
    self_NN = torch.eye(len(joint_NP), dtype=torch.bool, device=joint_NP.device)
    negative_N = (joint_NP @ joint_NP.T / tau).masked_fill(self_NN, -torch.inf).logsumexp(dim=1)
    positives = [(joint_NP * unit_rows(z_NP)).sum(dim=1) / tau for z_NP in modalities]
    return torch.stack([(negative_N - positive_N).mean() for positive_N in positives]).sum()

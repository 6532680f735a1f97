"""Soft relations between the observations of two modalities: what the soft targets of the multifold loss are made of.

MXM-CLR (Wang et al., arXiv:2303.10839) says that multiple positives are considered in a soft relation; its formula is
not known to us, so each relation here is a RECONSTRUCTION. A relation is a matrix r_PQ that is handed out by rows, so
that no caller need ever hold P x Q numbers. It carries no gradient: targets that move with the predictions chase them.

Shapes: P rows of modality a, Q rows of modality b, c rows of a chunk of a, N instances, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmcontrast.losses.instances import instance_mean
from mmcontrast.losses.similarity import unit_rows

Rows = Callable[[slice], Tensor]
"""Takes a slice of the rows of a and gives r_cQ, a tensor of its own that may be written to."""

Relation = Callable[[Tensor, Tensor, Tensor, Tensor, int], Rows]
"""(a_PD, b_QD, index_P, index_Q, N) -> Rows; the indices are those of `instances.number_instances`."""


@torch.no_grad()
def block_relation(a_PD: Tensor, b_QD: Tensor, index_P: Tensor, index_Q: Tensor, n_instances: int) -> Rows:
    """Reconstruction: the mean similarity over all pairs of observations of the two instances.

    The mean of dot products is the dot product of the means, so an N x N matrix is all that is kept.
    """
    block_NN = instance_mean(a_PD, index_P, n_instances) @ instance_mean(b_QD, index_Q, n_instances).T
    return lambda rows: block_NN[index_P[rows]][:, index_Q]


@torch.no_grad()
def intra_relation(a_PD: Tensor, b_QD: Tensor, index_P: Tensor, index_Q: Tensor, n_instances: int) -> Rows:
    """Reconstruction: similarity inside each modality to the other instance's unit mean, both averaged.

    r[p, q] = (a_p . mean_a(instance of q) + mean_b(instance of p) . b_q) / 2; an observation counts in its own mean.
    In the spirit of SoftCLIP (arXiv:2303.17561), in a form that does not need as many views as captions.
    """
    mean_a_ND = unit_rows(instance_mean(a_PD, index_P, n_instances))
    mean_b_ND = unit_rows(instance_mean(b_QD, index_Q, n_instances))

    def rows_of(rows: slice) -> Tensor:
        within_a_cQ = (a_PD[rows] @ mean_a_ND.T)[:, index_Q]
        within_b_cQ = mean_b_ND[index_P[rows]] @ b_QD.T
        return within_a_cQ.add_(within_b_cQ).div_(2)

    return rows_of


@torch.no_grad()
def pair_relation(a_PD: Tensor, b_QD: Tensor, index_P: Tensor, index_Q: Tensor, n_instances: int) -> Rows:
    """Reconstruction: the similarity of the two observations themselves (self-distillation).

    A low loss under this relation says little: target and prediction have the same shape by construction. At one
    temperature for both they are equal and the soft part has no gradient; so it is under `block` with one row each.
    """
    return lambda rows: a_PD[rows] @ b_QD.T


RELATIONS: dict[str, Relation] = {"block": block_relation, "intra": intra_relation, "pair": pair_relation}

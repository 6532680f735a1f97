"""CoMM's objective for any number of modalities: as the released code has it, and as the paper prints it.

A view is a list [z_1, ..., z_n, z_fused]: embeddings of one augmented tuple with modality i alone kept, then with all.
Source: Dufumier et al., ICLR 2025 (arXiv 2409.07402), eqs. 6-7 and algorithm 1; released code Duplums/CoMM.

Shapes: N instances (of all ranks), D width, K = n + 1 terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError
from mmcontrast.losses.nt_xent import nt_xent
from mmcontrast.losses.precision import full_precision
from mmcontrast.losses.similarity import check_pair, unit_rows
from mmcontrast.methods.comm.shared_gram import SharedGram, can_share

Reduction = Literal["mean", "sum"]
Estimator = Literal["nt_xent", "info_nce"]


@full_precision
def directed_info_nce(
    anchors_ND: Tensor, others_ND: Tensor, tau: float = 0.1, positive_in_denominator: bool = True
) -> Tensor:
    """-I_NCE(a, b) of the paper's eq. 6: anchors of one view, candidates of the other alone, one direction.

    Args:
        positive_in_denominator: algorithm 1 prints an ambiguous index; False leaves the positive out of the sum.

    Raises:
        ContrastError: shapes differ, N < 2 or tau <= 0.
    """
    check_pair(anchors_ND, others_ND, tau)
    logits_NN = unit_rows(anchors_ND) @ unit_rows(others_ND).T / tau
    positive_N = logits_NN.diagonal()
    if not positive_in_denominator:
        self_NN = torch.eye(len(logits_NN), dtype=torch.bool, device=logits_NN.device)
        logits_NN = logits_NN.masked_fill(self_NN, -torch.inf)
    return (logits_NN.logsumexp(dim=1) - positive_N).mean()


def comm_terms_direct(
    view1: Sequence[Tensor], view2: Sequence[Tensor], tau: float = 0.1, estimator: Callable[..., Tensor] = nt_xent
) -> Tensor:
    """(K,) terms, each half written out: term_i = (l(view1_i, fused2) + l(view2_i, fused1)) / 2. Slow, for any l."""
    halves = [
        (estimator(a, view2[-1], tau) + estimator(b, view1[-1], tau)) / 2 for a, b in zip(view1, view2, strict=True)
    ]
    return torch.stack(halves)


def comm_loss(
    view1: Sequence[Tensor],
    view2: Sequence[Tensor],
    tau: float = 0.1,
    weights: Sequence[float] | None = None,
    reduction: Reduction = "mean",
    estimator: Estimator = "nt_xent",
) -> tuple[Tensor, Tensor]:
    """The released form: weighted mean or sum over i = 1..n+1 of term_i, the last being the fused one.

    Differences from the paper: z_i come from AUGMENTED inputs and meet the fused embedding of the other augmentation;
    the estimator is NT-Xent over 2N rows; the mean divides by n+1 whatever the weights.

    Args:
        view1, view2: n + 1 tensors (N, D) each, any scale.
        tau: temperature, > 0 (the paper does not state it; 0.1 is the code's).
        weights: n + 1 factors; None = all 1. [0, ..., 0, 1] is the fused term alone, [1, ..., 1, 0] the unimodal ones.
        estimator: nt_xent, or info_nce = the paper's directed one on the same pairs.

    Returns:
        the scalar loss, and the (n + 1,) unweighted terms, detached, for the log.

    Raises:
        ContrastError: fewer than two modalities, views or weights of different length, shapes that differ, N < 2,
            tau <= 0.
    """
    _check_tuple(view1, view2, weights, tau)
    n_terms = len(view1)
    factor = torch.ones(n_terms) if weights is None else torch.tensor(list(weights), dtype=torch.float64)
    factor = factor.to(view1[0].device, torch.float64) / (n_terms if reduction == "mean" else 1)
    if estimator == "nt_xent" and can_share(view1[0].dtype, tau):
        units1 = [unit_rows(z) for z in view1]
        units2 = [unit_rows(z) for z in view2]
        loss, terms = SharedGram.apply(tau, tuple(factor.tolist()), *units1, *units2)
        return loss, terms
    terms = comm_terms_direct(view1, view2, tau, nt_xent if estimator == "nt_xent" else directed_info_nce)
    return (terms * factor.to(terms.dtype)).sum(), terms.detach()


def comm_loss_paper(
    fused1_ND: Tensor,
    fused2_ND: Tensor,
    unimodal_ND: Sequence[Tensor],
    tau: float = 0.1,
    weights: Sequence[float] | None = None,
    positive_in_denominator: bool = True,
) -> tuple[Tensor, Tensor]:
    """The paper's form, eq. 7: L = -I(z', z'') + sum_i -(I(z_i, z') + I(z_i, z'')) / 2, z_i from UN-augmented inputs.

    Returns:
        the scalar loss, and the (n + 1,) unweighted terms in the order of `comm_loss` (fused last), detached.

    Raises:
        ContrastError: as `comm_loss`.
    """
    _check_tuple([*unimodal_ND, fused1_ND], [*unimodal_ND, fused2_ND], weights, tau)

    def estimate(a_ND: Tensor, b_ND: Tensor) -> Tensor:
        return directed_info_nce(a_ND, b_ND, tau, positive_in_denominator)

    single = [(estimate(z, fused1_ND) + estimate(z, fused2_ND)) / 2 for z in unimodal_ND]
    terms = torch.stack([*single, estimate(fused1_ND, fused2_ND)])
    factor = torch.ones_like(terms) if weights is None else terms.new_tensor(list(weights))
    return (terms * factor).sum(), terms.detach()


def pairing_accuracy(first_ND: Tensor, second_ND: Tensor) -> Tensor:
    """Share of rows of the first view whose nearest row (cosine) in the second is their partner: a value in [0, 1]."""
    similar_NN = unit_rows(first_ND) @ unit_rows(second_ND).T
    return (similar_NN.argmax(dim=1) == torch.arange(len(similar_NN), device=similar_NN.device)).double().mean()


def modality_masks(n: int) -> list[list[bool]]:
    """Which modalities are kept for each term: every one alone, then all of them."""
    return [[i == j for j in range(n)] for i in range(n)] + [[True] * n]


def _check_tuple(view1: Sequence[Tensor], view2: Sequence[Tensor], weights: Sequence[float] | None, tau: float) -> None:
    n_terms = len(view1)
    if n_terms != len(view2):
        raise ContrastError(f"CoMM: {n_terms} embeddings in one view and {len(view2)} in the other")
    if n_terms < 3:
        raise ContrastError(
            f"CoMM: {max(n_terms - 1, 0)} modality given, and at least two are needed: with one, the fused and the "
            "unimodal term are the same"
        )
    if weights is not None and len(weights) != n_terms:
        raise ContrastError(
            f"CoMM: {len(weights)} term weights for {n_terms} terms (one a modality, then the fused one)"
        )
    for z in (*view1, *view2):
        check_pair(view1[0], z, tau)

"""Mixup: draw coefficients and partners, mix tensors, and spread targets accordingly.

Shapes: B batch; a trailing ... is any further axes.
"""

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError


def sample_beta(n: int, alpha: float, generator: torch.Generator) -> Tensor:
    """(n,) float64 draws of Beta(alpha, alpha), mean 1/2 and variance 1 / (4 (2 alpha + 1)).

    torch.distributions takes no generator. With G1, G2 ~ Gamma(alpha), Beta = G1 / (G1 + G2), which is
    sigmoid(log G1 - log G2); and log G is the log of a Gamma(alpha + 1) draw plus log(U) / alpha, so that a small alpha
    cannot underflow to 0 / 0. Exact zeros and ones can come out and are fine.

    Raises:
        ContrastError: alpha <= 0.
    """
    if not alpha > 0:
        raise ContrastError(f"the Beta distribution needs alpha above 0, and it is {alpha}")
    shape = torch.full((n, 2), alpha + 1.0, dtype=torch.float64)
    boosted = torch._standard_gamma(shape, generator=generator)
    uniform = 1 - torch.rand((n, 2), dtype=torch.float64, generator=generator)
    log_gamma = boosted.log() + uniform.log() / alpha
    return torch.sigmoid(log_gamma[:, 0] - log_gamma[:, 1])


def sample_mix(n: int, alpha: float, p_select: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coefficients and partners of a batch of n: lambda_B float64 in [0, 1], perm_B int64, both on the CPU.

    The permutation is uniform and may have fixed points. Each lambda is Beta(alpha, alpha) with probability `p_select`,
    and 1 (not mixed) otherwise; it is not folded to max(lambda, 1 - lambda).

    Source: M3CoL (Kumar et al., TMLR 2025), as in its released code; the paper's own text could not be read.

    Raises:
        ContrastError: alpha <= 0 or p_select outside [0, 1].
    """
    if not 0 <= p_select <= 1:
        raise ContrastError(f"p_select is a probability, and is {p_select}")
    perm_B = torch.randperm(n, generator=generator)
    lambda_B = sample_beta(n, alpha, generator)
    selected_B = torch.rand(n, dtype=torch.float64, generator=generator) < p_select
    return torch.where(selected_B, lambda_B, 1.0), perm_B


def apply_mix(x: Tensor, lambda_B: Tensor, perm_B: Tensor) -> Tensor:
    """lambda_i x_i + (1 - lambda_i) x_perm(i), out of place; (B, ...) -> (B, ...) in the dtype of x.

    Where paper and released code differ: the released code writes the mixture into a shared copy, which so becomes the
    "clean" side of the comparison as well; the `both_sides_mixed` switch of M3CoL brings that back.

    Raises:
        ContrastError: x, lambda and perm do not have the same number of rows.
    """
    _check_rows(lambda_B, perm_B)
    if x.ndim < 1 or len(x) != len(lambda_B):
        raise ContrastError(f"{len(lambda_B)} mixing coefficients do not fit a tensor of shape {tuple(x.shape)}")
    weight = lambda_B.to(x).view(-1, *[1] * (x.ndim - 1))
    return weight * x + (1 - weight) * x[perm_B.to(x.device)]


def mix_targets(lambda_B: Tensor, perm_B: Tensor, overwritten: bool = False) -> Tensor:
    """(B, B) soft targets P[i, j] = lambda_i [j = i] + (1 - lambda_i) [j = perm(i)]; every row sums to 1.

    Args:
        overwritten: as in the released code, where 1 - lambda_i replaces lambda_i where perm(i) = i. Such a row sums to
            1 - lambda_i, and a sample that is not mixed and is its own partner is ignored.

    Raises:
        ContrastError: lambda and perm differ in length.
    """
    _check_rows(lambda_B, perm_B)
    row_B = torch.arange(len(lambda_B), device=lambda_B.device)
    return torch.diag(lambda_B).index_put((row_B, perm_B), 1 - lambda_B, accumulate=not overwritten)


def _check_rows(lambda_B: Tensor, perm_B: Tensor) -> None:
    if lambda_B.ndim != 1 or lambda_B.shape != perm_B.shape:
        raise ContrastError(
            f"mixing needs one coefficient and one partner per row, and was given shapes "
            f"{tuple(lambda_B.shape)} and {tuple(perm_B.shape)}"
        )

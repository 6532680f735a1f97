"""What losses are made of: precision, unit rows, cosine similarities, rows that lack a modality, rows of instances.

Where a row may lack a modality, a loss is over the n rows that have what it compares: their mean, times n / B. So a row
weighs the same whichever rows are beside it, and a pair of modalities that few rows have does not count as much as one
that all rows have. Where no row lacks anything it is the loss itself.

Shapes: B rows of the global batch, n of them that have what is compared; P rows of modality a, Q of modality b, N
instances, D width.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

from mmcontrast.errors import ContrastError

P = ParamSpec("P")
R = TypeVar("R")

HALF = (torch.float16, torch.bfloat16)


def upcast(x: Tensor) -> Tensor:
    """`x` in float32 where it is a half-precision tensor; float32, float64 and integers as they are."""
    return x.float() if x.dtype in HALF else x


def full_precision(loss: Callable[P, R]) -> Callable[P, R]:
    """Decorator: half-precision tensors among the arguments become float32 and autocast is off inside.

    Similarities over a temperature of 0.1, exponentiated, lose most of bfloat16's eight bits. Gradients return in the
    caller's precision.
    """

    @functools.wraps(loss)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        devices = []

        def fix(value: Any) -> Any:
            if isinstance(value, Tensor):
                devices.append(value.device.type)
                return upcast(value)
            if isinstance(value, list | tuple):
                return [fix(v) for v in value]
            return {k: fix(v) for k, v in value.items()} if isinstance(value, Mapping) else value

        given, named = fix(args), fix(kwargs)
        with torch.autocast(device_type=devices[0] if devices else "cpu", enabled=False):
            return loss(*given, **named)

    return inner


Pairing = Literal["ring", "all"]

SHORTEST = 1e-12  # norm below which a row has no direction


def unit_rows(z: Tensor) -> Tensor:
    """(..., D) vectors over their Euclidean norm.

    A row shorter than 1e-12 has no direction: it becomes zeros, of gradient 0. With the norm merely clamped, as torch
    does, its gradient would be 1e12 times what comes back, which spoils an optimizer's moments for good. A row whose
    norm is no number of its type becomes NaN, so that training ends there: divided by infinity it would be zeros.
    """
    norm = z.norm(dim=-1, keepdim=True)
    return (z / norm.clamp_min(SHORTEST)).masked_fill(norm < SHORTEST, 0.0).masked_fill(norm.isinf(), float("nan"))


def check_pair(a_BD: Tensor, b_BD: Tensor, tau: float | Tensor) -> None:
    """Raise ContrastError unless a and b are (B, D) alike with B >= 2, and tau is above 0."""
    if a_BD.ndim != 2 or a_BD.shape != b_BD.shape:
        raise ContrastError(
            f"a contrastive loss compares two (batch, width) tensors of one shape, and was given "
            f"{tuple(a_BD.shape)} and {tuple(b_BD.shape)}"
        )
    if a_BD.shape[0] < 2:
        raise ContrastError(
            f"a batch of {a_BD.shape[0]} leaves nothing to contrast with; choose a `batch_size` "
            "that leaves no last batch of one instance"
        )
    if not tau > 0:
        raise ContrastError(f"a temperature must be above 0, and is {tau}")


def cosine_logits(a_BD: Tensor, b_BD: Tensor, tau: float | Tensor) -> Tensor:
    """(B, B) cosine similarities over the temperature: [i, j] = cos(a_i, b_j) / tau, in [-1/tau, 1/tau].

    Normalisation happens here, hence after any mixing; the order matters. A zero row has similarity 0 with all.
    """
    return unit_rows(a_BD) @ unit_rows(b_BD).T / tau


def modality_pairs(modalities: Sequence[str], pairing: Pairing) -> list[tuple[str, str]]:
    """Directed pairs (a, b), a looking up b; of two modalities (1, 2), (2, 1).

    ring: each modality with the next, the last with the first (M pairs). all: every ordered pair (M (M - 1)).

    Raises:
        ContrastError: fewer than two modalities, or a pairing that is neither.
    """
    if len(modalities) < 2:
        raise ContrastError(f"a contrast between modalities needs at least two, and there is {list(modalities)}")
    if pairing == "ring":
        return [(a, modalities[(k + 1) % len(modalities)]) for k, a in enumerate(modalities)]
    if pairing == "all":
        return list(permutations(modalities, 2))
    raise ContrastError(f"pairing '{pairing}' is not known; known: all, ring")


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

"""TriCoLo's NT-Xent: cross-entropy in both directions, weighted unequally.

Ruan et al., "TriCoLo: Trimodal Contrastive Loss for Text to Shape Retrieval", WACV 2024; released code
3dlg-hcvc/tricolo. Its versions disagree on the order of the arguments, hence on which direction gets 0.25: the current
one weighs text -> image 0.25 and image -> text 0.75, the one of 2022 the reverse. So a weight here belongs to a
direction by name, and no order of arguments decides anything.

Shapes: N instances, one row of each modality; D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.errors import ContrastError, nearest
from mmcontrast.losses.precision import upcast


def weighted_nt_xent(z_ND: Mapping[str, Tensor], weights: Mapping[str, float], *, tau: float | Tensor = 0.1) -> Tensor:
    """Sum over directions "x->y" of weight * mean_n CE(n, softmax_m(x_n . y_m / tau)), row n of both from one instance.

    Two rows of the same instance are negatives of each other here, as they are in the original.

    Args:
        z_ND: modality -> unit rows, row n of every modality from the same instance.
        weights: "image->text" -> weight; the first is the query, the softmax runs over the second. Directions that are
            not named are left out.
        tau: temperature, > 0.

    Returns:
        Scalar, in float32 at least.

    Raises:
        ContrastError: a direction names no modality that is there, none is given, the rows differ in shape, or
            there are none.
    """
    if not weights:
        raise ContrastError("weights: no direction given; give at least one, e.g. {'text->image': 0.25}")
    if len({tuple(z.shape) for z in z_ND.values()}) != 1:
        raise ContrastError(f"rows differ in shape: { {k: list(z.shape) for k, z in z_ND.items()} }")
    rows = next(iter(z_ND.values()))
    if len(rows) == 0:
        raise ContrastError("a batch without rows leaves nothing to contrast")
    labels_N = torch.arange(len(rows), device=rows.device)
    known = [f"{x}->{y}" for x in z_ND for y in z_ND if x != y]
    terms = []
    with torch.autocast(rows.device.type, enabled=False):
        z = {k: upcast(v) for k, v in z_ND.items()}
        for direction, weight in weights.items():
            if direction not in known:
                raise ContrastError(f"weights: no direction '{direction}'; {nearest(direction, known)}")
            query, gallery = direction.split("->")
            terms.append(weight * F.cross_entropy(z[query] @ z[gallery].T / tau, labels_N))
        return torch.stack(terms).sum()

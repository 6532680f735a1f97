"""What the methods for multifold data share: an encoder per modality, rows of observations and the instance of each.

Shapes: b instances of this rank, P rows of a modality on this rank, R rows that views are pooled to, D width.
"""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.config.objective import Views
from mmcontrast.errors import ContrastError
from mmcontrast.losses.rows import instance_mean, nothing, unit_rows
from mmcontrast.methods.base import Batch, Method, Presence, Progress, refuse_finetuning
from mmcontrast.models.encoders import build_encoders

SINGLE = 0


def pool_views(z_PD: Tensor, ids_P: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """(R, D) largest value over the views of a group, feature by feature (MVCNN, Su et al., ICCV 2015), and (R,) ids.

    View k of an instance is in group k mod `groups`; an instance with fewer views than groups gives one row per view.
    Rows are by instance in the order in which these first occur, then by group.
    ids_P: integer instance of each view, an instance's one after another. groups: SINGLE (0) = no pooling; 1 = one row
    of all views of an instance.
    """
    if groups == SINGLE:
        return z_PD, ids_P
    unique, run_P, size = torch.unique_consecutive(ids_P, return_inverse=True, return_counts=True)
    start = size.cumsum(0) - size
    group_P = (torch.arange(len(ids_P), device=ids_P.device) - start[run_P]) % groups
    key, row_P = torch.unique(run_P * groups + group_P, return_inverse=True)
    peak_RD = z_PD.new_full((len(key), z_PD.shape[1]), -torch.inf)
    pooled_RD = peak_RD.scatter_reduce(0, row_P[:, None].expand_as(z_PD), z_PD, "amax")
    return pooled_RD, unique[key // groups]


Rows = dict[str, tuple[Tensor, Tensor]]


class MultifoldMethod(Method):
    """Encoders, the rows they give, and the rows of all ranks; paired data, without ids, have one row per instance.

    A modality that an instance lacks has no row. A pair of modalities is over the instances with rows in both; where
    they are n of the batch's N it counts n / N times its loss, the rule of `losses.rows`.
    Raises ContrastError: the cell has fewer than two modalities; ConfigError: the cell has a `finetune` stage, for
    which there is no classifier.
    """

    takes_partial_rows = True

    def __init__(self, cell: CellConfig, views: Views) -> None:
        super().__init__(cell)
        if len(self.modalities) < 2:
            raise ContrastError(f"a contrast needs at least two modalities, and there is {self.modalities}")
        refuse_finetuning(cell)
        self.encoders = build_encoders(cell, self.modalities)
        self.groups = {
            m: views.pooled_groups if cell.modalities[m].kind == "image" and cell.modalities[m].multifold else SINGLE
            for m in self.modalities
        }

    def observations(self, batch: Batch) -> Rows:
        rows = self._encoded(batch, Presence.of(batch), self.encoders)
        return {m: _left(row, batch.present.get(m)) for m, row in rows.items()}

    def gathered(
        self, batch: Batch, progress: Progress, encoders: nn.ModuleDict | None = None
    ) -> tuple[Rows, int | None]:
        """The rows (P, D) of all ranks, and how many were left out; None where no instance can lack anything.

        encoders: instead of the method's own, e.g. a momentum copy of them.
        """
        presence, out = Presence.of(batch, progress.gather), {}
        for m, (z_PD, ids_P) in self._encoded(batch, presence, encoders or self.encoders).items():
            z_PD = progress.gather(z_PD)
            # without ids a row's number on its own rank is all it has, and the ranks would share numbers
            ids_P = torch.arange(len(z_PD), device=z_PD.device) if batch.ids is None else progress.gather(ids_P)
            out[m] = _left((z_PD, ids_P), presence.whole.get(m))
        left_out = sum(int((~has_P).sum()) for has_P in presence.whole.values())
        return out, left_out if presence.whole else None

    def embed(self, batch: Batch) -> Tensor:
        """(b, M * D): each modality's mean unit row, side by side, zeros without any; instances in the order of ids."""
        rows = self._encoded(batch, Presence.of(batch), self.encoders).values()
        unique = torch.unique(torch.cat([ids_P for _, ids_P in rows]))
        means = [instance_mean(z_PD, torch.searchsorted(unique, ids_P), len(unique)) for z_PD, ids_P in rows]
        return torch.cat(means, dim=-1)

    def _encoded(self, batch: Batch, presence: Presence, encoders: nn.ModuleDict) -> Rows:
        """Rows of this rank, zeros where an instance lacks the modality."""
        out = {}
        for m, encoder in encoders.items():
            x = batch.inputs[m]
            ids = torch.arange(len(x), device=x.device) if batch.ids is None else batch.ids[m]
            z_PD, ids_P = pool_views(presence.encode_one(m, encoder, x), ids, self.groups[m])
            out[m] = unit_rows(z_PD.float() if z_PD.dtype == torch.bfloat16 else z_PD), ids_P
        return out


def over_pairs(loss: Callable[[Rows], Tensor], rows: Rows, left_out: int | None) -> Tensor:
    """Sum of a loss over every two modalities, each pair of the instances that have both; see `MultifoldMethod`.

    loss: of two modalities' rows, a scalar or several of them. left_out: as `MultifoldMethod.gathered` gives it.
    """
    pairs = [{m: rows[m] for m in pair} for pair in combinations(rows, 2)]
    if left_out is None:
        return torch.stack([loss(pair) for pair in pairs]).sum(0)
    total = len(torch.unique(torch.cat([ids_P for _, ids_P in rows.values()])))
    terms = []
    for pair in pairs:
        (a, (_, ids_a)), (b, (_, ids_b)) = pair.items()
        both = {a: _left(pair[a], torch.isin(ids_a, ids_b)), b: _left(pair[b], torch.isin(ids_b, ids_a))}
        n = len(torch.unique(both[a][1]))
        terms.append(loss(both) * (n / total) if n > 1 else nothing(pair[a][0], pair[b][0]))
    return torch.stack(torch.broadcast_tensors(*terms)).sum(0)


def _left(row: tuple[Tensor, Tensor], has_P: Tensor | None) -> tuple[Tensor, Tensor]:
    return row if has_P is None else (row[0][has_P], row[1][has_P])

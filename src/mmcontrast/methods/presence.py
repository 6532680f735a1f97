"""Which rows have which modality, and encoders that see those rows alone.

What stands in an absent row is never looked at: its embedding is zeros, and a loss leaves it out (`losses.rows`).
Every rank calls every encoder in every step, whatever its rows have, so that no collective depends on the data.

Shapes: b rows of this rank, B rows of the global batch, D width, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmcontrast.losses.rows import shared_rows

if TYPE_CHECKING:
    from mmcontrast.methods.base import Batch


@dataclass(frozen=True)
class Presence:
    """Only of the modalities that a row may lack; of the others every row has every one.

    Attributes:
        local: modality -> (b,) bool, of this rank. whole: modality -> (B,) bool, of all ranks.
    """

    local: Mapping[str, Tensor] = field(default_factory=dict)
    whole: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch, gather: Callable[[Tensor], Tensor] = lambda x: x) -> Presence:
        """Of a batch. gather: as `Progress.gather`; by default these are all rows there are."""
        whole = {m: gather(rows_b.to(torch.uint8)).bool() for m, rows_b in batch.present.items()}
        return cls(batch.present, whole)

    def rows(self, *modalities: str) -> Tensor | None:
        """(B,) rows of the global batch that have all of these modalities; None = all rows."""
        return shared_rows(*(self.whole.get(m) for m in modalities))

    def any(self, modalities: Collection[str]) -> Tensor | None:
        """(B,) rows that have at least one of these modalities; None = all rows."""
        if any(m not in self.whole for m in modalities):
            return None
        return torch.stack([self.whole[m] for m in modalities]).any(dim=0)

    def encode(self, encoders: nn.ModuleDict, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """modality -> what its encoder gives of this rank's rows, zeros in rows that lack it; of those in `inputs`."""
        return {m: self.encode_one(m, e, inputs[m]) for m, e in encoders.items() if m in inputs}

    def encode_one(self, modality: str, encoder: nn.Module, x: Tensor) -> Any:
        """(b, D), or (b, T, D) and padding (b, T), True in rows that lack the modality. x: (b, ...) of this rank."""
        return _of_rows(encoder, x, self.local.get(modality), self.whole.get(modality))

    def project(self, modality: str, head: nn.Module, z_BD: Tensor) -> Tensor:
        """(B, P): a head on gathered rows, whose batch statistics are of the rows that have the modality."""
        rows_B = self.whole.get(modality)
        out: Tensor = _of_rows(head, z_BD, rows_B, rows_B)
        return out

    def mixed(self, perm_B: Tensor, rows: slice) -> Presence:
        """Of mixtures of each row with its partner: they have what both have. rows: those of this rank."""
        whole = {m: rows_B & rows_B[perm_B.to(rows_B.device)] for m, rows_B in self.whole.items()}
        return Presence({m: rows_B[rows] for m, rows_B in whole.items()}, whole)

    def blank(self, modality: str, z: Tensor, filling: float = 0) -> Tensor:
        """`z` (b, ...) of this rank with `filling` in the rows that lack the modality."""
        if modality not in self.local:
            return z
        return z.masked_fill(~self.local[modality].view(-1, *[1] * (z.ndim - 1)), filling)

    def shares(self, modalities: list[str]) -> dict[str, Tensor]:
        """For the log: share of the rows that have a modality, and both of a pair, where a row may lack it."""
        groups = [*((m,) for m in modalities), *combinations(modalities, 2)]
        masks = {"_".join(group): self.rows(*group) for group in groups}
        return {f"have_{name}": rows_B.float().mean() for name, rows_B in masks.items() if rows_B is not None}


EVERYTHING = Presence()


def _of_rows(module: nn.Module, x: Tensor, rows_b: Tensor | None, rows_B: Tensor | None) -> Any:
    """The module's output for the rows that are True, in its place among all rows; none of them is a batch too.

    With fewer than two rows on all ranks a batch has no statistics to normalise by: the module runs as in evaluation.
    """
    if rows_b is None or rows_B is None:
        return module(x)
    few = module.training and int(rows_B.sum()) < 2
    with _evaluating(module) if few else nullcontext():
        out = module(x[rows_b])
    if not isinstance(out, tuple):
        return _placed(out, rows_b, 0)
    tokens_nTD, padding_nT = out
    if padding_nT is None:
        padding_nT = torch.zeros(tokens_nTD.shape[:2], dtype=torch.bool, device=x.device)
    return _placed(tokens_nTD, rows_b, 0), _placed(padding_nT, rows_b, True)


def _placed(out: Tensor, rows_b: Tensor, filling: float) -> Tensor:
    """The rows of `out` at the places that are True, `filling` at the others."""
    all_rows = out.new_full((len(rows_b), *out.shape[1:]), filling)
    all_rows[rows_b] = out
    return all_rows


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    module.eval()
    try:
        yield
    finally:
        module.train()

"""Keys of earlier batches as further negatives, first in, first out.

Shapes: N new rows, Q rows held, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KeyQueue(nn.Module):
    """The last `size` keys of one kind. Its content is in the state dict, so that a resumed run goes on alike.

    Keys should come from a slowly moving encoder; those of the current encoder are out of date after a few steps.

    Args:
        size: most rows held; at least 1. width: D.
    """

    keys: Tensor
    filled: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size: {size}; a queue holds at least 1 row")
        self.size = size
        self.register_buffer("keys", torch.zeros(size, width))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys_ND: Tensor) -> None:
        """Put rows in, in order; the oldest fall out."""
        kept = torch.cat([self.rows(), keys_ND.detach().to(self.keys)])[-self.size :]
        self.keys[: len(kept)] = kept
        self.filled.fill_(len(kept))

    def rows(self) -> Tensor:
        """(filled, D) rows, oldest first; a copy, so that a later push does not change what a loss has used."""
        return self.keys[: int(self.filled)].clone()

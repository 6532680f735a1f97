"""Text encoder: word pieces -> one vector.

Shapes: B texts, T word pieces, E width of a piece's vector, H of one direction's state, D width of the embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

PADDING = 0


class BiGRUEncoder(nn.Module):
    """A GRU in both directions, its last states through a linear layer and tanh: (B, T) -> (B, D).

    TriCoLo's text encoder (3dlg-hcvc/tricolo) with one difference: there, padding is not packed away, so that the
    forward state runs over it and a text's embedding depends on the length it was padded to. Here it does not.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PADDING)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, dim)

    def forward(self, pieces_BT: Tensor) -> Tensor:
        """Every text has at least one piece; PADDING comes last."""
        length_B = (pieces_BT != PADDING).sum(1).clamp(min=1)
        vectors_BTE = self.embedding(pieces_BT[:, : int(length_B.max())])
        packed = pack_padded_sequence(vectors_BTE, length_B.cpu(), batch_first=True, enforce_sorted=False)
        state_2BH = self.gru(packed)[1]
        z_BD: Tensor = torch.tanh(self.out(torch.cat([state_2BH[0], state_2BH[1]], dim=-1)))
        return z_BD

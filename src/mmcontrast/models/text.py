"""Text encoder: word pieces -> one vector, or one for each piece.

Shapes: B texts, T word pieces, E width of a piece's vector, H of one direction's state, D width of the embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from mmcontrast.config import Modality, Model
from mmcontrast.errors import ConfigError
from mmcontrast.models.encoders import StepEncoder

PADDING = 0


class BiGRU(nn.Module):
    """Vectors of word pieces and a GRU in both directions over them; ConfigError where model.text is not given.

    TriCoLo's (3dlg-hcvc/tricolo) with one difference: there, padding is not packed away, so that the forward state runs
    over it and what comes out depends on the length a text was padded to. Here it does not.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        text = model.text
        if text is None:
            raise ConfigError(
                "model.text: not given, and there are texts; give vocabulary, tokens, embedding and hidden, or a "
                "pretrained encoder (model.pretrained)"
            )
        self.embedding = nn.Embedding(text.vocabulary, text.embedding, padding_idx=PADDING)
        self.gru = nn.GRU(text.embedding, text.hidden, batch_first=True, bidirectional=True)
        self.width = 2 * text.hidden

    def run(self, pieces_BT: Tensor) -> tuple[PackedSequence, Tensor]:
        """Outputs at the pieces, and the (2, B, H) last states. PADDING comes last in a row; B > 0."""
        length_B = (pieces_BT != PADDING).sum(1).clamp(min=1)
        vectors_BTE = self.embedding(pieces_BT[:, : int(length_B.max())])
        packed = pack_padded_sequence(vectors_BTE, length_B.cpu(), batch_first=True, enforce_sorted=False)
        out: tuple[PackedSequence, Tensor] = self.gru(packed)
        return out


class BiGRUEncoder(BiGRU):
    """TriCoLo's text encoder, last states through a linear layer and tanh: (B, T) -> (B, D); of no piece, zeros."""

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__(model)
        self.out = nn.Linear(self.width, model.width)

    def forward(self, pieces_BT: Tensor) -> Tensor:
        if len(pieces_BT) == 0:  # packing takes no rows for an error
            return self(pieces_BT.new_zeros(1, 1))[:0]
        state_2BH = self.run(pieces_BT)[1]
        z_BD = torch.tanh(self.out(torch.cat([state_2BH[0], state_2BH[1]], dim=-1)))
        return z_BD.masked_fill((pieces_BT == PADDING).all(1, keepdim=True), 0)


class BiGRUSteps(StepEncoder):
    """The GRU's outputs at the pieces: (B, T) -> (B, T', 2 H), T' the longest of these texts."""

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.pieces = BiGRU(model)
        self.width = self.pieces.width

    def forward(self, pieces_BT: Tensor) -> tuple[Tensor, Tensor]:
        if len(pieces_BT) == 0:
            out_BTW, padding_BT = self(pieces_BT.new_zeros(1, 1))
            return out_BTW[:0], padding_BT[:0]
        out_BTW, _ = pad_packed_sequence(self.pieces.run(pieces_BT)[0], batch_first=True)
        return out_BTW, pieces_BT[:, : out_BTW.shape[1]] == PADDING

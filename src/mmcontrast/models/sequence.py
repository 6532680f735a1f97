"""Encoders of sequences, whose rows end in steps of NaN: every step kept, or one embedding.

Shapes: B batch, T steps, F features of a step, W width of an encoded step, D width of the embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcontrast.config import Modality, Model, SequenceModel
from mmcontrast.errors import ConfigError
from mmcontrast.models.encoders import StepEncoder


class SequenceSteps(StepEncoder):
    """What `model.sequence` describes: (B, T, F) -> (B, T, W), zeros where a row has no step, and where that is.

    gru: its state at every step (CoMM on MIMIC). Padding comes last, so no step sees it and nothing is packed.
    transformer: a linear map of each step without bias, then pre-norm layers without position code (CoMM on MOSI and
    kin; released values: 5 layers, 5 heads, hidden 2048, dropout 0.1, W = 40). The released code gives it no padding
    mask, so that there a row's features depend on the longest row beside it; here padded steps are not attended to.

    Raises:
        ConfigError: model.sequence is not given.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        if model.sequence is None:
            raise ConfigError(
                "model.sequence: not given, and there are sequences; give kind (gru or transformer) and width"
            )
        self.spec, self.width = model.sequence, model.sequence.width
        self.features = modality.shape[1]
        self.layers = _gru(self.features, self.spec) if self.spec.kind == "gru" else _transformer(self.spec)
        self.project = None if self.spec.kind == "gru" else nn.Conv1d(self.features, self.width, 1, bias=False)

    def forward(self, x_BTF: Tensor) -> tuple[Tensor, Tensor]:
        if x_BTF.shape[0] == 0 or x_BTF.shape[1] == 0:
            # the layers take no rows, or rows of no length, for an error
            rows, steps = x_BTF.shape[:2]
            out_BTW, padding_BT = self(x_BTF.new_full((max(rows, 1), 1, self.features), torch.nan))
            return out_BTW[:rows, :steps], padding_BT[:rows, :steps]
        padding_BT = x_BTF[:, :, 0].isnan()
        x_BTF = x_BTF.masked_fill(padding_BT[:, :, None], 0)
        if self.project is None:
            out_BTW = self.layers(x_BTF)[0]
        else:
            steps_BTW = self.project(x_BTF.transpose(1, 2)).transpose(1, 2)
            # attention over nothing is undefined: an empty row sees its own zeros, and is blanked after
            hidden_BT = padding_BT & ~padding_BT.all(dim=1, keepdim=True)
            out_BTW = self.layers(steps_BTW, src_key_padding_mask=hidden_BT)
        return out_BTW.masked_fill(padding_BT[:, :, None], 0), padding_BT


class SequenceEncoder(nn.Module):
    """(B, T, F) -> (B, D): a GRU's state after the last step, or a transformer's mean step, through a linear layer.

    A row without any step gives zeros.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.steps = SequenceSteps(modality, model)
        self.out = nn.Linear(self.steps.width, model.width)

    def forward(self, x_BTF: Tensor) -> Tensor:
        steps_BTW, padding_BT = self.steps(x_BTF)
        length_B1 = (~padding_BT).sum(1, keepdim=True)
        if self.steps.spec.kind == "transformer":
            read_BW = steps_BTW.sum(1) / length_B1.clamp(min=1)
        elif steps_BTW.shape[1]:
            last_B1W = (length_B1 - 1).clamp(min=0)[:, :, None].expand(-1, -1, steps_BTW.shape[2])
            read_BW = steps_BTW.gather(1, last_B1W)[:, 0]
        else:
            read_BW = steps_BTW.sum(1)
        z_BD: Tensor = self.out(read_BW)
        return z_BD.masked_fill(length_B1 == 0, 0)


def _gru(features: int, spec: SequenceModel) -> nn.Module:
    return nn.GRU(features, spec.width, spec.layers, batch_first=True, dropout=spec.dropout)


def _transformer(spec: SequenceModel) -> nn.Module:
    hidden = spec.hidden or 4 * spec.width
    layer = nn.TransformerEncoderLayer(spec.width, spec.heads, hidden, spec.dropout, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, spec.layers, enable_nested_tensor=False)

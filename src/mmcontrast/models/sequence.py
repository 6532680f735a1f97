"""Encoders of sequences, whose rows end in steps of NaN: every step kept, or one embedding.

Shapes: B batch, T steps, F features of a step, S steps that a convolution leaves or that rows are resampled to, W width
of an encoded step, D width of the embedding.
"""

from typing import cast

import torch
from torch import Tensor, nn

from mmcontrast.config import Modality, Model, SequenceModel
from mmcontrast.errors import ConfigError
from mmcontrast.models.conv import GlobalBatchNorm2d
from mmcontrast.models.encoders import StepEncoder


def resampled(x_BTF: Tensor, steps: int) -> Tensor:
    """(B, S, F): each row's own steps at S = `steps` equal distances from its first to its last, linear in between.

    x_BTF: NaN in the steps that a row does not have, which come last. A row without any gives zeros.
    """
    last_B1 = ((~x_BTF.isnan().any(dim=2)).sum(dim=1, keepdim=True) - 1).clamp(min=0)
    x_BTF = x_BTF.nan_to_num()
    at_BS = torch.linspace(0, 1, steps, device=x_BTF.device) * last_B1
    below_BS = at_BS.floor().long()
    above_BS = torch.minimum(below_BS + 1, last_B1)
    low, high = (x_BTF.gather(1, i_BS[:, :, None].expand(-1, -1, x_BTF.shape[2])) for i_BS in (below_BS, above_BS))
    return torch.lerp(low, high, (at_BS - below_BS)[:, :, None].to(x_BTF.dtype))


def sequence_steps(modality: Modality, model: Model) -> StepEncoder:
    """The encoder that `model.sequence` describes, every step kept.

    Raises ConfigError: model.sequence is not given.
    """
    if model.sequence is None:
        raise ConfigError(
            "model.sequence: not given, and there are sequences; give kind (conv, gru or transformer) and width"
        )
    return (ConvSteps if model.sequence.kind == "conv" else RunningSteps)(modality, model.sequence)


class RunningSteps(StepEncoder):
    """A GRU or a transformer: (B, T, F) -> (B, T, W), zeros where a row has no step, and where that is.

    gru: its state at every step (CoMM on MIMIC). Padding comes last, so no step sees it and nothing is packed.
    transformer: a linear map of each step without bias, then pre-norm layers without position code (CoMM on MOSI and
    kin; released values: 5 layers, 5 heads, hidden 2048, dropout 0.1, W = 40). The released code gives it no padding
    mask, so that there a row's features depend on the longest row beside it; here padded steps are not attended to.
    """

    def __init__(self, modality: Modality, spec: SequenceModel) -> None:
        super().__init__()
        self.features, self.width = modality.shape[1], spec.width
        self.layers: nn.Module
        self.project: nn.Conv1d | None = None
        if spec.kind == "gru":
            self.layers = nn.GRU(self.features, self.width, spec.layers, batch_first=True, dropout=spec.dropout)
            return
        layer = nn.TransformerEncoderLayer(
            self.width, spec.heads, spec.hidden or 4 * self.width, spec.dropout, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, spec.layers, enable_nested_tensor=False)
        self.project = nn.Conv1d(self.features, self.width, 1, bias=False)

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
    """(B, T, F) -> (B, D): a GRU's last state, a transformer's mean step or all places of a conv, and a linear layer.

    A row without any step gives zeros.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.steps = sequence_steps(modality, model)
        places = self.steps.places if isinstance(self.steps, ConvSteps) else 1
        self.out = nn.Linear(self.steps.width * places, model.width)

    def forward(self, x_BTF: Tensor) -> Tensor:
        steps_BTW, padding_BT = self.steps(x_BTF)
        length_B1 = (~padding_BT).sum(1, keepdim=True)
        if isinstance(self.steps, ConvSteps):
            read_BW = steps_BTW.flatten(1)
        elif isinstance(self.steps.layers, nn.TransformerEncoder):
            read_BW = steps_BTW.sum(1) / length_B1.clamp(min=1)
        elif steps_BTW.shape[1]:
            last_B1W = (length_B1 - 1).clamp(min=0)[:, :, None].expand(-1, -1, steps_BTW.shape[2])
            read_BW = steps_BTW.gather(1, last_B1W)[:, 0]
        else:
            read_BW = steps_BTW.sum(1)
        z_BD: Tensor = self.out(read_BW)
        return z_BD.masked_fill(length_B1 == 0, 0)


class ConvSteps(StepEncoder):
    """Convolutions over a sequence that is first resampled to `model.sequence.steps` steps: (B, T, F) -> (B, S, W).

    So a long and a short one have the same S places, none of which padding reaches; a learned code says which place a
    step is. Each layer (5 steps wide, BN, ReLU) halves the steps and doubles the width, which is W at the last.
    """

    def __init__(self, modality: Modality, spec: SequenceModel) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.read = self.places = cast("int", spec.steps)  # which the configuration holds a conv to
        self.width = modality.shape[1]
        for i in reversed(range(spec.layers)):
            conv = nn.Conv2d(self.width, spec.width >> i, (5, 1), (2, 1), (2, 0), bias=False)
            self.width, self.places = spec.width >> i, (self.places + 1) // 2
            layers += [conv, GlobalBatchNorm2d(self.width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.place_SW = nn.Parameter(0.02 * torch.randn(self.places, self.width))

    def forward(self, x_BTF: Tensor) -> tuple[Tensor, Tensor]:
        if x_BTF.shape[1] == 0:  # no row has any step
            x_BTF = x_BTF.new_full((x_BTF.shape[0], 1, x_BTF.shape[2]), torch.nan)
        map_BWS = self.layers(resampled(x_BTF, self.read).transpose(1, 2)[:, :, :, None])[:, :, :, 0]
        nothing_BS = x_BTF[:, :, 0].isnan().all(dim=1)[:, None].expand(-1, self.places)
        return (map_BWS.transpose(1, 2) + self.place_SW).masked_fill(nothing_BS[:, :, None], 0), nothing_BS

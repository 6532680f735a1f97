"""Encoders of sequences, whose rows end in steps of NaN: every step kept, or one embedding.

Shapes: B batch, T steps, F features of a step, S steps that a convolution leaves, W width of an encoded step, D width
of the embedding.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mmcontrast.config import Modality, Model, SequenceModel
from mmcontrast.errors import ConfigError
from mmcontrast.models.encoders import StepEncoder
from mmcontrast.models.norm import GlobalBatchNorm2d
from mmcontrast.models.resampling import resampled


def sequence_steps(modality: Modality, model: Model) -> StepEncoder:
    """The encoder that `model.sequence` describes, every step kept.

    Raises:
        ConfigError: model.sequence is not given.
    """
    return (ConvSteps if _given(model).kind == "conv" else SequenceSteps)(modality, model)


def sequence_encoder(modality: Modality, model: Model) -> nn.Module:
    """The same, one embedding of each sequence."""
    return (ConvEncoder if _given(model).kind == "conv" else SequenceEncoder)(modality, model)


def _given(model: Model) -> SequenceModel:
    if model.sequence is None:
        raise ConfigError(
            "model.sequence: not given, and there are sequences; give kind (conv, gru or transformer) and width"
        )
    return model.sequence


class SequenceSteps(StepEncoder):
    """A GRU or a transformer: (B, T, F) -> (B, T, W), zeros where a row has no step, and where that is.

    gru: its state at every step (CoMM on MIMIC). Padding comes last, so no step sees it and nothing is packed.
    transformer: a linear map of each step without bias, then pre-norm layers without position code (CoMM on MOSI and
    kin; released values: 5 layers, 5 heads, hidden 2048, dropout 0.1, W = 40). The released code gives it no padding
    mask, so that there a row's features depend on the longest row beside it; here padded steps are not attended to.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        self.spec = _given(model)
        self.width = self.spec.width
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


class Convolutions(nn.Module):
    """(B, T, F) -> (B, W, S): convolutions over a sequence that is first resampled to `model.sequence.steps` steps.

    So a long and a short one have the same S places, none of which padding reaches. Each layer (5 steps wide, BN, ReLU)
    halves the steps and doubles the width, which is W at the last.
    """

    def __init__(self, modality: Modality, spec: SequenceModel) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.read = self.steps = cast("int", spec.steps)  # which the configuration holds a conv to
        width = modality.shape[1]
        for i in reversed(range(spec.layers)):
            conv = nn.Conv2d(width, spec.width >> i, (5, 1), (2, 1), (2, 0), bias=False)
            width, self.steps = spec.width >> i, (self.steps + 1) // 2
            layers += [conv, GlobalBatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BTF: Tensor) -> Tensor:
        if x_BTF.shape[1] == 0:  # no row has any step
            x_BTF = x_BTF.new_full((x_BTF.shape[0], 1, x_BTF.shape[2]), torch.nan)
        out_BWS: Tensor = self.layers(resampled(x_BTF, self.read).transpose(1, 2)[:, :, :, None])[:, :, :, 0]
        return out_BWS


class ConvSteps(StepEncoder):
    """What `Convolutions` leaves, and a learned code of its place: (B, T, F) -> (B, S, W)."""

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        spec = _given(model)
        self.conv, self.width = Convolutions(modality, spec), spec.width
        self.place_SW = nn.Parameter(0.02 * torch.randn(self.conv.steps, spec.width))

    def forward(self, x_BTF: Tensor) -> tuple[Tensor, Tensor]:
        nothing_BS = _nothing(x_BTF)[:, None].expand(-1, self.conv.steps)
        out_BSW = self.conv(x_BTF).transpose(1, 2) + self.place_SW
        return out_BSW.masked_fill(nothing_BS[:, :, None], 0), nothing_BS


class ConvEncoder(nn.Module):
    """What `Convolutions` leaves through a linear layer: (B, T, F) -> (B, D). A row without any step gives zeros."""

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__()
        spec = _given(model)
        self.conv = Convolutions(modality, spec)
        self.out = nn.Linear(spec.width * self.conv.steps, model.width)

    def forward(self, x_BTF: Tensor) -> Tensor:
        z_BD: Tensor = self.out(self.conv(x_BTF).flatten(1))
        return z_BD.masked_fill(_nothing(x_BTF)[:, None], 0)


def _nothing(x_BTF: Tensor) -> Tensor:
    """(B,) True where a row has no step."""
    return x_BTF[:, :, 0].isnan().all(dim=1)


def _gru(features: int, spec: SequenceModel) -> nn.Module:
    return nn.GRU(features, spec.width, spec.layers, batch_first=True, dropout=spec.dropout)


def _transformer(spec: SequenceModel) -> nn.Module:
    hidden = spec.hidden or 4 * spec.width
    layer = nn.TransformerEncoderLayer(spec.width, spec.heads, hidden, spec.dropout, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, spec.layers, enable_nested_tensor=False)

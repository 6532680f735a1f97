"""A batch of texts, pictures or audio as a pretrained model takes it, with where a row has no token.

Shapes: B rows, T tokens or steps, d numbers of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.config import Modality
from mmcontrast.data import pretrained as files
from mmcontrast.data.inputs import unit_pixels
from mmcontrast.errors import ConfigError

# (what the tower takes by name, (B, T) True where a row has no token)
Inputs = tuple[dict[str, Tensor], Tensor | None]


class TextReader(nn.Module):
    """(B, T) int64 word pieces, -1 where a text has none -> cut to the longest of these texts, with their mask."""

    def __init__(self, modality: Modality, folder: files.Folder) -> None:
        super().__init__()
        self.filler = getattr(folder.config, "pad_token_id", None) or 0

    def blank(self) -> Tensor:
        return torch.zeros(1, 1, dtype=torch.int64)

    def absent(self, pieces_BT: Tensor) -> Tensor:
        return (pieces_BT < 0).all(1)

    def forward(self, pieces_BT: Tensor) -> Inputs:
        length_B = (pieces_BT >= 0).sum(1)
        pieces_BT = pieces_BT[:, : max(1, int(length_B.max()))]
        padding_BT = pieces_BT < 0
        # attention over nothing is undefined: a row without any piece sees one, and is blanked after
        seen_BT = ~padding_BT
        seen_BT[:, 0] = True
        filled_BT = pieces_BT.masked_fill(padding_BT, self.filler)
        return {"input_ids": filled_BT, "attention_mask": seen_BT.long()}, padding_BT


class PictureReader(nn.Module):
    """(B, 3, H, W) uint8, or float in [0, 1] -> as the model's own processor makes pictures of this size.

    A square of another side is resized as the processor would, up to rounding to whole values.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, modality: Modality, folder: files.Folder) -> None:
        super().__init__()
        self.how = files.pictures(folder)
        channels, height, width = modality.shape
        if channels != 3 or height != width:
            raise ConfigError(
                f"the pictures have shape {modality.shape}, and the encoder in {folder.path} takes squares of 3 "
                f"channels, best {[3, self.how.side, self.how.side]}; give that shape in the dataset's file in "
                "params/datasets and prepare the data again"
            )
        self.shape = modality.shape
        for name in ("mean", "spread"):
            self.register_buffer(name, torch.tensor(getattr(self.how, name)).view(3, 1, 1), persistent=False)

    def blank(self) -> Tensor:
        return torch.zeros(1, *self.shape)

    def absent(self, x_BCHW: Tensor) -> None:
        return None

    def forward(self, x_BCHW: Tensor) -> Inputs:
        x_BCHW = unit_pixels(x_BCHW)
        side = self.how.side
        if x_BCHW.shape[2:] != (side, side):
            x_BCHW = F.interpolate(
                x_BCHW, (side, side), mode=self.how.resampling, antialias=True, align_corners=False
            ).clamp(0, 1)
        return {"pixel_values": (x_BCHW - self.mean) / self.spread}, None


class AudioReader(nn.Module):
    """(B, T, d) steps, NaN where a row has none -> (B, samples) with a mask, or (B, frames, d) of a fixed length.

    Samples (d = 1) are for wav2vec2 and its kin, whose frames are counted by the model's own rule; frames of d mel
    bands are for an audio spectrogram transformer, padded with zeros to the length that it was made for. Values are
    taken as they are: scaling is the dataset's.
    """

    def __init__(self, modality: Modality, folder: files.Folder) -> None:
        super().__init__()
        self.features = modality.shape[1]
        config, spectrogram = folder.config, folder.kind == "audio-spectrogram-transformer"
        self.frames = getattr(config, "max_length", None) if spectrogram else 0
        kernels, strides = getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ())
        self.strides = list(zip(kernels, strides, strict=True))
        wanted = folder.config.num_mel_bins if self.frames else 1
        if self.features != wanted or (self.frames and modality.shape[0] > self.frames):
            limit = f"at most {self.frames} steps of {wanted} mel bands" if self.frames else "steps of one sample"
            raise ConfigError(f"sequences of shape {modality.shape}, and {folder.path} ({folder.kind}) takes {limit}")
        # wav2vec2 models whose layers are normalised over time were trained without a mask
        self.masked = getattr(folder.config, "feat_extract_norm", "") == "layer"
        self.least = 1
        for kernel, stride in reversed(self.strides):
            self.least = (self.least - 1) * stride + kernel

    def blank(self) -> Tensor:
        return torch.zeros(1, self.least, self.features)

    def absent(self, x_BTd: Tensor) -> Tensor:
        return x_BTd[:, :, 0].isnan().all(1)

    def forward(self, x_BTd: Tensor) -> Inputs:
        short = (self.frames or self.least) - x_BTd.shape[1]
        if short > 0:
            x_BTd = F.pad(x_BTd, (0, 0, 0, short), value=torch.nan)
        padding_BT = x_BTd[:, :, 0].isnan()
        x_BTd = x_BTd.masked_fill(padding_BT[:, :, None], 0)
        if self.frames:
            return {"input_values": x_BTd}, None
        seen_BT = ~padding_BT
        seen_BT[:, : self.least] = True  # a row too short for one frame has one all the same
        inputs = {"input_values": x_BTd[:, :, 0]} | ({"attention_mask": seen_BT.long()} if self.masked else {})
        count_B, frames = seen_BT.sum(1), x_BTd.shape[1]
        for kernel, stride in self.strides:
            count_B, frames = (count_B - kernel) // stride + 1, (frames - kernel) // stride + 1
        return inputs, torch.arange(frames, device=x_BTd.device) >= count_B[:, None]


READERS: dict[str, Callable[[Modality, files.Folder], Any]] = {
    "text": TextReader,
    "image": PictureReader,
    "sequence": AudioReader,
}

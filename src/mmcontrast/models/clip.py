"""The two halves of a pretrained CLIP as encoders of single observations, fine-tuned or frozen.

Shapes: B pictures or texts, T word pieces, P side of a picture, W width of CLIP's embedding, D of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast.config import Modality, Model
from mmcontrast.data.clip_files import NEEDED_BY, ClipFiles, picture_values, read_clip
from mmcontrast.data.pretrained import library, load_weights
from mmcontrast.errors import ConfigError
from mmcontrast.models.momentum import frozen_copy


class CLIPHalf(nn.Module):
    """A tower and CLIP's own projection. Fine-tuned, D is W; frozen, one linear layer W -> D is trained on top.

    Frozen weights are buffers, as they are no optimizer's business, and stay in evaluation mode.

    Args:
        part: (the whole CLIP) -> (its tower, its projection).

    Raises:
        ConfigError: model.clip is not given, the extra is not installed, or the width does not fit.
        DataError: the files are missing, damaged, or of no CLIP.
    """

    def __init__(self, model: Model, part: Callable[[Any], tuple[nn.Module, nn.Module]]) -> None:
        super().__init__()
        if model.clip is None:
            raise ConfigError("model.clip: not given; give a folder, or a hub id and its revision")
        self.files = read_clip(model.clip)
        self.frozen = model.clip.frozen
        if not self.frozen and model.width != self.files.width:
            raise ConfigError(
                f"model.width: {model.width}, and the CLIP in {self.files.folder} has embeddings of width "
                f"{self.files.width}; set model.width to {self.files.width}, or freeze it (model.clip.frozen: true), "
                "which trains a layer on top"
            )
        tower, projection = part(load_clip(self.files))
        self.tower = frozen_copy(tower) if self.frozen else tower
        self.projection = frozen_copy(projection) if self.frozen else projection
        self.out = nn.Linear(self.files.width, model.width) if self.frozen else nn.Identity()
        self.train()

    def train(self, mode: bool = True) -> CLIPHalf:
        super().train(mode)
        if self.frozen:
            self.tower.eval()
        return self

    def encode(self, **inputs: Tensor) -> Tensor:
        """(B, D) of what the tower takes."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            z_BW = self.projection(self.tower(**inputs).pooler_output)
        z_BD: Tensor = self.out(z_BW)
        return z_BD


class CLIPImageEncoder(CLIPHalf):
    """CLIP's vision transformer: (B, 3, P, P) -> (B, D).

    Images are float in [0, 1], or uint8, which becomes it; they are normalised here by the mean and spread of the
    CLIP's own files.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__(model, lambda clip: (clip.vision_model, clip.visual_projection))
        side = self.files.pixels
        if modality.shape != [3, side, side]:
            raise ConfigError(
                f"the images have shape {modality.shape}, and the CLIP in {self.files.folder} takes {[3, side, side]}; "
                "give that shape in the dataset's file in params/datasets and prepare the data again"
            )
        mean, spread = picture_values(self.files)
        self.register_buffer("mean", torch.from_numpy(mean), persistent=False)
        self.register_buffer("spread", torch.from_numpy(spread), persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not torch.is_floating_point(x_BCHW):
            x_BCHW = x_BCHW.float() / 255
        return self.encode(pixel_values=(x_BCHW - self.mean) / self.spread)


class CLIPTextEncoder(CLIPHalf):
    """CLIP's text transformer: (B, T) -> (B, D).

    A text is read up to its first end and no word piece sees a later one, so that what pads it changes nothing.
    """

    def __init__(self, modality: Modality, model: Model) -> None:
        super().__init__(model, lambda clip: (clip.text_model, clip.text_projection))

    def forward(self, pieces_BT: Tensor) -> Tensor:
        return self.encode(input_ids=pieces_BT)


def load_clip(files: ClipFiles) -> Any:
    """The CLIP in float32 with the weights of its file, every one of them.

    Raises:
        DataError: the file is damaged, or does not hold what the configuration asks for.
    """
    model = library(NEEDED_BY).CLIPModel
    return load_weights(model, files.folder, "a CLIP", dtype=torch.float32)

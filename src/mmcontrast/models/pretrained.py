"""Pretrained encoders of texts, pictures and audio by name: trained as a whole, frozen, or by low-rank updates.

Readers bring a batch into the form that a model takes, with where a row has no token.

Shapes: B rows, T tokens or steps, d numbers of a step, P side of a picture, W width of the model, D of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.config import Lora, Modality, Model, Pretrained
from mmcontrast.data import pretrained as files
from mmcontrast.data.inputs import unit_pixels
from mmcontrast.errors import ConfigError, DataError, first_line, not_installed
from mmcontrast.models.conv import GlobalBatchNorm2d
from mmcontrast.models.encoders import StepEncoder, frozen_copy, mean_step

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


# of the whole CLIP: its tower, and its projection
CLIP_HALVES = {"text": ("text_model", "text_projection"), "image": ("vision_model", "visual_projection")}


class PretrainedTower(StepEncoder):
    """A model of the library transformers: (B, ...) -> its tokens (B, T, W), and where a row has none.

    Frozen weights are buffers, as they are no optimizer's business, and stay in evaluation mode. Batch norms are of the
    global batch. What the library would draw from generators of its own (layers that are dropped, masked audio) is off.
    `width` is W, `pooled_width` that of `pooled`.
    Raises ConfigError: the modality does not fit the model, or the model lacks what is asked for; DataError: its files
    are not what they should be.
    """

    def __init__(self, modality: Modality, spec: Pretrained, where: str) -> None:
        super().__init__()
        self.spec, self.kind = spec, modality.kind
        folder = files.open_folder(spec, where)
        tower, projection = load_tower(folder, modality.kind, spec)
        norms = [part for part in tower.modules() if type(part) is nn.BatchNorm2d]
        for part in norms:
            part.__class__ = GlobalBatchNorm2d
        self.normalises = bool(norms)
        self.reader = READERS[modality.kind](modality, folder)
        if spec.gradient_checkpointing:
            try:
                tower.activation_checkpointing_enable()
            except ValueError as e:
                raise ConfigError(f"{where}.gradient_checkpointing: {first_line(e)}; set it to false") from None
        if spec.lora is not None:
            add_updates(tower, spec.lora, where)
        self.tower: nn.Module = frozen_copy(tower) if spec.tuning == "frozen" else tower
        whole = projection is None or spec.tuning == "full"
        self.projection: nn.Module | None = projection if whole else frozen_copy(projection)
        # for `training.engine`: the rate is that of the tower, and not of what is trained on top of it
        self.tower.own_learning_rate = spec.lr
        self.train()
        self.width, self.pooled_width = self._widths(folder)

    def _widths(self, folder: files.Folder) -> tuple[int, int]:
        """What the tower gives for one row of zeros, which also shows whether it takes such a row."""
        self.eval()
        try:
            with torch.no_grad():
                x = self.reader.blank()
                return self(x)[0].shape[2], self.pooled(x).shape[1]
        except (RuntimeError, ValueError, IndexError, AttributeError) as e:
            raise ConfigError(
                f"{folder.where}: {folder.path} ({folder.kind}) does not take what the dataset holds ({first_line(e)})"
            ) from None
        finally:
            self.train()

    def train(self, mode: bool = True) -> PretrainedTower:
        super().train(mode)
        if self.spec.tuning == "frozen":
            self.tower.eval()
        return self

    def run(self, x: Tensor) -> tuple[Any, Tensor | None]:
        inputs, padding_BT = self.reader(x)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.spec.tuning != "frozen"):
            return self.tower(**inputs), padding_BT

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if len(x) == 0 and not self.normalises:
            # attention does not take no row; every weight then has a gradient of zeros
            tokens_BTW, padding_BT = self(self.reader.blank().to(x.device))
            return tokens_BTW[:0], None if padding_BT is None else padding_BT[:0]
        output, padding_BT = self.run(x)
        return _tokens(output), padding_BT

    def pooled(self, x: Tensor) -> Tensor:
        """(B, W') by `pooling`; of a CLIP its projection."""
        if len(x) == 0 and not self.normalises:
            return self.pooled(self.reader.blank().to(x.device))[:0]
        output, padding_BT = self.run(x)
        if self.projection is not None or self.spec.pooling == "pooler":
            if getattr(output, "pooler_output", None) is None:
                raise AttributeError("it has no pooled output; set pooling to cls or mean")
            z_BW: Tensor = output.pooler_output.flatten(1)
            return z_BW if self.projection is None else self.projection(z_BW)
        tokens_BTW = _tokens(output)
        return tokens_BTW[:, 0] if self.spec.pooling == "cls" else mean_step(tokens_BTW, padding_BT)


class PretrainedEncoder(nn.Module):
    """(B, ...) -> (B, D): what stands for all tokens, and a linear layer where it has not the width D or is frozen.

    A row without any token or step gives zeros.
    """

    def __init__(self, steps: PretrainedTower, model: Model) -> None:
        super().__init__()
        self.steps = steps
        plain = steps.spec.tuning != "frozen" and steps.pooled_width == model.width
        self.out = nn.Identity() if plain else nn.Linear(steps.pooled_width, model.width)

    def forward(self, x: Tensor) -> Tensor:
        z_BD: Tensor = self.out(self.steps.pooled(x))
        absent = self.steps.reader.absent(x)
        return z_BD if absent is None else z_BD.masked_fill(absent[:, None], 0)


def load_tower(folder: files.Folder, kind: str, spec: Pretrained) -> tuple[Any, Any]:
    """The model in float32 with the weights of its file, every one of them, and a CLIP's projection, else None.

    Raises ConfigError: the model has no such attention; DataError: the file is damaged, or does not hold what the
    configuration asks for.
    """
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": spec.attention}
    if folder.kind == "clip" and kind in CLIP_HALVES:
        whole = _built(folder, spec, **options)
        tower, projection = (getattr(whole, name) for name in CLIP_HALVES[kind])
        return tower, projection if spec.pooling is None else None
    for name, value in {"apply_spec_augment": False, "layerdrop": 0.0}.items():
        if hasattr(folder.config, name):
            setattr(folder.config, name, value)
    pooled = spec.pooling == "pooler"
    try:
        tower = _built(folder, spec, () if pooled else ("pooler.",), **options)
    except DataError as e:
        if "attention implementation" in str(e):
            raise ConfigError(
                f"{folder.where}.attention: a model of type '{folder.kind}' has no {spec.attention}; give `eager`"
            ) from e
        raise
    if not pooled and any(name.startswith("pooler.") for name, _ in tower.named_parameters()):
        tower.pooler = None  # nothing is computed with it, and it may be of random weights
    return tower, None


def _built(folder: files.Folder, spec: Pretrained, unused: tuple[str, ...] = (), **options: Any) -> Any:
    """The model with the weights of its file; of one whose weights come later, with any."""
    model = files.library(folder.where).AutoModel
    if spec.has_weights:
        return files.load_weights(model, folder.path, unused, config=folder.config, **options)
    with torch.random.fork_rng(devices=[]):
        return model.from_config(folder.config, **options)


def add_updates(tower: nn.Module, given: Lora, where: str) -> None:
    """Put low-rank updates into the tower, then all that is trained; ConfigError without the extra or such a layer."""
    try:
        import peft
    except ImportError:
        raise not_installed(f"{where}.lora", "peft") from None
    settings = peft.LoraConfig(
        r=given.r, lora_alpha=given.alpha, lora_dropout=given.dropout, target_modules=list(given.target_modules)
    )
    try:
        peft.inject_adapter_in_model(settings, tower)
    except ValueError:
        ends = sorted({name.rpartition(".")[2] for name, part in tower.named_modules() if isinstance(part, nn.Linear)})
        raise ConfigError(
            f"{where}.lora.target_modules: no layer ends in one of {given.target_modules}; linear layers: "
            f"{', '.join(ends)}"
        ) from None


def _tokens(output: Any) -> Tensor:
    """(B, T, W); a map (B, W, h, w) is taken place by place."""
    last: Tensor = output.last_hidden_state
    return last.flatten(2).transpose(1, 2) if last.ndim == 4 else last

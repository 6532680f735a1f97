"""What the methods share that learn without labels: an encoder and augmentations per modality, pretraining alone.

Shapes: b rows of this rank, B rows of the global batch, d width of one modality's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.config.augmentations import parse_augmentations
from mmcontrast.data.augment import Augmenter
from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, Method, Progress
from mmcontrast.methods.presence import EVERYTHING, Presence
from mmcontrast.models.encoders import build_encoders

Raw = Mapping[str, Sequence[Mapping[str, Any]]]


def build_augmenters(cell: CellConfig, raw: Raw) -> dict[str, Augmenter]:
    """modality -> its augmentations, by its kind.

    Raises:
        ConfigError: nothing is said of a kind that the dataset has, or what is said is not accepted.
    """
    where = f"params/methods/{cell.method}.yaml ({cell.name}): objective.augmentations"
    out = {}
    for name, modality in cell.modalities.items():
        if modality.kind not in raw:
            raise ConfigError(
                f"{where}: nothing for '{modality.kind}', which modality '{name}' is; give a list, [] for none"
            )
        steps = parse_augmentations(raw[modality.kind], modality.kind, f"{where}.{modality.kind}")
        out[name] = Augmenter(modality.kind, steps)
    return out


class SelfSupervised(Method):
    """An encoder per modality, and an embedding that is theirs side by side, scored by a linear probe.

    A modality that a row lacks is zeros in its embedding.

    Args:
        encoders: those of a method that has others than one per modality.
    """

    takes_partial_rows = True

    def __init__(self, cell: CellConfig, encoders: nn.ModuleDict | None = None) -> None:
        super().__init__(cell)
        self.encoders = build_encoders(cell, self.modalities) if encoders is None else encoders

    def encode(self, inputs: Mapping[str, Tensor], presence: Presence = EVERYTHING) -> dict[str, Tensor]:
        """modality -> (b, d), of the rows of this rank and the modalities given; zeros where a row lacks one."""
        return presence.encode(self.encoders, inputs)

    def encodings(self, batch: Batch) -> Tensor:
        """(b, K * d) outputs of all encoders, one after another."""
        return torch.cat(list(self.encode(batch.inputs, Presence.of(batch)).values()), dim=-1)

    def embed(self, batch: Batch) -> Tensor:
        return self.encodings(batch)

    def projection_widths(self) -> list[int]:
        """Widths of the contrastive head after its input; ConfigError where the cell gives none."""
        return projection_widths(self.cell)


def projection_widths(cell: CellConfig) -> list[int]:
    """Widths of the contrastive head after its input.

    Raises:
        ConfigError: the cell gives none.
    """
    widths = list(cell.model.projection)
    if not widths:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): model.projection: this method needs a contrastive head; "
            "give the widths of its layers, e.g. [512, 512, 256]"
        )
    return widths


def refuse_finetuning(cell: CellConfig) -> None:
    """Raise ConfigError if the cell has a `finetune` stage, for a method that has no loss of labels."""
    if cell.finetune is not None:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): finetune: this method has no classifier; remove "
            "`finetune`, its embeddings are scored by a linear probe"
        )


def augmented(augmenters: Mapping[str, Augmenter], batch: Batch, progress: Progress) -> dict[str, Tensor]:
    """A fresh view of the batch, every modality on its own; draws are those of the global batch.

    Returns:
        modality -> augmented copy of the rows of this rank.
    """
    total = len(progress.gather(batch.labels))
    return {m: augment(batch.inputs[m], progress.generator, progress.rows, total) for m, augment in augmenters.items()}

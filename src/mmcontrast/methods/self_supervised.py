"""What the methods share that learn without labels: an encoder and augmentations per modality, pretraining alone.

Shapes: b rows of this rank, B rows of the global batch, K modalities, d width of a modality's embedding,
P of its head's output.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.config.augmentations import parse_augmentations
from mmcontrast.config.base import known
from mmcontrast.config.objective import ProjectedObjective
from mmcontrast.data.augment import Augmenter
from mmcontrast.errors import ConfigError
from mmcontrast.losses.rows import unit_rows, upcast
from mmcontrast.methods.base import EVERYTHING, Batch, Method, Presence, Progress, keep_local, refuse_finetuning
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.heads import ProjectionHead

Raw = Mapping[str, Sequence[Mapping[str, Any]]]


def build_augmenters(cell: CellConfig, raw: Raw) -> dict[str, Augmenter]:
    """modality -> its augmentations, by its kind.

    Raises ConfigError: nothing is said of a kind that the dataset has, or what is said is not accepted.
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

    A modality that a row lacks is zeros in it; ConfigError for a kind without encoder. encoders: if not one for each.
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


class Projected(SelfSupervised):
    """A head on each encoder, whose outputs are contrasted; scored are the encoders' outputs, or the heads'.

    Raises ConfigError: a `finetune` stage, or no model.projection for the heads.
    """

    def __init__(self, cell: CellConfig, objective: ProjectedObjective) -> None:
        super().__init__(cell)
        refuse_finetuning(cell)
        self.scored = objective.embedding
        self.heads = nn.ModuleDict({m: self._head(objective.head) for m in self.modalities})

    def project(
        self, inputs: Mapping[str, Tensor], gather: Callable[[Tensor], Tensor], presence: Presence = EVERYTHING
    ) -> list[Tensor]:
        """One (B, P) tensor per modality, of the global batch, after its head; zeros in rows that lack it."""
        z = self.encode(inputs, presence)
        return [upcast(presence.project(m, self.head_of(m), gather(z_bd))) for m, z_bd in z.items()]

    def head_of(self, modality: str) -> nn.Module:
        """The head that a modality's embeddings go through."""
        return self.heads[modality]

    def place(self, modality: str) -> int:
        """Position of the modality that the objective has as its anchor; ConfigError where the dataset has no such."""
        where = f"params/methods/{self.cell.method}.yaml ({self.cell.name}): objective.anchor"
        known(f"{where}: dataset '{self.cell.dataset}'", "modality", modality, self.modalities)
        return self.modalities.index(modality)

    def unit_outputs(self, batch: Batch) -> list[Tensor]:
        """K unit-norm outputs (b, P) of the heads, as they are contrasted."""
        return [unit_rows(z_bP) for z_bP in self.project(batch.inputs, keep_local, Presence.of(batch))]

    def embed(self, batch: Batch) -> Tensor:
        return self.encodings(batch) if self.scored == "encoders" else torch.cat(self.unit_outputs(batch), dim=-1)

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """(b, width) by name: where heads are scored, also their inputs, and what is left without each modality."""
        if self.scored == "encoders":
            return {"": self.encodings(batch)}
        parts = dict(zip(self.modalities, self.unit_outputs(batch), strict=True))
        lacking = {
            f"without_{m}": torch.cat([torch.zeros_like(z) if o == m else z for o, z in parts.items()], dim=-1)
            for m in self.modalities
        }
        return {"": torch.cat(list(parts.values()), dim=-1), "encoders": self.encodings(batch), **lacking}

    def _head(self, kind: str) -> nn.Module:
        width = self.cell.model.width
        if kind == "none":
            return nn.Identity()
        if kind == "linear":
            return nn.Linear(width, self.projection_widths()[-1], bias=False)
        return ProjectionHead([width, *self.projection_widths()])


def projection_widths(cell: CellConfig) -> list[int]:
    """Widths of the contrastive head after its input; ConfigError where the cell gives none."""
    widths = list(cell.model.projection)
    if not widths:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): model.projection: this method needs a contrastive head; "
            "give the widths of its layers, e.g. [512, 512, 256]"
        )
    return widths


def augmented(augmenters: Mapping[str, Augmenter], batch: Batch, progress: Progress) -> dict[str, Tensor]:
    """A fresh view (b, ...) of this rank's rows, each modality on its own; draws are those of the global batch."""
    total = len(progress.gather(batch.labels))
    return {m: augment(batch.inputs[m], progress.generator, progress.rows, total) for m, augment in augmenters.items()}

"""GMC: an embedding of each modality, and one of all together that any of them can stand for.

Source: see `losses.tuples`. Differences from the released code: encoders are the study's; the joint encoder is a second
set of them, side by side into a linear layer; the supervised form has the loss of the target, not an absolute error.

Shapes: b rows of this rank, B rows of the global batch, d width of an encoder, P of the head's output.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.losses.rows import over_rows, unit_rows, upcast
from mmcontrast.losses.supervised import target_loss
from mmcontrast.losses.tuples import gmc_loss
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.baselines.objectives import GMCObjective
from mmcontrast.methods.self_supervised import SelfSupervised, projection_widths
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.heads import mlp


class GMC(SelfSupervised):
    """loss = sum over modalities of NT-Xent with the joint embedding, inputs as they are; in `finetune` + labels' own.

    One head is shared by all embeddings. `embed` is the joint embedding of a row that has all modalities, and the mean
    of what it has of another. The contrast is over rows that have all; the supervised term, of a residual classifier on
    that embedding, over all. Raises ConfigError: no model.projection, or a kind of modality without encoder.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        self.tau = GMCObjective.model_validate(cell.objective).tau
        self.joint_encoders = build_encoders(cell, self.modalities)
        self.join = nn.Linear(len(self.modalities) * cell.model.width, cell.model.width)
        widths = [cell.model.width, *projection_widths(cell)]
        self.head = mlp(widths, nn.SiLU)
        if cell.finetune is not None:
            self.residual = mlp([widths[-1]] * 3)
            self.classifier = nn.Linear(widths[-1], self.n_classes)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence = Presence.of(batch, progress.gather)
        parts = self._parts(batch.inputs, presence)
        contrast = over_rows(
            lambda joint, *own: gmc_loss(joint, own, self.tau),
            presence.rows(*self.modalities),
            *(progress.gather(z_bP) for z_bP in parts.values()),
        )
        if progress.stage == "pretrain":
            return {"loss": contrast}
        scores_BC, labels_B = progress.gather(self._scores(self._seen(parts, presence))), progress.gather(batch.labels)
        of_labels = target_loss(self.cell.target)
        supervised = over_rows(of_labels, presence.any(self.modalities), scores_BC, labels_B, least=1)
        return {"loss": contrast + supervised, "contrast": contrast, "supervised": supervised}

    def embed(self, batch: Batch) -> Tensor:
        return self.embeddings(batch)[""]

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """Also the encoders' outputs, and what stands for a row from which a modality is taken away."""
        presence = Presence.of(batch)
        parts = self._parts(batch.inputs, presence)
        lacking = {f"without_{m}": self._seen(parts, presence, without=m) for m in self.modalities}
        return {"": self._seen(parts, presence), "encoders": self.encodings(batch), **lacking}

    def logits(self, batch: Batch) -> Tensor | None:
        return None if self.cell.finetune is None else self._scores(self.embed(batch))

    def _scores(self, z_bP: Tensor) -> Tensor:
        scores_bC: Tensor = self.classifier(z_bP + self.residual(z_bP))
        return scores_bC

    def _parts(self, inputs: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Unit rows (b, P): under "" the joint one, without meaning where a row lacks something; then by modality."""
        joined_bZ = torch.cat(list(presence.encode(self.joint_encoders, inputs).values()), dim=-1)
        encoded = {"": self.join(joined_bZ), **self.encode(inputs, presence)}
        return {m: unit_rows(upcast(self.head(z_bd))) for m, z_bd in encoded.items()}

    def _seen(self, parts: Mapping[str, Tensor], presence: Presence, without: str = "") -> Tensor:
        """(b, P): the joint embedding where everything is there, else the mean of what is; zeros where nothing is."""
        seen = [m for m in self.modalities if m != without]
        count_b1 = torch.stack([presence.blank(m, torch.ones_like(parts[m][:, :1])) for m in seen]).sum(dim=0)
        mean_bP = torch.stack([presence.blank(m, parts[m]) for m in seen]).sum(dim=0) / count_b1.clamp(min=1)
        return mean_bP if without else torch.where(count_b1 == len(seen), parts[""], mean_bP)


METHOD = GMC

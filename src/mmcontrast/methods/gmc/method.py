"""GMC: an embedding of each modality, and one of all together that any of them can stand for.

Source: see `loss.py`. Differences from the released code: encoders are the study's; the joint encoder is a second set
of them, side by side into a linear layer; the supervised form has the loss of the target, not an absolute error.

Shapes: b rows of this rank, B rows of the global batch, K modalities, d width of an encoder, P of the head's output.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.losses.precision import upcast
from mmcontrast.losses.rows import over_rows, shared_rows
from mmcontrast.losses.similarity import unit_rows
from mmcontrast.losses.targets import target_loss
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.gmc.loss import gmc_loss
from mmcontrast.methods.gmc.objective import GMCObjective
from mmcontrast.methods.presence import Presence
from mmcontrast.methods.self_supervised import SelfSupervised, projection_widths
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.mlp import mlp


class GMC(SelfSupervised):
    """loss = sum over modalities of NT-Xent with the joint embedding, inputs as they are; in `finetune` + labels' own.

    One head is shared by all embeddings, the joint one too. `embed` is the joint embedding of a row that has all
    modalities, and the mean of what it has of another: nothing is imputed. The contrast is over rows that have all; the
    supervised term, of a residual classifier on that embedding, over all.

    Raises:
        ConfigError: no model.projection, or a kind of modality without encoder.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        self.objective = GMCObjective.model_validate(cell.objective)
        self.joint_encoders = build_encoders(cell, self.modalities)
        self.join = nn.Linear(len(self.modalities) * cell.model.width, cell.model.width)
        widths = [cell.model.width, *projection_widths(cell)]
        self.head = mlp(widths, nn.SiLU)
        if cell.finetune is not None:
            self.residual = mlp([widths[-1]] * 3)
            self.classifier = nn.Linear(widths[-1], self.n_classes)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        spec, presence = self.objective, Presence.of(batch, progress.gather)
        joint_bP, z = self._parts(batch.inputs, presence)
        contrast = over_rows(
            lambda joint, *own: gmc_loss(joint, own, spec.tau, spec.joints_as_negatives),
            presence.rows(*self.modalities),
            *(progress.gather(x_bP) for x_bP in (joint_bP, *z.values())),
        )
        if progress.stage == "pretrain":
            return {"loss": contrast}
        scores_BC = progress.gather(self._scores(self._seen(joint_bP, z, presence)))
        supervised = over_rows(
            target_loss(self.cell.target),
            presence.any(self.modalities),
            scores_BC,
            progress.gather(batch.labels),
            least=1,
        )
        return {"loss": contrast + supervised, "contrast": contrast, "supervised": supervised}

    def embed(self, batch: Batch) -> Tensor:
        presence = Presence.of(batch)
        return self._seen(*self._parts(batch.inputs, presence), presence)

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """Also the encoders' outputs, and what stands for a row from which a modality is taken away."""
        presence = Presence.of(batch)
        joint_bP, z = self._parts(batch.inputs, presence)
        lacking = {f"without_{m}": self._seen(joint_bP, z, presence, without=m) for m in self.modalities}
        return {"": self._seen(joint_bP, z, presence), "encoders": self.encodings(batch), **lacking}

    def logits(self, batch: Batch) -> Tensor | None:
        return None if self.cell.finetune is None else self._scores(self.embed(batch))

    def _scores(self, z_bP: Tensor) -> Tensor:
        scores_bC: Tensor = self.classifier(z_bP + self.residual(z_bP))
        return scores_bC

    def _parts(self, inputs: Mapping[str, Tensor], presence: Presence) -> tuple[Tensor, dict[str, Tensor]]:
        """Unit rows (b, P): the joint one, of a row that lacks something without meaning, and modality -> its own."""
        joined = torch.cat(list(presence.encode(self.joint_encoders, inputs).values()), dim=-1)
        own = self.encode(inputs, presence)
        joint_bP, *z = (unit_rows(upcast(self.head(x_bd))) for x_bd in (self.join(joined), *own.values()))
        return joint_bP, dict(zip(own, z, strict=True))

    def _seen(self, joint_bP: Tensor, z: Mapping[str, Tensor], presence: Presence, without: str = "") -> Tensor:
        """(b, P): the joint embedding where everything is there, else the mean of what is; zeros where nothing is."""
        has = {m: presence.local.get(m) for m in z if m != without}
        complete_b = shared_rows(*has.values())
        if complete_b is None and not without:
            return joint_bP
        every_b = joint_bP.new_ones(len(joint_bP), dtype=torch.bool)
        count_b = torch.stack([every_b if rows_b is None else rows_b for rows_b in has.values()]).sum(dim=0)
        sum_bP = torch.stack([presence.blank(m, z[m]) for m in has]).sum(dim=0)
        mean_bP = sum_bP / count_b.clamp(min=1)[:, None]
        return mean_bP if without or complete_b is None else torch.where(complete_b[:, None], joint_bP, mean_bP)


METHOD = GMC

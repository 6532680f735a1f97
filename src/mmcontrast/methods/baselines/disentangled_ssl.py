"""DisentangledSSL: what modalities share is learned first and then kept, while each learns what it has beside it.

Source: see `losses.disentangled`. Differences from the released code: step 2 follows step 1 of its own seed, in one
stage under one schedule (the code's starts from seed 0's); what is kept has no gradient and no batch statistics that
move; both views are augmented from the inputs (the code augments the second from the first); what a modality has alone
is read by a second encoder, whose output goes with the shared one through a linear layer.

Shapes: b rows of this rank, d width of an encoder's output.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.losses.disentangled import disentangled_shared_loss, disentangled_specific_loss
from mmcontrast.losses.rows import over_rows
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.baselines.objectives import DisentangledObjective
from mmcontrast.methods.self_supervised import SelfSupervised, augmented, build_augmenters, refuse_finetuning
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.heads import mlp


class DisentangledSSL(SelfSupervised):
    """Shared embeddings e in the first epochs, specific ones s in the others; `embed` is all e, then all s.

    Scored also: `encoders`, the shared ones alone, and `specific`. A pair is over the rows that have both modalities,
    the second step over those that have all.

    Raises:
        ConfigError: a `finetune` stage, or a kind of modality without encoder or augmentations.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_finetuning(cell)
        self.objective = DisentangledObjective.model_validate(cell.objective)
        self.augmenters = build_augmenters(cell, self.objective.augmentations)
        self.specific_encoders = build_encoders(cell, self.modalities)
        width = cell.model.width
        self.beside = nn.ModuleDict({m: mlp([2 * width, width]) for m in self.modalities})

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence, spec, k = Presence.of(batch, progress.gather), self.objective, len(self.modalities)
        view = augmented(self.augmenters, batch, progress)
        if progress.epoch < spec.first_step * progress.epochs:
            e = [progress.gather(e_bd) for e_bd in self.encode(view, presence).values()]
            has = [presence.rows(m) for m in self.modalities]
            return {"loss": disentangled_shared_loss(e, spec.tau, spec.beta, has)}
        parts: list[Tensor] = []
        for inputs in (view, augmented(self.augmenters, batch, progress)):
            # nothing of what is kept moves
            self.encoders.eval()
            with torch.no_grad():
                shared = self.encode(inputs, presence)
            self.encoders.train(self.training)
            parts += [*shared.values(), *self._specific(inputs, shared, presence).values()]

        def loss(*z: Tensor) -> Tensor:
            shared, specific = (z[:k], z[2 * k : 3 * k]), (z[k : 2 * k], z[3 * k :])
            return disentangled_specific_loss(shared, specific, spec.tau, spec.ortho_weight)

        return {"loss": over_rows(loss, presence.rows(*self.modalities), *(progress.gather(z_bd) for z_bd in parts))}

    def embed(self, batch: Batch) -> Tensor:
        return self.embeddings(batch)[""]

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        presence = Presence.of(batch)
        shared = self.encode(batch.inputs, presence)
        specific = self._specific(batch.inputs, shared, presence)
        e_bZ, s_bZ = (torch.cat(list(part.values()), dim=-1) for part in (shared, specific))
        return {"": torch.cat([e_bZ, s_bZ], dim=-1), "encoders": e_bZ, "specific": s_bZ}

    def _specific(
        self, inputs: Mapping[str, Tensor], shared: Mapping[str, Tensor], presence: Presence
    ) -> dict[str, Tensor]:
        """modality -> (b, d), zeros in rows that lack it."""
        own = presence.encode(self.specific_encoders, inputs)
        return {m: presence.blank(m, self.beside[m](torch.cat([own[m], shared[m]], dim=-1))) for m in own}


METHOD = DisentangledSSL

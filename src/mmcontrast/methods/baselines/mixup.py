"""Vanilla mixup of inputs and labels, the ablation baseline of M3CoL.

Shapes: b rows of this rank, B rows of the global batch, D width, C classes.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.losses.mixing import apply_mix, sample_beta
from mmcontrast.losses.supervised import mixed_label_loss, target_loss
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.baselines.objectives import MixupObjective
from mmcontrast.methods.joint import JointMethod, refuse_pretraining, refuse_unmixable, total


class Mixup(JointMethod):
    """loss = mixed CE(fusion) + [sum of unimodal mixed CE], every modality's INPUT mixed alike.

    One lambda ~ Beta(alpha, alpha) and one permutation per batch, shared by the modalities.

    Where paper and released code differ: in M3CoL's released baseline the text embedding that fusion sees stays unmixed
    even where text is mixed, and weights of (1 +- lambda) / 2 serve the case of one mixed modality. Here everything is
    mixed, so that fusion and unimodal heads see the same.

    A mixture has a modality where both of its rows have it; one that has none is left out.

    Raises:
        ConfigError: a `pretrain` stage, or a modality whose inputs cannot be mixed.
    """

    def __init__(self, cell: CellConfig) -> None:
        refuse_pretraining(cell, "remove `pretrain`")
        objective = MixupObjective.model_validate(cell.objective)
        refuse_unmixable(cell, "train `concat`, or `m3col` with objective.mix_space: embedding")
        super().__init__(cell, objective.unimodal_heads)
        self.objective = objective

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        labels_B = progress.gather(batch.labels)
        n = len(labels_B)
        perm_B = torch.randperm(n, generator=progress.generator)
        weight_1 = sample_beta(1, self.objective.alpha, progress.generator)
        mixed = {
            m: apply_mix(progress.gather(batch.inputs[m]), weight_1.expand(n), perm_B)[progress.rows]
            for m in self.modalities
        }
        labels = [labels_B, labels_B[perm_B.to(labels_B.device)]]
        presence = Presence.of(batch, progress.gather).mixed(perm_B, progress.rows)
        criterion = partial(mixed_label_loss, weight=weight_1.item(), loss=target_loss(self.cell.target))
        z = presence.encode(self.encoders, mixed)
        terms = self.supervised_terms(z, criterion, labels, presence, progress.gather)
        return {"loss": total(terms.values()), **terms}


METHOD = Mixup

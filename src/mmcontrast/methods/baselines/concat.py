"""Concatenation: the supervised baseline, optionally with unimodal heads and a CLIP-type InfoNCE term.

Shapes: b rows of this rank, B rows of the global batch, D width.
"""

from __future__ import annotations

from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.losses.pairwise import paired_info_nce
from mmcontrast.losses.rows import modality_pairs
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.baselines.objectives import ConcatObjective
from mmcontrast.methods.joint import JointMethod, refuse_pretraining


class Concat(JointMethod):
    """loss = CE(fusion) + [sum of unimodal CE] + [beta InfoNCE]; in pretraining InfoNCE alone.

    Where rows lack a modality, InfoNCE of a pair is over the rows that have both; see JointMethod for the heads.
    """

    def __init__(self, cell: CellConfig) -> None:
        objective = ConcatObjective.model_validate(cell.objective)
        super().__init__(cell, objective.unimodal_heads)
        self.objective = objective
        if objective.beta == 0:
            refuse_pretraining(cell, "remove `pretrain`, or set objective.beta above 0")
        self.pairs = modality_pairs(self.modalities, objective.pairing) if objective.beta > 0 else []

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence = Presence.of(batch, progress.gather)
        z = presence.encode(self.encoders, batch.inputs)
        contrastive = {}
        if self.pairs:
            z_global = {m: progress.gather(z_bD) for m, z_bD in z.items()}
            contrastive["info_nce"] = paired_info_nce(z_global, self.pairs, self.objective.tau, presence.whole)
        return self.training_terms(z, contrastive, self.objective.beta, batch, presence, progress)


METHOD = Concat

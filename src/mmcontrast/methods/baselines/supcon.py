"""SupCon between modalities: embeddings of one class attract each other, whichever modality they are of.

Source: Khosla et al. 2020, as a multimodal baseline in Liang et al. 2023 (FactorCL) and Dufumier et al. 2025 (CoMM).

Shapes: b rows of this rank, B rows of the global batch, P width of a head's output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ContrastError
from mmcontrast.losses.rows import upcast
from mmcontrast.losses.supervised import supcon, supcon_rows
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.baselines.objectives import SupConObjective
from mmcontrast.methods.joint import refuse_other_targets, refuse_pretraining
from mmcontrast.methods.self_supervised import SelfSupervised
from mmcontrast.models.heads import ProjectionHead


class SupCon(SelfSupervised):
    """loss = SupCon over the modalities' projected embeddings, inputs as they are.

    It sees labels, so its stage is `finetune`. There is no classifier: `embed`, the encoders' outputs side by side, is
    scored by a linear probe.

    A modality that a row lacks gives no embedding; an embedding that has no other of its class is a negative alone.

    Raises:
        ContrastError: fewer than two modalities. ConfigError: a `pretrain` stage, no
            model.projection, or labels that are not one class each.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_pretraining(cell, "remove `pretrain`: its loss needs labels")
        refuse_other_targets(cell, "train `concat` or `joint_fusion`, whose loss takes these labels")
        if len(self.modalities) < 2:
            raise ContrastError(f"SupCon between modalities needs at least two, and there is {self.modalities}")
        self.objective = SupConObjective.model_validate(cell.objective)
        widths = [cell.model.width, *self.projection_widths()]
        self.heads = nn.ModuleDict({m: ProjectionHead(widths) for m in self.modalities})

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence, labels_B = Presence.of(batch, progress.gather), progress.gather(batch.labels)
        z, tau = self.encode(batch.inputs, presence), self.objective.tau
        views = [upcast(presence.project(m, self.heads[m], progress.gather(z_bd))) for m, z_bd in z.items()]
        if not presence.whole:
            return {"loss": supcon(views, labels_B, tau)}
        everyone = torch.ones_like(labels_B, dtype=torch.bool)
        has_R = torch.cat([presence.whole.get(m, everyone) for m in z])
        return {"loss": supcon_rows(torch.cat(views)[has_R], labels_B.repeat(len(z))[has_R], tau, len(has_R))}


METHOD = SupCon

"""Supervised fusion: CoMM's encoders and fusion (Dufumier et al., ICLR 2025) under cross-entropy, no paper's method.

Shapes: b rows of this rank, C classes, D width of the fusion.
"""

from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.losses.supervised import target_loss
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.comm.fusion import FusedMethod
from mmcontrast.methods.joint import refuse_pretraining
from mmcontrast.models.heads import mlp


class JointFusion(FusedMethod):
    """loss = that of the target (cross-entropy) of one head on the fused embedding of inputs as they are.

    What a row lacks has no tokens.
    Raises ContrastError, ConfigError: as FusedMethod; also for a `pretrain` stage, for which there is no term.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_pretraining(cell, "remove `pretrain`")
        self.classifier = mlp([self.fused_width, *cell.model.head_hidden, self.n_classes])

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        scores_BC = progress.gather(self.logits(batch))
        return {"loss": target_loss(self.cell.target)(scores_BC, progress.gather(batch.labels))}

    def logits(self, batch: Batch) -> Tensor:
        scores_bC: Tensor = self.classifier(self.embed(batch))
        return scores_bC


METHOD = JointFusion

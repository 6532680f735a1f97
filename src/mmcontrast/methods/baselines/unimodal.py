"""One modality alone, or late fusion: a classifier for each modality, their probabilities averaged.

Shapes: b rows of this rank, B rows of the global batch, M modalities, D width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.losses.cross_entropy import label_cross_entropy
from mmcontrast.losses.precision import upcast
from mmcontrast.methods.base import Batch, Method, Progress
from mmcontrast.methods.baselines.objectives import UnimodalObjective
from mmcontrast.methods.joint import refuse_pretraining, total
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.heads import classification_head


def log_mean_probability(scores: Sequence[Tensor]) -> Tensor:
    """log of the mean over modalities of softmax(scores): M tensors (b, C) -> (b, C), whose softmax is that mean."""
    log_probs_MbC = torch.stack([upcast(s_bC).log_softmax(dim=-1) for s_bC in scores])
    return log_probs_MbC.logsumexp(dim=0) - math.log(len(scores))


class Unimodal(Method):
    """loss = sum over the modalities it sees of their own CE; no modality ever learns from another."""

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_pretraining(cell, "remove `pretrain`")
        only = UnimodalObjective.model_validate(cell.objective).modality
        if only is not None and only not in self.modalities:
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): objective.modality: dataset '{cell.dataset}' has no "
                f"modality '{only}'; {nearest(only, self.modalities)}"
            )
        seen = self.modalities if only is None else [only]
        self.encoders = build_encoders(cell, seen)
        self.heads = nn.ModuleDict({m: classification_head(cell, 1) for m in seen})

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        labels_B = progress.gather(batch.labels)
        terms = {
            f"unimodal_{m}": label_cross_entropy(progress.gather(scores_bC), labels_B)
            for m, scores_bC in self._scores(batch).items()
        }
        return {"loss": total(terms.values()), **terms}

    def embed(self, batch: Batch) -> Tensor:
        return torch.cat([encoder(batch.inputs[m]) for m, encoder in self.encoders.items()], dim=-1)

    def logits(self, batch: Batch) -> Tensor:
        return log_mean_probability(list(self._scores(batch).values()))

    def _scores(self, batch: Batch) -> dict[str, Tensor]:
        """modality -> (b, C)."""
        return {m: head(self.encoders[m](batch.inputs[m])) for m, head in self.heads.items()}


METHOD = Unimodal

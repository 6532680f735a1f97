"""What the supervised multimodal methods share: encoders, a fusion head, and a head per modality where asked.

Shapes: b rows of this rank, B rows of the global batch, M modalities, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError
from mmcontrast.losses.targets import target_loss
from mmcontrast.methods.base import Batch, Method, Progress
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.heads import classification_head


def total(terms: Iterable[Tensor]) -> Tensor:
    """Sum of scalar terms."""
    return torch.stack(list(terms)).sum()


def refuse_pretraining(cell: CellConfig, remedy: str) -> None:
    """Raise ConfigError if the cell has a `pretrain` stage, for a method without a contrastive term to do it with."""
    if cell.pretrain is not None:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): pretrain: this method has no contrastive term, "
            f"so nothing to pretrain with; {remedy}"
        )


class JointMethod(Method):
    """Early fusion: embeddings are concatenated in the dataset's order of modalities and one head classifies them.

    Heads of single modalities are used in training only; `logits` is the fusion head's.
    """

    def __init__(self, cell: CellConfig, unimodal_heads: bool) -> None:
        super().__init__(cell)
        self.encoders = build_encoders(cell, self.modalities)
        self.fusion_head = classification_head(cell, len(self.modalities))
        self.unimodal_heads = nn.ModuleDict(
            {m: classification_head(cell, 1) for m in self.modalities} if unimodal_heads else {}
        )

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """modality -> (b, D), of the rows of this rank."""
        return {m: encoder(inputs[m]) for m, encoder in self.encoders.items()}

    def supervised_terms(
        self,
        z: Mapping[str, Tensor],
        criterion: Callable[[Tensor], Tensor],
        gather: Callable[[Tensor], Tensor],
    ) -> dict[str, Tensor]:
        """`fusion`, and `unimodal` (the sum over modalities) where there are unimodal heads.

        Args:
            z: modality -> (b, D).
            criterion: (B, C) scores of the global batch -> scalar.
        """
        terms = {"fusion": criterion(gather(self._fuse(z)))}
        if self.unimodal_heads:
            terms["unimodal"] = total(criterion(gather(head(z[m]))) for m, head in self.unimodal_heads.items())
        return terms

    def training_terms(
        self, z: Mapping[str, Tensor], contrastive: Mapping[str, Tensor], beta: float, batch: Batch, progress: Progress
    ) -> dict[str, Tensor]:
        """`loss` and its terms: the contrastive ones alone in pretraining, the supervised ones + beta of them after it.

        Args:
            z: modality -> (b, D), of the rows of this rank.
            contrastive: terms of the global batch, at least one in pretraining.
            beta: weight of each contrastive term beside the supervised ones.
        """
        if progress.stage == "pretrain":
            return {"loss": total(contrastive.values()), **contrastive}
        loss_of, labels = target_loss(self.cell.target), progress.gather(batch.labels)
        supervised = self.supervised_terms(z, lambda scores: loss_of(scores, labels), progress.gather)
        loss = total([*supervised.values(), *(beta * term for term in contrastive.values())])
        return {"loss": loss, **supervised, **contrastive}

    def embed(self, batch: Batch) -> Tensor:
        return torch.cat(list(self.encode(batch.inputs).values()), dim=-1)

    def logits(self, batch: Batch) -> Tensor:
        return self._fuse(self.encode(batch.inputs))

    def _fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        scores_bC: Tensor = self.fusion_head(torch.cat(list(z.values()), dim=-1))
        return scores_bC

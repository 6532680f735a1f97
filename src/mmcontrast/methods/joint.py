"""What the supervised multimodal methods share: encoders, a fusion head, and a head per modality where asked.

Shapes: b rows of this rank, B rows of the global batch, M modalities, D width, C classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError
from mmcontrast.losses.rows import over_rows
from mmcontrast.losses.supervised import target_loss
from mmcontrast.methods.base import Batch, Method, Presence, Progress
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


def refuse_other_targets(cell: CellConfig, remedy: str) -> None:
    """Raise ConfigError if the cell's labels are not one class each, for a loss that asks which share one."""
    if cell.target != "classes":
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): this loss contrasts rows by their class, and "
            f"params/datasets/{cell.dataset}.yaml says target: {cell.target}; {remedy}"
        )


def refuse_unmixable(cell: CellConfig, remedy: str) -> None:
    """Raise ConfigError if a modality of the cell has inputs whose weighted mean is no input."""
    for name, modality in cell.modalities.items():
        if modality.kind in ("text", "sequence"):
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): modality '{name}' holds {modality.kind}s, and this "
                f"method mixes inputs, which only vectors and images allow; {remedy}"
            )


class JointMethod(Method):
    """Early fusion: embeddings are concatenated in the dataset's order of modalities and one head classifies them.

    Heads of single modalities are used in training only; `logits` is the fusion head's. Of a modality that a row lacks
    the fusion head sees zeros, and its own head not the row. ConfigError for a kind of modality without encoder.
    """

    def __init__(self, cell: CellConfig, unimodal_heads: bool) -> None:
        super().__init__(cell)
        self.encoders = build_encoders(cell, self.modalities)
        self.fusion_head = classification_head(cell, len(self.modalities))
        self.unimodal_heads = nn.ModuleDict(
            {m: classification_head(cell, 1) for m in self.modalities} if unimodal_heads else {}
        )

    def supervised_terms(
        self,
        z: Mapping[str, Tensor],
        criterion: Callable[..., Tensor],
        labels: Sequence[Tensor],
        presence: Presence,
        gather: Callable[[Tensor], Tensor],
    ) -> dict[str, Tensor]:
        """`fusion`, and `unimodal` (the sum over modalities) where there are unimodal heads.

        z: modality -> (b, D). labels: of the global batch, (B, ...) each. criterion: (n, C) scores of some rows and
        each of `labels` of these rows -> scalar.
        """

        def term(scores_bC: Tensor, rows_B: Tensor | None) -> Tensor:
            return over_rows(criterion, rows_B, gather(scores_bC), *labels, least=1)

        terms = {"fusion": term(self._fuse(z), presence.any(self.modalities))}
        if self.unimodal_heads:
            terms["unimodal"] = total(term(head(z[m]), presence.rows(m)) for m, head in self.unimodal_heads.items())
        return terms

    def training_terms(
        self,
        z: Mapping[str, Tensor],
        contrastive: Mapping[str, Tensor],
        beta: float,
        batch: Batch,
        presence: Presence,
        progress: Progress,
    ) -> dict[str, Tensor]:
        """`loss` and its terms: the contrastive ones alone in pretraining, the supervised ones + beta of them after it.

        z: modality -> (b, D), of this rank. contrastive: of the global batch, at least one in pretraining.
        """
        if progress.stage == "pretrain":
            return {"loss": total(contrastive.values()), **contrastive}
        labels = [progress.gather(batch.labels)]
        supervised = self.supervised_terms(z, target_loss(self.cell.target), labels, presence, progress.gather)
        loss = total([*supervised.values(), *(beta * term for term in contrastive.values())])
        return {"loss": loss, **supervised, **contrastive}

    def embed(self, batch: Batch) -> Tensor:
        return torch.cat(list(self._encoded(batch).values()), dim=-1)

    def logits(self, batch: Batch) -> Tensor:
        return self._fuse(self._encoded(batch))

    def _encoded(self, batch: Batch) -> dict[str, Tensor]:
        return Presence.of(batch).encode(self.encoders, batch.inputs)

    def _fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        scores_bC: Tensor = self.fusion_head(torch.cat(list(z.values()), dim=-1))
        return scores_bC

"""Contrast of pairs of embeddings: CLIP and CMC between modalities, SimCLR within each, or both (Cross+Self).

One method, because they differ only in which of two terms they take; they are what CoMM is compared with.

Shapes: b rows of this rank, B rows of the global batch, d width of a modality's embedding, P of its head's output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import cmc, info_nce, nt_xent, self_contrast
from mmcontrast.losses.precision import upcast
from mmcontrast.losses.similarity import unit_rows
from mmcontrast.methods.base import Batch, Progress, keep_local
from mmcontrast.methods.baselines.objectives import PairwiseObjective
from mmcontrast.methods.presence import EVERYTHING, Presence
from mmcontrast.methods.self_supervised import SelfSupervised, augmented, build_augmenters, refuse_finetuning
from mmcontrast.models.projection import ProjectionHead

PAIR_LOSSES: dict[str, Callable[..., Tensor]] = {"info_nce": info_nce, "nt_xent": nt_xent}


class Pairwise(SelfSupervised):
    """loss = cross_weight * mean over pairs of modalities + self_weight * mean over modalities.

    The cross term sees inputs as they are (`cross_augmented`: one augmentation of each), the self term two
    augmentations of them; both go through the modality's own head. `embed` is the concatenation of the encoders'
    outputs, or of the heads' (`embedding: heads`), which is what a method that fuses before it contrasts can be
    compared with.

    Of rows that lack a modality, a pair of modalities is over the rows that have both, the self term of a modality over
    those that have it; what lacks is zeros in the embedding.

    Where paper and released code differ (CoMM's): the paper describes linear projectors under the cross term and MLP
    heads under the self term; the code has the same MLP heads under both, which is what `head: mlp` does.

    Raises:
        ContrastError: a cross term with fewer than two modalities.
        ConfigError: no model.projection for the head, or a self term of a kind of modality without augmentations.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_finetuning(cell)
        self.objective = spec = PairwiseObjective.model_validate(cell.objective)
        if spec.cross_weight and len(self.modalities) < 2:
            raise ContrastError(f"a contrast between modalities needs at least two, and there is {self.modalities}")
        self.augmenters = build_augmenters(cell, spec.augmentations) if spec.self_weight or spec.cross_augmented else {}
        self.heads = nn.ModuleDict({m: self._head() for m in self.modalities})

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        spec, terms, weights = self.objective, {}, []
        presence = Presence.of(batch, progress.gather)
        has = [presence.rows(m) for m in self.modalities]
        if spec.cross_weight:
            inputs = augmented(self.augmenters, batch, progress) if spec.cross_augmented else batch.inputs
            embeddings = self.project(inputs, progress.gather, presence)
            terms["cross"] = cmc(embeddings, spec.tau, PAIR_LOSSES[spec.cross_loss], has)
            weights.append(spec.cross_weight)
        if spec.self_weight:
            first, second = (
                self.project(augmented(self.augmenters, batch, progress), progress.gather, presence) for _ in range(2)
            )
            terms["self"] = self_contrast(first, second, spec.tau, has)
            weights.append(spec.self_weight)
        loss = torch.stack([w * term for w, term in zip(weights, terms.values(), strict=True)]).sum()
        return {"loss": loss, **terms}

    def embed(self, batch: Batch) -> Tensor:
        if self.objective.embedding == "encoders":
            return self.encodings(batch)
        return torch.cat(self._heads(batch), dim=-1)

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """Where heads are scored, also what they are given, and what is left without each modality."""
        if self.objective.embedding == "encoders":
            return {"": self.embed(batch)}
        parts = dict(zip(self.modalities, self._heads(batch), strict=True))
        lacking = {
            f"without_{m}": torch.cat([torch.zeros_like(z) if o == m else z for o, z in parts.items()], dim=-1)
            for m in self.modalities
        }
        return {"": torch.cat(list(parts.values()), dim=-1), "encoders": self.encodings(batch), **lacking}

    def _heads(self, batch: Batch) -> list[Tensor]:
        """K unit-norm outputs (b, P), as they are contrasted."""
        return [unit_rows(z_bP) for z_bP in self.project(batch.inputs, keep_local, Presence.of(batch))]

    def project(
        self, inputs: Mapping[str, Tensor], gather: Callable[[Tensor], Tensor], presence: Presence = EVERYTHING
    ) -> list[Tensor]:
        """One (B, P) tensor per modality, of the global batch, after its head; zeros in rows that lack it."""
        z = self.encode(inputs, presence)
        return [upcast(presence.project(m, self.heads[m], gather(z_bd))) for m, z_bd in z.items()]

    def _head(self) -> nn.Module:
        width = self.cell.model.width
        if self.objective.head == "none":
            return nn.Identity()
        if self.objective.head == "linear":
            return nn.Linear(width, self.projection_widths()[-1], bias=False)
        return ProjectionHead([width, *self.projection_widths()])


METHOD = Pairwise

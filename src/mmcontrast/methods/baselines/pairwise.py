"""Contrast of pairs of embeddings: CLIP and CMC between modalities, SimCLR within each, or both (Cross+Self).

One method, because they differ only in which of two terms they take; they are what CoMM is compared with.

Shapes: b rows of this rank, B rows of the global batch, d width of a modality's embedding, P of its head's output.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.errors import ContrastError
from mmcontrast.losses.pairwise import cmc, info_nce, nt_xent, self_contrast
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.baselines.objectives import PairwiseObjective
from mmcontrast.methods.self_supervised import Projected, augmented, build_augmenters

PAIR_LOSSES: dict[str, Callable[..., Tensor]] = {"info_nce": info_nce, "nt_xent": nt_xent}


class Pairwise(Projected):
    """loss = cross_weight * mean over pairs of modalities + self_weight * mean over modalities.

    The cross term sees inputs as they are (`cross_augmented`: one augmentation of each), the self term two
    augmentations of them; both go through the modality's own head. `embed` is the concatenation of the encoders'
    outputs, or of the heads' (`embedding: heads`), which is what a method that fuses before it contrasts can be
    compared with.

    Of rows that lack a modality, a pair of modalities is over the rows that have both, the self term of a modality over
    those that have it; what lacks is zeros in the embedding.

    With `pairs: star` the pairs are those of one modality, the anchor, with each other (ImageBind, Girdhar et al., CVPR
    2023).

    Where paper and released code differ (CoMM's): the paper describes linear projectors under the cross term and MLP
    heads under the self term; the code has the same MLP heads under both, which is what `head: mlp` does.

    Raises:
        ContrastError: a cross term with fewer than two modalities.
        ConfigError: no model.projection for the head, a self term of a kind of modality without augmentations, or an
            anchor that the dataset has not.
    """

    def __init__(self, cell: CellConfig) -> None:
        self.objective = spec = PairwiseObjective.model_validate(cell.objective)
        super().__init__(cell, spec)
        if spec.cross_weight and len(self.modalities) < 2:
            raise ContrastError(f"a contrast between modalities needs at least two, and there is {self.modalities}")
        self.augmenters = build_augmenters(cell, spec.augmentations) if spec.self_weight or spec.cross_augmented else {}
        self.hub = self.place(spec.anchor or self.modalities[0]) if spec.pairs == "star" else None

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        spec, terms, weights = self.objective, {}, []
        presence = Presence.of(batch, progress.gather)
        has = [presence.rows(m) for m in self.modalities]
        if spec.cross_weight:
            inputs = augmented(self.augmenters, batch, progress) if spec.cross_augmented else batch.inputs
            embeddings = self.project(inputs, progress.gather, presence)
            terms["cross"] = cmc(embeddings, spec.tau, PAIR_LOSSES[spec.cross_loss], has, self.hub)
            weights.append(spec.cross_weight)
        if spec.self_weight:
            first, second = (
                self.project(augmented(self.augmenters, batch, progress), progress.gather, presence) for _ in range(2)
            )
            terms["self"] = self_contrast(first, second, spec.tau, has)
            weights.append(spec.self_weight)
        loss = torch.stack([w * term for w, term in zip(weights, terms.values(), strict=True)]).sum()
        return {"loss": loss, **terms}


METHOD = Pairwise

"""CoMM: one fused embedding of all modalities, contrasted across augmentations and with each modality's own.

Source: Dufumier et al., "What to align in multimodal contrastive learning?", ICLR 2025, arXiv 2409.07402; released code
github Duplums/CoMM. Where the two differ, see `loss.py`; `objective.form` chooses.

Shapes: b rows of this rank, B rows of the global batch, D width of the fusion, K embeddings (one per mask), P width of
the head's output.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.config.augmentations import Crop
from mmcontrast.data.augment import Augmenter
from mmcontrast.losses.rows import upcast
from mmcontrast.losses.supervised import supcon
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.comm.fusion import FusedMethod, Masks
from mmcontrast.methods.comm.loss import comm_paper_terms, comm_terms
from mmcontrast.methods.comm.objective import CommObjective
from mmcontrast.methods.joint import refuse_other_targets
from mmcontrast.methods.self_supervised import augmented, build_augmenters, projection_widths
from mmcontrast.models.heads import ProjectionHead

# of the released code's probe, which draws anew at test time
PROBE_CROP = Crop(scale=(0.5, 1.0))


class CoMM(FusedMethod):
    """Fused embeddings, and one head for every embedding that is contrasted.

    The head is called once for each embedding, so that batch statistics are of one kind of embedding, and on gathered
    rows. In a `finetune` stage (the paper's "CoMM fine-tuned") the loss is SupCon on the fused embeddings of two
    augmented views, without the head; what it leaves is scored by the same linear probe.

    A modality that a row lacks has no tokens in the row's fused embedding (under the linear fusion: zeros), and its own
    term is over the rows that have it.
    Raises ContrastError: the cell has fewer than two modalities; ConfigError: no model.fusion or model.projection,
    heads that do not divide the width, a kind of modality without encoder or augmentations, or a `finetune` stage where
    labels are not one class each.
    """

    spec: ClassVar[type[CommObjective]] = CommObjective
    takes_partial_rows = True

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        self.objective = self.spec.model_validate(cell.objective)
        if cell.finetune is not None:
            refuse_other_targets(cell, "remove `finetune`, or train `joint_fusion`, whose loss takes these labels")
        self.augmenters = build_augmenters(cell, self.objective.augmentations)
        self.head = ProjectionHead([self.fused_width, *projection_widths(cell)])
        images = [m for m in self.modalities if cell.modalities[m].kind == "image"]
        self.crop = Augmenter("image", [PROBE_CROP])
        self.cropped = images if self.objective.compat.probe_crops else []
        # of its own, so that what is drawn for a probe changes nothing in training
        self.crops = torch.Generator().manual_seed(0)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        spec, presence = self.objective, Presence.of(batch, progress.gather)
        views = [augmented(self.augmenters, batch, progress) for _ in range(2)]
        if progress.stage == "finetune":
            fused = [upcast(progress.gather(self.fuse(view, self.masks[-1:], presence)[0])) for view in views]
            return {"loss": supcon(fused, progress.gather(batch.labels), spec.tau_supervised)}
        weights = [spec.unimodal_weight] * len(self.modalities) + [spec.fused_weight]
        has = [presence.rows(m) for m in self.modalities] if presence.whole else None
        if spec.form == "paper":
            first, second = (self.project(view, self.masks[-1:], presence, progress.gather)[0] for view in views)
            single = self.project(batch.inputs, self.masks[:-1], presence, progress.gather)
            loss, terms_K = comm_paper_terms(first, second, single, spec.tau, weights, present=has)
        else:
            view1, view2 = (self.project(view, self.masks, presence, progress.gather) for view in views)
            loss, terms_K = comm_terms(view1, view2, spec.tau, weights, present=has)
        names = [*(f"unimodal_{m}" for m in self.modalities), "fused"]
        return {"loss": loss, **dict(zip(names, terms_K, strict=True))}

    def embed(self, batch: Batch) -> Tensor:
        crops = {m: self.crop(batch.inputs[m], self.crops) for m in self.cropped}
        return super().embed(replace(batch, inputs={**batch.inputs, **crops}))

    def project(
        self, inputs: Mapping[str, Tensor], masks: Masks, presence: Presence, gather: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """K tensors (B, P) of the global batch, after the head; gathered in one exchange.

        What is of one modality alone is zeros in rows that lack it.
        """
        return self.headed(self.fuse(inputs, masks, presence), masks, presence, gather)

    def headed(
        self, fused: Sequence[Tensor], masks: Masks, presence: Presence, gather: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """As `project`, of K fused embeddings (b, D) and the mask of each."""
        alone = [self.modalities[list(mask).index(True)] if sum(mask) == 1 else "" for mask in masks]
        embeddings = zip(alone, gather(torch.stack(list(fused), dim=1)).unbind(dim=1), strict=True)
        return [upcast(presence.project(m, self.head, z_BD)) for m, z_BD in embeddings]


METHOD = CoMM

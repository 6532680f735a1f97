"""CoMM: one fused embedding of all modalities, contrasted across augmentations and with each modality's own.

Source: Dufumier et al., "What to align in multimodal contrastive learning?", ICLR 2025, arXiv 2409.07402; released code
github Duplums/CoMM. Where the two differ, see `contrast.comm`; `objective.form` chooses.

Shapes: b rows of this rank, B rows of the global batch, d width of a modality's encoding, D width of the fusion,
K embeddings (one a mask), P width of the head's output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.config.objectives import CommObjective
from mmcontrast.contrast.comm import comm_loss, comm_loss_paper, modality_masks
from mmcontrast.contrast.precision import upcast
from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.self_supervised import SelfSupervised, augmented, build_augmenters
from mmcontrast.models.converters import build_converter
from mmcontrast.models.encoders import ENCODERS, TOKEN_ENCODERS, Makers
from mmcontrast.models.fusion import FusionTransformer, LinearFusion
from mmcontrast.models.projection import ProjectionHead

Masks = Sequence[Sequence[bool]]


class CoMM(SelfSupervised):
    """Encoders, a converter to tokens a modality, fusion, and one head for every embedding that is contrasted.

    A modality that a term does not see has its tokens removed (released form; the paper draws a [MSK] token). The head
    is called once for each embedding, so that batch statistics are of one kind of embedding, and on gathered rows.

    Raises:
        ContrastError: the cell has fewer than two modalities.
        ConfigError: no model.fusion or model.projection, heads that do not divide the width, or a kind of modality
            without encoder or augmentations.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        self.objective = CommObjective.model_validate(cell.objective)
        if len(self.modalities) < 2:
            raise ContrastError(f"CoMM needs at least two modalities, and there is {self.modalities}")
        fusion = cell.model.fusion
        if fusion is None:
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): model.fusion: required by this method and not given"
            )
        self.augmenters = build_augmenters(cell, self.objective.augmentations)
        self.fusion: nn.Module
        if fusion.kind == "linear":
            # the ablation has no converters: it fuses the encodings themselves
            self.converters = nn.ModuleDict()
            self.fusion = LinearFusion([cell.model.width] * len(self.modalities), fusion.width)
        else:
            self.converters = nn.ModuleDict(
                {
                    m: build_converter(cell.modalities[m].kind, self.encoders[m], cell.model.width, fusion.width)
                    for m in self.modalities
                }
            )
            self.fusion = FusionTransformer(fusion.width, fusion.heads, fusion.layers)
        self.head = ProjectionHead([fusion.width, *self.projection_widths()])
        self.masks = modality_masks(len(self.modalities))

    def encoder_makers(self) -> Makers:
        fusion = self.cell.model.fusion
        return ENCODERS if fusion is None or fusion.kind == "linear" else TOKEN_ENCODERS

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        spec = self.objective
        weights = [spec.unimodal_weight] * len(self.modalities) + [spec.fused_weight]
        views = [augmented(self.augmenters, batch, progress) for _ in range(2)]
        if spec.form == "paper":
            first, second = (self.project(view, self.masks[-1:], progress.gather)[0] for view in views)
            single = self.project(batch.inputs, self.masks[:-1], progress.gather)
            loss, terms_K = comm_loss_paper(first, second, single, spec.tau, weights)
        else:
            view1, view2 = (self.project(view, self.masks, progress.gather) for view in views)
            loss, terms_K = comm_loss(view1, view2, spec.tau, weights)
        names = [*(f"unimodal_{m}" for m in self.modalities), "fused"]
        return {"loss": loss, **dict(zip(names, terms_K, strict=True))}

    def embed(self, batch: Batch) -> Tensor:
        return self.fuse(batch.inputs, self.masks[-1:])[0]

    def fuse(self, inputs: Mapping[str, Tensor], masks: Masks) -> list[Tensor]:
        """K tensors (b, D), one a mask; the encoders run once."""
        tokens = [self.converters[m](z_bd) if self.converters else z_bd for m, z_bd in self.encode(inputs).items()]
        fused: list[Tensor] = self.fusion(tokens, masks)
        return fused

    def project(self, inputs: Mapping[str, Tensor], masks: Masks, gather: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """K tensors (B, P) of the global batch, after the head; gathered in one exchange."""
        fused_BKD = gather(torch.stack(self.fuse(inputs, masks), dim=1))
        return [upcast(self.head(z_BD)) for z_BD in fused_BKD.unbind(dim=1)]


METHOD = CoMM

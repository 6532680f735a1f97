"""InfMasking: CoMM, with fused embeddings pulled to those of the same view with most of its tokens masked.

Source: see `loss.py`. Where paper and released code differ: the paper's text could not be read. Differences from the
code: padding is never attended to; a modality keeps one token at least (`compat`); draws of single modalities, which
the code makes and throws away, are not made.

Shapes: b rows of this rank, B rows of the global batch, L tokens of a modality, D width of the fusion.
"""

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.comm.fusion import FusionTransformer
from mmcontrast.methods.comm.method import CoMM
from mmcontrast.methods.comm.objective import CommObjective
from mmcontrast.methods.infmasking.loss import infmasking_loss
from mmcontrast.methods.infmasking.objective import InfMaskingObjective
from mmcontrast.methods.self_supervised import augmented

MASK_STD = 0.02


def kept_tokens(order_ZbL: Tensor, padding_bL: Tensor | None, ratio: float, least: int = 1) -> Tensor:
    """(Z, b, L) bool: the int(l (1 - ratio)) of a row's l tokens, at least `least`, whose numbers are smallest.

    order_ZbL: different numbers. padding_bL: True where a row has no token.
    """
    length: int | Tensor = order_ZbL.shape[2]
    if padding_bL is not None:
        order_ZbL, length = order_ZbL.masked_fill(padding_bL, torch.inf), (~padding_bL).sum(dim=1, keepdim=True)
    # a little more than the product, which in floating point may fall short of a whole number
    count = torch.as_tensor(length * (1 - ratio) + 1e-6).floor().long().clamp(min=least).to(order_ZbL.device)
    last_Zb1 = order_ZbL.sort(dim=2).values.gather(2, (count - 1).clamp(min=0).expand(*order_ZbL.shape[:2], 1))
    return (order_ZbL <= last_Zb1) & (count > 0)


class InfMasking(CoMM):
    """CoMM's embeddings, and T more of each view, fused of masked tokens; one mask token is learned for all.

    Tokens are masked after they are made, position code and all, and a masked one is attended to. What a row lacks, or
    padding, is no token and is not masked.
    Raises ContrastError, ConfigError: as CoMM; also for a linear fusion, which has no tokens.
    """

    spec: ClassVar[type[CommObjective]] = InfMaskingObjective
    objective: InfMaskingObjective

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        if not self.converters:
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): model.fusion.kind: linear fuses no tokens, and this "
                "method masks tokens; use transformer"
            )
        mask_D = torch.empty(self.fused_width)
        self.mask_D = nn.Parameter(nn.init.trunc_normal_(mask_D, std=MASK_STD, a=-MASK_STD, b=MASK_STD))

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        if progress.stage == "finetune":
            return super().training_loss(batch, progress)
        spec, presence = self.objective, Presence.of(batch, progress.gather)
        views, draws = zip(*(self._view(batch, presence, progress) for _ in range(2)), strict=True)
        weights = [spec.mask_weight] * 2 + [spec.unimodal_weight] * len(self.modalities) + [spec.fused_weight]
        has = [presence.rows(m) for m in self.modalities] if presence.whole else None
        strength = spec.strength * (progress.epoch + 1) / progress.epochs
        return {"loss": infmasking_loss(views, draws, spec.tau, strength=strength, weights=weights, present=has)}

    def _view(self, batch: Batch, presence: Presence, progress: Progress) -> tuple[list[Tensor], list[Tensor]]:
        """(B, P) after the head: n + 1 embeddings of a fresh view, as CoMM's, and T fused ones of its masked draws."""
        inputs, k = augmented(self.augmenters, batch, progress), len(self.masks)
        tokens, padding = self.tokens(presence.encode(self.encoders, inputs), presence)
        fused = self.fusion(tokens, self.masks, padding)
        fused += cast(FusionTransformer, self.fusion).masked(
            tokens, self._kept(tokens, padding, batch, progress), self.mask_D, padding
        )
        masks = [*self.masks, *self.masks[-1:] * self.objective.draws]
        found = self.headed(fused, masks, presence, progress.gather)
        return found[:k], found[k:]

    def _kept(
        self, tokens: Sequence[Tensor], padding: Sequence[Tensor | None], batch: Batch, progress: Progress
    ) -> list[Tensor]:
        """(T, b, L) for each modality; what is drawn is of the global batch."""
        spec, total = self.objective, len(progress.gather(batch.labels))
        least, out = 0 if spec.compat.mask_whole_modalities else 1, []
        for x_bLD, padding_bL in zip(tokens, padding, strict=True):
            order_TBL = torch.rand(spec.draws, total, x_bLD.shape[1], generator=progress.generator)
            order_TbL = order_TBL[:, progress.rows].to(x_bLD.device)
            out.append(kept_tokens(order_TbL, padding_bL, spec.ratio, least))
        return out


METHOD = InfMasking

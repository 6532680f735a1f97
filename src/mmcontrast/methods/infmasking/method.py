"""InfMasking: CoMM, with fused embeddings pulled to those of the same view with most of its tokens masked.

Source: see `loss.py`. Where paper and released code differ: the paper's text could not be read. Differences from the
code: padding is never attended to; a modality keeps one token at least (`compat`); draws of single modalities, which
the code makes and throws away, are not made.

Shapes: b rows of this rank, B rows of the global batch, L tokens of a modality, D width of the fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.comm.method import CoMM
from mmcontrast.methods.comm.objective import CommObjective
from mmcontrast.methods.infmasking.loss import infmasking_loss
from mmcontrast.methods.infmasking.objective import InfMaskingObjective
from mmcontrast.methods.presence import Presence
from mmcontrast.methods.self_supervised import augmented

MASK_STD = 0.02


def masked_tokens(
    tokens_bLD: Tensor, padding_bL: Tensor | None, mask_D: Tensor, order_bL: Tensor, ratio: float, least: int = 1
) -> Tensor:
    """The tokens with all but int(l (1 - ratio)) of a row's l, at least `least`, replaced by the mask token.

    Args:
        padding_bL: True where a row has no token. order_bL: any numbers; the tokens of the smallest ones are kept.
    """
    if padding_bL is not None:
        order_bL = order_bL.masked_fill(padding_bL, torch.inf)
    length = tokens_bLD.shape[1] if padding_bL is None else (~padding_bL).sum(dim=1, keepdim=True)
    # a little more than the product, which in floating point may fall short of a whole number
    kept = torch.as_tensor(length * (1 - ratio) + 1e-6, device=order_bL.device).floor().clamp(min=least)
    rank_bL = order_bL.argsort(dim=1).argsort(dim=1)
    return torch.where((rank_bL < kept)[:, :, None], tokens_bLD, mask_D.to(tokens_bLD.dtype))


class InfMasking(CoMM):
    """CoMM's embeddings, and T more of each view, fused of masked tokens; one mask token is learned for all.

    Tokens are masked after they are made, position code and all, and a masked one is attended to. What a row lacks, or
    padding, is no token and is not masked.

    Raises:
        ContrastError, ConfigError: as CoMM; also for a linear fusion, which has no tokens.
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
        masks, fused = list(self.masks), self.fusion(tokens, self.masks, padding)
        for _ in range(self.objective.draws):
            masks += self.masks[-1:]
            fused += self.fusion(self._masked(tokens, padding, batch, progress), masks[-1:], padding)
        found = self.headed(fused, masks, presence, progress.gather)
        return found[:k], found[k:]

    def _masked(
        self, tokens: Sequence[Tensor], padding: Sequence[Tensor | None], batch: Batch, progress: Progress
    ) -> list[Tensor]:
        """One draw: each row's and each modality's own. All draws are of the global batch."""
        spec, total = self.objective, len(progress.gather(batch.labels))
        least, out = 0 if spec.compat.mask_whole_modalities else 1, []
        for x_bLD, padding_bL in zip(tokens, padding, strict=True):
            order_bL = torch.rand(total, x_bLD.shape[1], generator=progress.generator)[progress.rows].to(x_bLD.device)
            out.append(masked_tokens(x_bLD, padding_bL, self.mask_D, order_bL, spec.ratio, least))
        return out


METHOD = InfMasking

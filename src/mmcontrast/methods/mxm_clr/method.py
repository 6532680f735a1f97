"""MXM-CLR, reconstructed: every observation of an instance is a positive of every other, hard and soft.

A reconstruction from the paper's abstract (arXiv 2303.10839): see `loss.py`. Its encoders are not known to us either.
"""

import torch
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.multifold import MultifoldMethod, Rows, over_pairs
from mmcontrast.methods.mxm_clr.loss import multifold_pairs_terms
from mmcontrast.methods.mxm_clr.objective import MXMCLRObjective
from mmcontrast.models.encoders import follow, frozen_copy
from mmcontrast.models.heads import Temperature

NAMES = ("loss", "gap", "hard", "soft", "hard_gap", "soft_gap")


class MXMCLR(MultifoldMethod):
    """The multifold loss, summed over pairs of modalities; a reconstruction.

    The soft weight rises linearly from 0 over the first `warmup` epochs, since targets made of untrained embeddings say
    nothing. With `teacher: ema` they are made by a copy of the encoders that follows them slowly; it is part of
    the method's state, and moves before each step. An instance's lacking modality has no row; see MultifoldMethod.
    Raises ConfigError: a momentum teacher under ZeRO stage 3, where no rank holds all weights to follow.
    """

    def __init__(self, cell: CellConfig) -> None:
        self.objective = spec = MXMCLRObjective.model_validate(cell.objective)
        super().__init__(cell, spec.views)
        self.tau = Temperature(spec.tau)
        if spec.teacher == "ema":
            if cell.engine.zero_stage == 3:
                raise ConfigError(
                    f"{cell.name}: teacher: ema needs all weights on every rank, which engine.zero_stage: 3 takes apart"
                )
            self.teacher = frozen_copy(self.encoders)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        spec = self.objective
        rows, left_out = self.gathered(batch, progress)
        if spec.teacher == "ema":
            with torch.no_grad():
                follow(self.teacher, self.encoders, spec.teacher_decay)
                theirs, _ = self.gathered(batch, progress, self.teacher)
            rows = {m: (torch.stack([z_PD, theirs[m][0]], dim=1), ids_P) for m, (z_PD, ids_P) in rows.items()}
        if left_out is None:
            return self._terms(rows, progress.epoch)
        terms = over_pairs(lambda pair: torch.stack(list(self._terms(pair, progress.epoch).values())), rows, left_out)
        return dict(zip(NAMES, terms.expand(len(NAMES)), strict=True))

    def _terms(self, rows: Rows, epoch: int) -> dict[str, Tensor]:
        """Terms by name, summed over pairs. rows: (P, D), or under a teacher (P, 2, D), the teacher's second."""
        spec = self.objective
        both = {m: z if z.ndim == 3 else z[:, None] for m, (z, _) in rows.items()}
        terms = multifold_pairs_terms(
            {m: z[:, 0] for m, z in both.items()},
            {m: ids_P for m, (_, ids_P) in rows.items()},
            teacher={m: z[:, 1] for m, z in both.items()} if spec.teacher == "ema" else None,
            tau=self.tau(),
            soft_weight=self.soft_weight(epoch),
            **spec.model_dump(include={"tau_soft", "hard", "relation", "combine"}),
        )
        return {name: terms[name] for name in NAMES}

    def soft_weight(self, epoch: int) -> float:
        """Weight of the soft part in an epoch, 0-based."""
        spec = self.objective
        return spec.soft_weight * min(1.0, epoch / spec.warmup) if spec.warmup else spec.soft_weight


METHOD = MXMCLR

"""M3CoL: multimodal mixup contrastive learning with a joint supervised loss.

Source: Kumar et al., "Harnessing Shared Relations via Multimodal Mixup Contrastive Learning for Multimodal
Classification", TMLR 2025, arXiv 2409.17777. The paper's own text could not be read; the formulas are those of the
released code (github RaghavSinghal10/M3CoL), of the paper's figures and captions.

Shapes: b rows of this rank, B rows of the global batch, M modalities, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.losses.mixing import apply_mix, mix_targets, mix_targets_overwritten, sample_mix
from mmcontrast.losses.precision import upcast
from mmcontrast.losses.similarity import modality_pairs
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.joint import JointMethod
from mmcontrast.methods.m3col.loss import m3co, multisclip
from mmcontrast.methods.m3col.objective import M3CoLObjective

Draw = tuple[Tensor, Tensor]  # a modality's own lambda_B and perm_B


def uses_m3co(epoch: int, epochs: int, fraction: float) -> bool:
    """M3Co while epoch < int(fraction * epochs), MultiSClip after: a hard switch, no blending.

    Where paper and released code differ: nothing known in the rule; the released image-text loop runs one epoch more
    than it says, which is not repeated here.
    """
    return epoch < int(fraction * epochs)


class M3CoL(JointMethod):
    """loss = CE(fusion) + [sum of unimodal CE] + beta (M3Co, later MultiSClip); in pretraining M3Co alone.

    Supervised terms see clean embeddings only. Each modality has its own lambda and permutation; sharing them would
    change the method.

    Where paper and released code differ: captions say that inputs are mixed for all but text, the code mixes embeddings
    everywhere (`mix_space`); `compat` brings back two defects of the code.

    Raises:
        ContrastError: the cell has fewer than two modalities.
    """

    def __init__(self, cell: CellConfig) -> None:
        objective = M3CoLObjective.model_validate(cell.objective)
        super().__init__(cell, objective.unimodal_heads)
        self.objective = objective
        self.pairs = modality_pairs(self.modalities, objective.pairing)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        z = self.encode(batch.inputs)
        contrastive = self._contrastive_term(z, batch, progress)
        return self.training_terms(z, contrastive, self.objective.beta, batch, progress)

    def _contrastive_term(self, z: Mapping[str, Tensor], batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The term of this epoch, by its name. z: modality -> (b, D)."""
        spec = self.objective
        z_global = {m: upcast(progress.gather(z_bD)) for m, z_bD in z.items()}
        if progress.stage == "finetune" and not uses_m3co(progress.epoch, progress.epochs, spec.schedule_fraction):
            return {"multisclip": multisclip(z_global, self.pairs, spec.tau_soft, spec.detach_targets)}
        draws = {}
        for m, z_BD in z_global.items():
            lambda_B, perm_B = sample_mix(len(z_BD), spec.alpha, spec.p_select, progress.generator)
            draws[m] = (lambda_B.to(z_BD.device), perm_B.to(z_BD.device))
        mixed = self._mix(draws, z_global, batch, progress)
        clean = mixed if spec.compat.both_sides_mixed else z_global
        spread = mix_targets_overwritten if spec.compat.overwrite_targets else mix_targets
        targets = {m: spread(*draw) for m, draw in draws.items()}
        return {"m3co": m3co(mixed, clean, targets, self.pairs, spec.tau)}

    def _mix(
        self, draws: Mapping[str, Draw], z_global: Mapping[str, Tensor], batch: Batch, progress: Progress
    ) -> dict[str, Tensor]:
        """modality -> (B, D) embeddings of the mixtures: mixed after the encoder, or before it."""
        if self.objective.mix_space == "embedding":
            return {m: apply_mix(z_BD, *draws[m]) for m, z_BD in z_global.items()}
        # a partner may sit on another rank: mix the global batch, then encode this rank's rows of it
        inputs = {m: apply_mix(progress.gather(batch.inputs[m]), *draws[m])[progress.rows] for m in self.modalities}
        return {m: upcast(progress.gather(z_bD)) for m, z_bD in self.encode(inputs).items()}


METHOD = M3CoL

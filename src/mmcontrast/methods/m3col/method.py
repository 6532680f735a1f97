"""M3CoL: multimodal mixup contrastive learning with a joint supervised loss.

Source: see `loss.py`.

Shapes: b rows of this rank, B rows of the global batch, n of them that are mixed, M modalities, D width.
"""

from collections.abc import Mapping

from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.losses.mixing import apply_mix, mix_targets, sample_mix
from mmcontrast.losses.rows import modality_pairs, over_rows, upcast
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.joint import JointMethod, refuse_unmixable, total
from mmcontrast.methods.m3col.loss import Pairs, m3co, multisclip
from mmcontrast.methods.m3col.objective import M3CoLObjective

Draw = tuple[Tensor, Tensor]  # a modality's own lambda and partners


def uses_m3co(epoch: int, epochs: int, fraction: float) -> bool:
    """M3Co while epoch < int(fraction * epochs), MultiSClip after: a hard switch, no blending.

    The released image-text loop runs one epoch more than it says, which is not repeated here.
    """
    return epoch < int(fraction * epochs)


class M3CoL(JointMethod):
    """loss = CE(fusion) + [sum of unimodal CE] + beta (M3Co, later MultiSClip); in pretraining M3Co alone.

    Supervised terms see clean embeddings only. Each modality has its own lambda and permutation; sharing them would
    change the method.

    Where paper and released code differ: captions say that inputs are mixed for all but text, the code mixes embeddings
    everywhere (`mix_space`); `compat` brings back two defects of the code.

    Where rows lack a modality, each directed pair mixes and contrasts the rows that have both, with coefficients and
    partners of its own (in a ring every modality is mixed for one pair alone, so that this is nothing new); see
    JointMethod for the heads.
    Raises ContrastError: the cell has fewer than two modalities; ConfigError: `mix_space: input` of a modality whose
    inputs cannot be mixed.
    """

    def __init__(self, cell: CellConfig) -> None:
        objective = M3CoLObjective.model_validate(cell.objective)
        if objective.mix_space == "input":
            refuse_unmixable(cell, "set objective.mix_space to embedding")
        super().__init__(cell, objective.unimodal_heads)
        self.objective = objective
        self.pairs = modality_pairs(self.modalities, objective.pairing)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence = Presence.of(batch, progress.gather)
        spec, z = self.objective, presence.encode(self.encoders, batch.inputs)
        z_global = {m: upcast(progress.gather(z_bD)) for m, z_bD in z.items()}
        if progress.stage == "finetune" and not uses_m3co(progress.epoch, progress.epochs, spec.schedule_fraction):
            soft = multisclip(z_global, self.pairs, spec.tau_soft, spec.detach_targets, presence.whole)
            return self.training_terms(z, {"multisclip": soft}, spec.beta, batch, presence, progress)
        together = [[pair] for pair in self.pairs] if presence.whole else [self.pairs]
        mixed = total(self._m3co(pairs, z_global, batch, presence, progress) for pairs in together)
        return self.training_terms(z, {"m3co": mixed}, spec.beta, batch, presence, progress)

    def _m3co(
        self, pairs: Pairs, z: Mapping[str, Tensor], batch: Batch, presence: Presence, progress: Progress
    ) -> Tensor:
        """M3Co of pairs that share their draws, over the rows that have all their modalities. z: modality -> (B, D)."""
        spec = self.objective
        names = [m for m in self.modalities if any(m in pair for pair in pairs)]
        rows_B = presence.rows(*names)

        def loss(*z_nD: Tensor) -> Tensor:
            whole = dict(zip(names, z_nD, strict=True))
            mixing = [m for m in names if spec.compat.both_sides_mixed or any(m == a for a, _ in pairs)]
            draws = {}
            for m in mixing:
                lambda_n, perm_n = sample_mix(len(whole[m]), spec.alpha, spec.p_select, progress.generator)
                draws[m] = (lambda_n.to(whole[m].device), perm_n.to(whole[m].device))
            if spec.mix_space == "embedding":
                mixed = {m: apply_mix(whole[m], *draw) for m, draw in draws.items()}
            else:
                mixed = self._mixed_inputs(draws, rows_B, batch, presence, progress)
            clean = mixed if spec.compat.both_sides_mixed else whole
            overwritten = spec.compat.overwrite_targets
            targets = {m: mix_targets(*draw, overwritten) for m, draw in draws.items()}
            return m3co(mixed, clean, targets, pairs, spec.tau)

        return over_rows(loss, rows_B, *(z[m] for m in names))

    def _mixed_inputs(
        self, draws: Mapping[str, Draw], rows_B: Tensor | None, batch: Batch, presence: Presence, progress: Progress
    ) -> dict[str, Tensor]:
        """modality -> (n, D) encodings of mixed inputs, of the rows that are mixed."""
        inputs = {}
        for m, draw in draws.items():
            # a partner may sit on another rank: mix the global batch, then encode this rank's rows of it
            x_B = progress.gather(batch.inputs[m])
            if rows_B is None:
                x_B = apply_mix(x_B, *draw)
            else:
                x_B = x_B.masked_scatter(rows_B.view(-1, *[1] * (x_B.ndim - 1)), apply_mix(x_B[rows_B], *draw))
            inputs[m] = x_B[progress.rows]
        encoded = {m: upcast(progress.gather(z)) for m, z in presence.encode(self.encoders, inputs).items()}
        return encoded if rows_B is None else {m: z_BD[rows_B] for m, z_BD in encoded.items()}


METHOD = M3CoL

"""Contrast of pairs: CLIP and CMC between modalities, SimCLR within each, or both (Cross+Self), which CoMM is compared
with; one method, as they differ only in which of two terms they take. And losses over instances, which MXM-CLR's
reconstruction is compared with on the same batches: CLIP and TriCoLo take one observation of each modality per
instance; SupCon, MIL-NCE and SigLIP as many as there are. Source: see the losses of these names.

Shapes: b rows of this rank, B of the global batch; P rows of modality a, Q of modality b, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.errors import ContrastError, TrainingError
from mmcontrast.losses.pairwise import (
    cloob,
    cmc,
    cyclic_consistency,
    info_nce,
    mil_nce,
    nt_xent,
    self_contrast,
    siglip,
    weighted_nt_xent,
)
from mmcontrast.losses.rows import nothing
from mmcontrast.losses.supervised import supcon_rows
from mmcontrast.methods.base import Batch, Presence, Progress
from mmcontrast.methods.baselines.objectives import InstanceContrastObjective, PairwiseObjective
from mmcontrast.methods.multifold import MultifoldMethod, Rows, over_pairs
from mmcontrast.methods.self_supervised import Projected, augmented, build_augmenters
from mmcontrast.models.heads import Temperature

PAIR_LOSSES: dict[str, Callable[..., Tensor]] = {"info_nce": info_nce, "nt_xent": nt_xent}


class Pairwise(Projected):
    """loss = cross_weight * mean over pairs of modalities + self_weight * mean over modalities.

    The cross term sees inputs as they are (`cross_augmented`: one augmentation of each), the self term two
    augmentations; both go through the modality's own head. `embed` is the encoders' outputs side by side, or the heads'
    (`embedding: heads`), to compare with methods that fuse before they contrast. With `pairs: star` the pairs are those
    of one modality, the anchor, with each other (ImageBind, Girdhar et al., CVPR 2023).

    A pair is over the rows that have both modalities, a self term over those that have its own; what a row lacks is
    zeros in the embedding.

    Where paper and released code differ (CoMM's): the paper describes linear projectors under the cross term and MLP
    heads under the self term; the code has the same MLP heads under both, as `head: mlp`.
    Raises ContrastError: a cross term with fewer than two modalities; ConfigError: no model.projection for the head, a
    self term of a kind of modality without augmentations, or an anchor that the dataset has not.
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


SIGLIP_BIAS = -10.0


class InstanceContrast(MultifoldMethod):
    """One of five losses over rows and the instances they are of; over pairs of modalities, summed.

    CLIP's with the terms of CyCLIP, or on what CLOOB retrieves, where asked for. SupCon pools all modalities at once
    instead; an instance left with a single row is then a negative alone. TriCoLo's weights belong to directions by
    name; one that is not named has none. Of instances that lack a modality see MultifoldMethod.
    """

    def __init__(self, cell: CellConfig) -> None:
        self.objective = spec = InstanceContrastObjective.model_validate(cell.objective)
        super().__init__(cell, spec.views)
        self.tau = Temperature(spec.tau)
        if spec.loss == "siglip":
            self.bias = nn.Parameter(torch.tensor([SIGLIP_BIAS]))
        self.loss: Callable[[Rows, int | None], Tensor] = getattr(self, f"_{spec.loss}")

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"loss": self.loss(*self.gathered(batch, progress))}

    def _clip(self, rows: Rows, left_out: int | None) -> Tensor:
        spec = self.objective
        cyclic = spec.cyclic_within or spec.cyclic_across

        def loss(pair: Rows) -> Tensor:
            self._refuse_unpaired(pair)
            (a, _), (b, _) = pair.values()
            main = info_nce(a, b, self.tau()) if spec.hopfield is None else cloob(a, b, self.tau(), spec.hopfield)
            return main + cyclic_consistency(a, b, spec.cyclic_within, spec.cyclic_across) if cyclic else main

        return over_pairs(loss, rows, left_out)

    def _tricolo(self, rows: Rows, left_out: int | None) -> Tensor:
        directions = [f"{x}->{y}" for x in self.modalities for y in self.modalities if x != y]
        weights = self.objective.directions or dict.fromkeys(directions, 0.5)

        def loss(some: Rows) -> Tensor:
            self._refuse_unpaired(some)
            z = {m: z_PD for m, (z_PD, _) in some.items()}
            known = [f"{x}->{y}" for x in some for y in some]
            given = weights if len(some) == len(rows) else {d: w for d, w in weights.items() if d in known}
            return weighted_nt_xent(z, given, tau=self.tau()) if given else nothing(*z.values())

        return loss(rows) if left_out is None else over_pairs(loss, rows, left_out)

    def _mil_nce(self, rows: Rows, left_out: int | None) -> Tensor:
        double_count = self.objective.double_count
        return over_pairs(lambda pair: mil_nce(*_flat(pair), tau=self.tau(), double_count=double_count), rows, left_out)

    def _siglip(self, rows: Rows, left_out: int | None) -> Tensor:
        return over_pairs(
            lambda pair: siglip(*_flat(pair), scale=1 / self.tau(), bias=self.bias.squeeze()), rows, left_out
        )

    def _supcon(self, rows: Rows, left_out: int | None) -> Tensor:
        z_RD, ids_R = (torch.cat(part) for part in zip(*rows.values(), strict=True))
        return supcon_rows(z_RD, ids_R, self.tau(), None if left_out is None else len(z_RD) + left_out)

    def _refuse_unpaired(self, rows: Rows) -> None:
        """Row k of every modality must be of one instance."""
        first, *others = [ids for _, ids in rows.values()]
        if any(ids.shape != first.shape or bool((ids != first).any()) for ids in others):
            counts = ", ".join(f"{len(ids)} of {m}" for m, (_, ids) in rows.items())
            raise TrainingError(
                f"{self.cell.name}: loss '{self.objective.loss}' pairs row k of every modality, and a batch has "
                f"{counts}; set pretrain.sampling.per_instance to 1, or sample by caption"
            )


def _flat(pair: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of a and of b, then the instances of a's and of b's."""
    (a, ids_a), (b, ids_b) = pair.values()
    return a, b, ids_a, ids_b


METHODS = {"pairwise": Pairwise, "instance_contrast": InstanceContrast}

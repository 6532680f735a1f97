"""Baselines that need labels: concatenation, optionally with unimodal heads and a CLIP-type InfoNCE term; mixup of
inputs and labels, M3CoL's ablation; one modality alone, or late fusion; SupCon between modalities.

Source of SupCon: Khosla et al. 2020, as a multimodal baseline in Liang et al. 2023 (FactorCL) and Dufumier et al. 2025
(CoMM).

Shapes: b rows of this rank, B rows of the global batch, M modalities, D width, C classes.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.config.base import known
from mmcontrast.errors import ContrastError
from mmcontrast.losses.mixing import apply_mix, sample_beta
from mmcontrast.losses.pairwise import paired_info_nce
from mmcontrast.losses.rows import modality_pairs, over_rows, upcast
from mmcontrast.losses.supervised import mixed_label_loss, supcon, supcon_rows, target_loss
from mmcontrast.methods.base import Batch, Method, Presence, Progress
from mmcontrast.methods.baselines.objectives import ConcatObjective, MixupObjective, SupConObjective, UnimodalObjective
from mmcontrast.methods.joint import JointMethod, refuse_other_targets, refuse_pretraining, refuse_unmixable, total
from mmcontrast.methods.self_supervised import SelfSupervised
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.heads import ProjectionHead, classification_head


class Concat(JointMethod):
    """loss = CE(fusion) + [sum of unimodal CE] + [beta InfoNCE]; in pretraining InfoNCE alone.

    Where rows lack a modality, InfoNCE of a pair is over the rows that have both; see JointMethod for the heads.
    """

    def __init__(self, cell: CellConfig) -> None:
        objective = ConcatObjective.model_validate(cell.objective)
        super().__init__(cell, objective.unimodal_heads)
        self.objective = objective
        if objective.beta == 0:
            refuse_pretraining(cell, "remove `pretrain`, or set objective.beta above 0")
        self.pairs = modality_pairs(self.modalities, objective.pairing) if objective.beta > 0 else []

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence = Presence.of(batch, progress.gather)
        z = presence.encode(self.encoders, batch.inputs)
        contrastive = {}
        if self.pairs:
            z_global = {m: progress.gather(z_bD) for m, z_bD in z.items()}
            contrastive["info_nce"] = paired_info_nce(z_global, self.pairs, self.objective.tau, presence.whole)
        return self.training_terms(z, contrastive, self.objective.beta, batch, presence, progress)


class Mixup(JointMethod):
    """loss = mixed CE(fusion) + [sum of unimodal mixed CE], every modality's INPUT mixed alike.

    One lambda ~ Beta(alpha, alpha) and one permutation per batch, shared by the modalities. A mixture has a modality
    where both of its rows have it; one that has none is left out.

    Where paper and released code differ: in M3CoL's released baseline the text embedding that fusion sees stays unmixed
    even where text is mixed, and weights of (1 +- lambda) / 2 serve the case of one mixed modality. Here everything is
    mixed, so that fusion and unimodal heads see the same.
    Raises ConfigError: a `pretrain` stage, or a modality whose inputs cannot be mixed.
    """

    def __init__(self, cell: CellConfig) -> None:
        refuse_pretraining(cell, "remove `pretrain`")
        objective = MixupObjective.model_validate(cell.objective)
        refuse_unmixable(cell, "train `concat`, or `m3col` with objective.mix_space: embedding")
        super().__init__(cell, objective.unimodal_heads)
        self.objective = objective

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        labels_B = progress.gather(batch.labels)
        n = len(labels_B)
        perm_B = torch.randperm(n, generator=progress.generator)
        weight_1 = sample_beta(1, self.objective.alpha, progress.generator)
        mixed = {
            m: apply_mix(progress.gather(batch.inputs[m]), weight_1.expand(n), perm_B)[progress.rows]
            for m in self.modalities
        }
        labels = [labels_B, labels_B[perm_B.to(labels_B.device)]]
        presence = Presence.of(batch, progress.gather).mixed(perm_B, progress.rows)
        criterion = partial(mixed_label_loss, weight=weight_1.item(), loss=target_loss(self.cell.target))
        z = presence.encode(self.encoders, mixed)
        terms = self.supervised_terms(z, criterion, labels, presence, progress.gather)
        return {"loss": total(terms.values()), **terms}


def mean_prediction(kind: str, scores: Sequence[Tensor], present: Sequence[Tensor | None] | None = None) -> Tensor:
    """(b, C) scores that say the mean of what M tensors (b, C) say: probabilities of classes or labels, or numbers.

    kind: of the target. Of classes, the scores are log probabilities. present: (b,) bool of each, None = all rows. The
    mean is over what a row has; one without any has scores of 0: every class alike, one half, the mean of the training
    rows.
    """
    wide_MbC = torch.stack([upcast(s_bC).log_softmax(-1) if kind == "classes" else upcast(s_bC) for s_bC in scores])
    every_b = wide_MbC.new_ones(wide_MbC.shape[1], dtype=torch.bool)
    given = [every_b if rows_b is None else rows_b for rows_b in present or [None] * len(scores)]
    has_Mb1 = torch.stack(given)[:, :, None]
    some_b1, count_b1 = has_Mb1.any(dim=0), has_Mb1.sum(dim=0).clamp(min=1)
    if kind == "classes":
        # a row without any sees all here, and is blanked after, so that no -inf gets into a gradient
        total_bC = wide_MbC.masked_fill(~has_Mb1 & some_b1, -torch.inf).logsumexp(dim=0)
        mean_bC = total_bC - (math.log(len(scores)) if present is None else count_b1.log())
    else:
        said_MbC = wide_MbC if kind == "regression" else wide_MbC.sigmoid()
        mean_bC = said_MbC.masked_fill(~has_Mb1, 0).sum(dim=0) / count_b1
        mean_bC = mean_bC if kind == "regression" else mean_bC.logit(eps=1e-7)
    return mean_bC.masked_fill(~some_b1, 0)


class Unimodal(Method):
    """loss = sum over the modalities it sees of their own loss (CE, or that of the target); none learns from another.

    A modality learns from the rows that have it. What classifies a row are the modalities that it has; one that has
    none of those seen gets scores of 0.
    """

    takes_partial_rows = True

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_pretraining(cell, "remove `pretrain`")
        only = UnimodalObjective.model_validate(cell.objective).modality
        where = f"params/methods/{cell.method}.yaml ({cell.name}): objective.modality"
        known(f"{where}: dataset '{cell.dataset}'", "modality", only, self.modalities)
        seen = self.modalities if only is None else [only]
        self.encoders = build_encoders(cell, seen)
        self.heads = nn.ModuleDict({m: classification_head(cell, 1) for m in seen})

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        labels_B, presence = progress.gather(batch.labels), Presence.of(batch, progress.gather)
        terms = {
            f"unimodal_{m}": over_rows(
                target_loss(self.cell.target), presence.rows(m), progress.gather(scores_bC), labels_B, least=1
            )
            for m, scores_bC in self._scores(batch, presence).items()
        }
        return {"loss": total(terms.values()), **terms}

    def embed(self, batch: Batch) -> Tensor:
        return torch.cat(list(Presence.of(batch).encode(self.encoders, batch.inputs).values()), dim=-1)

    def logits(self, batch: Batch) -> Tensor:
        scores = self._scores(batch, Presence.of(batch))
        present = [batch.present.get(m) for m in scores] if batch.present else None
        return mean_prediction(self.cell.target, list(scores.values()), present)

    def _scores(self, batch: Batch, presence: Presence) -> dict[str, Tensor]:
        """modality -> (b, C)."""
        return {m: self.heads[m](z_bD) for m, z_bD in presence.encode(self.encoders, batch.inputs).items()}


class SupCon(SelfSupervised):
    """loss = SupCon over the modalities' projected embeddings, inputs as they are.

    It sees labels, so its stage is `finetune`. There is no classifier: `embed`, the encoders' outputs side by side, is
    scored by a linear probe. A modality that a row lacks gives no embedding; an embedding that has no other of its
    class is a negative alone.
    Raises ContrastError: fewer than two modalities; ConfigError: a `pretrain` stage, no model.projection, or labels
    that are not one class each.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_pretraining(cell, "remove `pretrain`: its loss needs labels")
        refuse_other_targets(cell, "train `concat` or `joint_fusion`, whose loss takes these labels")
        if len(self.modalities) < 2:
            raise ContrastError(f"SupCon between modalities needs at least two, and there is {self.modalities}")
        self.objective = SupConObjective.model_validate(cell.objective)
        widths = [cell.model.width, *self.projection_widths()]
        self.heads = nn.ModuleDict({m: ProjectionHead(widths) for m in self.modalities})

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence, labels_B = Presence.of(batch, progress.gather), progress.gather(batch.labels)
        z, tau = self.encode(batch.inputs, presence), self.objective.tau
        views = [upcast(presence.project(m, self.heads[m], progress.gather(z_bd))) for m, z_bd in z.items()]
        if not presence.whole:
            return {"loss": supcon(views, labels_B, tau)}
        everyone = torch.ones_like(labels_B, dtype=torch.bool)
        has_R = torch.cat([presence.whole.get(m, everyone) for m in z])
        return {"loss": supcon_rows(torch.cat(views)[has_R], labels_B.repeat(len(z))[has_R], tau, len(has_R))}


METHODS = {"concat": Concat, "mixup": Mixup, "unimodal": Unimodal, "supcon": SupCon}

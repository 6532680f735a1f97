"""FactorCL, DeCUR and DisentangledSSL: a place for what modalities share, and one for what each has alone.

Source: see `losses.disentangled`. Differences from the released codes:
- FactorCL: one optimizer step trains everything, where the code has a critic step after each main step (the gradients
  are kept apart in the same way); the augmentation of x' is the same for both modalities; more than two modalities are
  taken pair by pair, which neither paper nor code does.
- DeCUR: each modality has its own projector (`compat`) and its own augmentations.
- DisentangledSSL: step 2 follows step 1 of its own seed, in one stage under one schedule (the code's starts from seed
  0's); what is kept has no gradient and no batch statistics that move; both views are augmented from the inputs (the
  code augments the second from the first); what a modality has alone is read by a second encoder, whose output goes
  with the shared one through a linear layer.

Shapes: b rows of this rank, B rows of the global batch, d width of an encoder's output, P of a head's, H heads.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmcontrast.config import CellConfig
from mmcontrast.errors import ConfigError, ContrastError
from mmcontrast.losses.disentangled import (
    LOWER_TERMS,
    UPPER_TERMS,
    club_critic_loss,
    decur_loss,
    disentangled_shared_loss,
    disentangled_specific_loss,
    factorcl_terms,
)
from mmcontrast.losses.rows import nothing, over_rows, upcast
from mmcontrast.methods.base import EVERYTHING, Batch, Presence, Progress, keep_local, refuse_finetuning
from mmcontrast.methods.baselines.objectives import DecurObjective, DisentangledObjective, FactorCLObjective
from mmcontrast.methods.self_supervised import Projected, SelfSupervised, augmented, build_augmenters
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.heads import PairCritic, mlp

TERMS = (*LOWER_TERMS, *UPPER_TERMS, "loss", "critics")
HEADS = ("cross", "cross_club", "conditional", "conditional_club", "self")


class PairOfModalities(nn.Module):
    """Five heads for each of two modalities of `width` d, and the six critics on them of width `hidden`."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.ModuleDict({name: mlp([width, width, width]) for name in HEADS})
        self.second = nn.ModuleDict({name: mlp([width, width, width]) for name in HEADS})
        wide = {term: 2 * width if term.startswith("conditional") else width for term in (*LOWER_TERMS, *UPPER_TERMS)}
        self.critics = nn.ModuleDict({term: PairCritic(w, w, hidden) for term, w in wide.items()})

    def heads(self, z1_bd: Tensor, z2_bd: Tensor) -> Tensor:
        """(b, 2 * 5, d): outputs of all heads, those of the first modality first."""
        both = ((self.first, z1_bd), (self.second, z2_bd))
        return torch.stack([of[name](z_bd) for of, z_bd in both for name in HEADS], dim=1)

    def losses(self, plain_BHd: Tensor, changed_BHd: Tensor) -> dict[str, Tensor]:
        """FactorCL's terms and `critics`, which alone trains the upper bounds' critics, and nothing else.

        plain_BHd, changed_BHd: head outputs of inputs as they are and of augmented ones.
        """
        n = len(HEADS)
        sides = [
            {name: h[:, offset + i] for i, name in enumerate(HEADS)}
            for h, offset in ((plain_BHd, 0), (plain_BHd, n), (changed_BHd, 0), (changed_BHd, n))
        ]
        one, two, one_changed, two_changed = sides
        given = {
            "cross": (one["cross"], two["cross"]),
            "cross_club": (one["cross_club"], two["cross_club"]),
            "self1": (one["self"], one_changed["self"]),
            "self2": (two["self"], two_changed["self"]),
        }
        for term in ("conditional", "conditional_club"):
            given[term] = torch.cat([one[term], one_changed[term]], 1), torch.cat([two[term], two_changed[term]], 1)
        scores = {term: self.critics[term](*given[term]) for term in LOWER_TERMS}
        learning = {}
        for term in UPPER_TERMS:
            critic = self.critics[term]
            fixed = {name: p.detach() for name, p in critic.named_parameters()}
            scores[term] = functional_call(critic, fixed, given[term])
            learning[term] = critic(*(x.detach() for x in given[term]))
        return {**factorcl_terms(scores), "critics": club_critic_loss(learning)}


class FactorCL(SelfSupervised):
    """loss = mean over pairs of modalities of FactorCL's six terms and of its critics' own loss.

    `embed` is all heads' outputs side by side, ten per pair, as the released code has it; or the encoders' outputs
    (`embedding: encoders`), to compare with methods that have no such heads. A pair of modalities is over the rows that
    have both; heads of a modality that a row lacks are zeros in `embed`.
    Raises ContrastError: fewer than two modalities; ConfigError: a `finetune` stage, or a kind of modality without
    encoder or augmentations.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_finetuning(cell)
        if len(self.modalities) < 2:
            raise ContrastError(f"FactorCL needs at least two modalities, and there is {self.modalities}")
        self.objective = FactorCLObjective.model_validate(cell.objective)
        self.augmenters = build_augmenters(cell, self.objective.augmentations)
        self.pairs = list(combinations(self.modalities, 2))
        width, hidden = cell.model.width, self.objective.critic_hidden
        self.factors = nn.ModuleList([PairOfModalities(width, hidden) for _ in self.pairs])

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence = Presence.of(batch, progress.gather)
        plain = self._heads(batch.inputs, presence)
        changed = self._heads(augmented(self.augmenters, batch, progress), presence)
        found = []
        with torch.autocast(batch.labels.device.type, enabled=False):
            for factor, pair, plain_bHd, changed_bHd in zip(self._each(), self.pairs, plain, changed, strict=True):
                heads = [upcast(progress.gather(h)) for h in (plain_bHd, changed_bHd)]
                found.append(_over_rows(factor, presence.rows(*pair), heads))
        terms = {name: torch.stack([of[name] for of in found]).mean() for name in found[0]}
        return {**terms, "loss": terms["loss"] + terms["critics"]}

    def embed(self, batch: Batch) -> Tensor:
        if self.objective.embedding == "encoders":
            return self.encodings(batch)
        presence = Presence.of(batch)
        halves = []
        for pair, h_bHd in zip(self.pairs, self._heads(batch.inputs, presence), strict=True):
            # the bias of a head is no embedding of a modality that is not there
            halves += [presence.blank(m, half) for m, half in zip(pair, h_bHd.chunk(2, dim=1), strict=True)]
        return torch.cat([half.flatten(1) for half in halves], dim=1)

    def _each(self) -> Sequence[PairOfModalities]:
        return cast(Sequence[PairOfModalities], self.factors)

    def _heads(self, inputs: Mapping[str, Tensor], presence: Presence = EVERYTHING) -> list[Tensor]:
        """(b, 2 H, d) a pair of modalities; the encoders run once."""
        z = self.encode(inputs, presence)
        return [factor.heads(z[a], z[b]) for factor, (a, b) in zip(self._each(), self.pairs, strict=True)]


def _over_rows(factor: PairOfModalities, rows_B: Tensor | None, heads: Sequence[Tensor]) -> dict[str, Tensor]:
    """The factor's terms over the rows that are True, which weigh as `losses.rows` says."""
    if rows_B is None:
        return factor.losses(*heads)
    n = int(rows_B.sum())
    if n < 2:
        return dict.fromkeys(TERMS, nothing(*heads))
    return {name: term * (n / len(rows_B)) for name, term in factor.losses(*(h[rows_B] for h in heads)).items()}


class DeCUR(Projected):
    """loss = Barlow Twins of each modality's augmentations, and of pairs of modalities in two blocks of dimensions.

    Scored also: `common` and `unique`, these blocks of all modalities' heads side by side.
    Raises ConfigError: as Projected; also for a kind of modality without augmentations, or a block without dimensions.
    """

    def __init__(self, cell: CellConfig) -> None:
        self.objective = spec = DecurObjective.model_validate(cell.objective)
        super().__init__(cell, spec)
        self.augmenters = build_augmenters(cell, spec.augmentations)
        width = cell.model.width if spec.head == "none" else self.projection_widths()[-1]
        self.common = round(spec.common * width)
        if not 0 < self.common < width:
            raise ConfigError(
                f"params/methods/{cell.method}.yaml ({cell.name}): objective.common: {spec.common} of {width} "
                "dimensions leaves a block without any; give a share nearer to 0.5, or a wider head"
            )
        if spec.compat.one_projector:
            self.heads = nn.ModuleDict({self.modalities[0]: self.heads[self.modalities[0]]})

    def head_of(self, modality: str) -> nn.Module:
        return super().head_of(self.modalities[0] if self.objective.compat.one_projector else modality)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence = Presence.of(batch, progress.gather)
        first, second = (
            self.project(augmented(self.augmenters, batch, progress), progress.gather, presence) for _ in range(2)
        )
        has = [presence.rows(m) for m in self.modalities]
        return {"loss": decur_loss(first, second, self.common, self.objective.off_diagonal, has)}

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        heads = self.project(batch.inputs, keep_local, Presence.of(batch))
        blocks = {"common": slice(self.common), "unique": slice(self.common, None)}
        found = {name: torch.cat([z_bP[:, block] for z_bP in heads], dim=-1) for name, block in blocks.items()}
        return {**super().embeddings(batch), **found}


class DisentangledSSL(SelfSupervised):
    """Shared embeddings e in the first epochs, specific ones s in the others; `embed` is all e, then all s.

    Scored also: `encoders`, the shared ones alone, and `specific`. A pair is over the rows that have both modalities,
    the second step over those that have all.
    Raises ConfigError: a `finetune` stage, or a kind of modality without encoder or augmentations.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_finetuning(cell)
        self.objective = DisentangledObjective.model_validate(cell.objective)
        self.augmenters = build_augmenters(cell, self.objective.augmentations)
        self.specific_encoders = build_encoders(cell, self.modalities)
        width = cell.model.width
        self.beside = nn.ModuleDict({m: mlp([2 * width, width]) for m in self.modalities})

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        presence, spec, k = Presence.of(batch, progress.gather), self.objective, len(self.modalities)
        view = augmented(self.augmenters, batch, progress)
        if progress.epoch < spec.first_step * progress.epochs:
            e = [progress.gather(e_bd) for e_bd in self.encode(view, presence).values()]
            has = [presence.rows(m) for m in self.modalities]
            return {"loss": disentangled_shared_loss(e, spec.tau, spec.beta, has)}
        parts: list[Tensor] = []
        for inputs in (view, augmented(self.augmenters, batch, progress)):
            # nothing of what is kept moves
            self.encoders.eval()
            with torch.no_grad():
                shared = self.encode(inputs, presence)
            self.encoders.train(self.training)
            parts += [*shared.values(), *self._specific(inputs, shared, presence).values()]

        def loss(*z: Tensor) -> Tensor:
            shared, specific = (z[:k], z[2 * k : 3 * k]), (z[k : 2 * k], z[3 * k :])
            return disentangled_specific_loss(shared, specific, spec.tau, spec.ortho_weight)

        return {"loss": over_rows(loss, presence.rows(*self.modalities), *(progress.gather(z_bd) for z_bd in parts))}

    def embed(self, batch: Batch) -> Tensor:
        return self.embeddings(batch)[""]

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        presence = Presence.of(batch)
        shared = self.encode(batch.inputs, presence)
        specific = self._specific(batch.inputs, shared, presence)
        e_bZ, s_bZ = (torch.cat(list(part.values()), dim=-1) for part in (shared, specific))
        return {"": torch.cat([e_bZ, s_bZ], dim=-1), "encoders": e_bZ, "specific": s_bZ}

    def _specific(
        self, inputs: Mapping[str, Tensor], shared: Mapping[str, Tensor], presence: Presence
    ) -> dict[str, Tensor]:
        """modality -> (b, d), zeros in rows that lack it."""
        own = presence.encode(self.specific_encoders, inputs)
        return {m: presence.blank(m, self.beside[m](torch.cat([own[m], shared[m]], dim=-1))) for m in own}


METHODS = {"factorcl": FactorCL, "decur": DeCUR, "disentangled_ssl": DisentangledSSL}

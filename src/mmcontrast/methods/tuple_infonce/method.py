"""TupleInfoNCE: fused tuples, contrasted with other tuples and with tuples that hold one modality of another row.

Source: Liu et al., "Contrastive Multimodal Fusion with TupleInfoNCE", ICCV 2021. Only its abstract, a restatement of
its formulas and the released NYUv2 code (github hoi4d/TupleInfoNCE) could be read, not its body.

Shapes: b rows of this rank, B rows of the global batch, K modalities, R draws of foreign rows per modality, D width of
the fused embedding.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.data.augment import Augmenter
from mmcontrast.data.loading import Table
from mmcontrast.errors import ConfigError, TrainingError
from mmcontrast.losses.rows import nothing, shared_rows, unit_rows, upcast
from mmcontrast.methods.base import EVERYTHING, Batch, History, Presence, Progress, SeedJob, refuse_finetuning
from mmcontrast.methods.self_supervised import SelfSupervised, augmented, build_augmenters
from mmcontrast.methods.tuple_infonce.loss import (
    TupleLoss,
    counts,
    every_own_row_terms,
    tuple_info_nce_terms,
    weights_from_alpha,
)
from mmcontrast.methods.tuple_infonce.negatives import check_disturbable, lenders
from mmcontrast.methods.tuple_infonce.network import (
    EarlyNetwork,
    LateNetwork,
    SumFusion,
    TupleNetwork,
    View,
    add,
    joint_encoder,
)
from mmcontrast.methods.tuple_infonce.objective import TupleInfoNCEObjective, alpha_by_modality, fused_width
from mmcontrast.models.heads import mlp


class TupleInfoNCE(SelfSupervised):
    """Anchor: one augmented view of the fused tuple. Positive: another view. Negatives: other rows' tuples, and tuples
    of which modality k comes from another row (a derangement of the global batch, drawn anew for each k and step).

    `fusion: late`: each modality is encoded once a view; disturbed tuples are put together after the fusion's first
    layer. `fusion: early`: one encoder of all modalities side by side; disturbed tuples are put together from the
    inputs, and each kind of them costs a further pass of the network (see `network.py`). Blocks of weight 0 are
    measured for the log, without gradient. `embed` is the fused embedding, not normalised.

    Where the dataset repeats scenes, rows of one scene neither lend a modality to one another nor are negatives.

    A modality that a row lacks is zeros there, as one that is dropped. The row lends none, and no tuple of it is
    disturbed in it; one that fewer than two rows of a batch have is not disturbed at all. A step that contrasts one
    modality with the others is over the rows that have it and one of these.

    Where paper and released code differ, or the code has a defect that is not repeated: a random permutation may leave
    a row in place, so that its positive is among its negatives (here: never); the ratio alpha becomes 1, 2 or 4 copies
    of a block (here: a weight); anchors are not noisy and one noise field serves a whole epoch (here: both views, drawn
    for each row); fusion after each stage of three networks (here: before the first layer, or after the last).

    `rows: every_own` builds no disturbed tuple: a linear fusion gives their scores from products of its terms.
    Raises ConfigError: fewer than two modalities, or an objective that does not fit them.
    """

    def __init__(self, cell: CellConfig) -> None:
        spec = TupleInfoNCEObjective.model_validate(cell.objective)
        early = spec.fusion == "early" and len(cell.modalities) > 1
        super().__init__(cell, joint_encoder(cell) if early else None)
        refuse_finetuning(cell)
        self.objective = spec
        if len(self.modalities) < 2:
            raise ConfigError(
                f"params/datasets/{cell.dataset}.yaml: modalities: a disturbed tuple takes one of at least two "
                f"modalities from another row, and there is {', '.join(self.modalities) or 'none'}"
            )
        self.alpha = alpha_by_modality(cell, spec)
        self.dropping = spec.dropping
        self.augmenters = build_augmenters(cell, spec.augmentations)
        width = fused_width(cell, spec)
        self.fusion: nn.Module
        if early:
            self.fusion = mlp([cell.model.width, *spec.fusion_hidden, width])
        else:
            self.fusion = SumFusion(self.modalities, cell.model.width, spec.fusion_hidden, width)

    @classmethod
    def prepare(cls, cell: CellConfig, job: SeedJob, table: Table) -> tuple[CellConfig, History]:
        """Sample optimisation before pretraining, where `objective.search` asks for it; see `search.py`."""
        if job.stage != "pretrain" or cell.objective.get("search") is None:
            return cell, []
        # by name: the code of the search concerns no other cell
        search = importlib.import_module("mmcontrast.methods.tuple_infonce.search")
        found: tuple[CellConfig, History] = search.searched(cell, job, table)
        return found

    def network(self) -> TupleNetwork:
        """What a tuple goes through: this method's modules, not copies of them."""
        if isinstance(self.fusion, SumFusion):
            return LateNetwork(self.encoders, self.fusion)
        return EarlyNetwork(self.modalities, self.encoders, self.fusion)

    def check_data(self, inputs: Mapping[str, Tensor]) -> None:
        """Raise TrainingError where a modality is the same in all rows, unless nothing is disturbed."""
        if not self.objective.naive:
            check_disturbable(inputs)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        query, rest = self._parts(progress.generator)
        scenes_B = None if batch.scenes is None else progress.gather(batch.scenes)
        network, presence = self.network(), Presence.of(batch, progress.gather)
        anchor_BD = network.anchors(View(augmented(self.augmenters, batch, progress), query, progress, presence))
        view = View(augmented(self.augmenters, batch, progress), rest, progress, presence)
        contrast = self._every_own_row if self.objective.rows == "every_own" else self._drawn_rows
        if query == self.modalities:
            out = contrast(anchor_BD, network, view, scenes_B, None)
            return {"loss": out.loss, **out.stats}
        rows_B = shared_rows(presence.any(query), presence.any(rest))
        if rows_B is not None and len(torch.unique(rows_B.nonzero() if scenes_B is None else scenes_B[rows_B])) < 2:
            loss = nothing(anchor_BD)
        else:
            share = 1 if rows_B is None else int(rows_B.sum()) / len(rows_B)
            loss = share * contrast(anchor_BD, network, view, scenes_B, rows_B).loss
        return {"loss": loss, "crossmodal": loss.detach()}

    def embed(self, batch: Batch) -> Tensor:
        return self.fuse(batch.inputs, self.modalities, Presence.of(batch))

    def encodings(self, batch: Batch) -> Tensor:
        return self.network().encode(batch.inputs, Presence.of(batch))

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """The fused embedding, what it is fused from, and what is left of it without each modality."""
        presence = Presence.of(batch)
        lacking = {f"without_{m}": self.fuse(batch.inputs, self._others(m), presence) for m in self.modalities}
        return {"": self.embed(batch), "encoders": self.encodings(batch), **lacking}

    def fuse(self, inputs: Mapping[str, Tensor], kept: Sequence[str], presence: Presence = EVERYTHING) -> Tensor:
        """(b, D) fused embedding of the kept modalities; the others are zeros, see `network.py`."""
        return self.network().fuse(inputs, kept, presence)

    def crossmodal(
        self, batch: Batch, generator: torch.Generator, strength: float = 1.0
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Each modality alone, augmented, and each tuple without it, as it is: K tensors (b, D) of unit norm each.

        Of the rows that have the modality and another one. strength: factor on the noise that is given in params/.
        Raises TrainingError: fewer than two rows have a modality and another one.
        """
        view = {m: augment(batch.inputs[m], generator) for m, augment in self._augmenters(strength).items()}
        presence, queries, candidates = Presence.of(batch), [], []
        for m in self.modalities:
            rows_b = shared_rows(presence.rows(m), presence.any(self._others(m)))
            if rows_b is not None and int(rows_b.sum()) < 2:
                raise TrainingError(
                    f"{self.cell.name}: objective.search.held_out: of {len(rows_b)} rows that are held out "
                    f"{int(rows_b.sum())} have '{m}' and another modality; hold out more"
                )
            alone, rest = self.fuse(view, [m], presence), self.fuse(batch.inputs, self._others(m), presence)
            queries.append(unit_rows(upcast(_only(rows_b, alone))))
            candidates.append(unit_rows(upcast(_only(rows_b, rest))))
        return queries, candidates

    def train_at(self, alpha: Sequence[float], strength: float = 1.0) -> None:
        """Take another alpha, one number per modality, and another strength of the augmentations, a factor > 0."""
        self.alpha = list(alpha)
        self.augmenters = self._augmenters(strength)

    def settled(self, alpha: Sequence[float], strength: float = 1.0) -> dict[str, Any]:
        """The objective that trains with what was found: alpha, and strength of the augmentations."""
        found = dict(zip(self.modalities, alpha, strict=True))
        augmentations = louder(self.objective.augmentations, strength)
        changed = {"alpha": found, "naive": not any(alpha), "search": None, "augmentations": augmentations}
        return self.cell.objective | changed

    def _augmenters(self, strength: float) -> dict[str, Augmenter]:
        return build_augmenters(self.cell, louder(self.objective.augmentations, strength))

    def _parts(self, generator: torch.Generator) -> tuple[list[str], list[str]]:
        """The modalities of anchors and of keys in this step: all of both, or one and the others."""
        if self.dropping == 0:
            return self.modalities, self.modalities
        split = torch.rand((), generator=generator)
        chosen = self.modalities[int(torch.randint(len(self.modalities), (), generator=generator))]
        return (self.modalities, self.modalities) if split >= self.dropping else ([chosen], self._others(chosen))

    def _others(self, modality: str) -> list[str]:
        return [m for m in self.modalities if m != modality]

    def _key_gradient(self) -> torch.set_grad_enabled:
        return torch.set_grad_enabled(torch.is_grad_enabled() and not self.objective.detach_keys)

    def _every_own_row(
        self, anchor_BD: Tensor, network: TupleNetwork, view: View, scenes_B: Tensor | None, rows_B: Tensor | None
    ) -> TupleLoss:
        """Anchors against their own tuples with each kept modality of each other row; rows_B: of these alone."""
        with self._key_gradient():
            terms = cast("LateNetwork", network).terms(view)
        weights = dict(zip(self.modalities, self._weights(len(anchor_BD)), strict=True))
        lent = {m: _only(rows_B, terms[m]) for m in disturbable(view)}
        sum_BD = add(terms.values())
        return every_own_row_terms(
            _only(rows_B, anchor_BD),
            _only(rows_B, sum_BD),
            lent,
            [weights[m] for m in lent],
            self.objective.tau,
            None if scenes_B is None else _only(rows_B, scenes_B),
            self._present(view, list(lent), rows_B),
        )

    def _drawn_rows(
        self, anchor_BD: Tensor, network: TupleNetwork, view: View, scenes_B: Tensor | None, rows_B: Tensor | None
    ) -> TupleLoss:
        """Anchors against tuples with kept modalities of drawn rows; rows_B: of these alone."""
        spec, kept = self.objective, disturbable(view)
        weights = dict(zip(self.modalities, self._weights(len(anchor_BD)), strict=True))
        sources = self._sources(len(anchor_BD), view, scenes_B)
        learned = [m for m, alpha in zip(self.modalities, self.alpha, strict=True) if alpha > 0]
        with self._key_gradient():
            positive_BD, disturbed = network.keys(view, {m: sources[m] for m in kept if m in sources}, learned)
        return tuple_info_nce_terms(
            _only(rows_B, anchor_BD),
            _only(rows_B, positive_BD),
            [_only(rows_B, key_RBD, len(anchor_BD)) for key_RBD in disturbed.values()],
            [weights[m] for m in disturbed],
            spec.tau,
            rows=spec.rows,
            scenes=None if scenes_B is None else _only(rows_B, scenes_B),
            names=list(disturbed),
            present=self._present(view, list(disturbed), rows_B),
        )

    def _sources(self, n: int, view: View, scenes_B: Tensor | None) -> dict[str, list[Tensor]]:
        """modality -> where each row of the batch takes it from, anew for each copy; not of one that cannot be lent."""
        out = {}
        for m in self.modalities:
            has_B = view.presence.rows(m)
            draws = [lenders(n, view.progress.generator, scenes_B, has_B) for _ in range(self.objective.copies)]
            if sources := [draw_B for draw_B in draws if draw_B is not None]:
                out[m] = sources
        return out

    def _present(self, view: View, modalities: Sequence[str], rows_B: Tensor | None) -> list[Tensor | None]:
        """Of each modality the contrasted rows that have it; None = all."""
        return [None if has_B is None else _only(rows_B, has_B) for has_B in map(view.presence.rows, modalities)]

    def _weights(self, n: int) -> list[float]:
        """w_k of a batch of n rows, counted as if no two of them were of one scene."""
        spec = self.objective
        return weights_from_alpha(self.alpha, *counts(n, spec.rows, spec.copies), spec.form)


def disturbable(view: View) -> list[str]:
    """The modalities kept, or none where one alone is, of which a disturbed tuple would be another row's intact one."""
    return list(view.kept) if len(view.kept) > 1 else []


def _only(rows_B: Tensor | None, x: Tensor, n: int | None = None) -> Tensor:
    """The given rows of `x`, or of each copy of the batch of n rows that it holds one after another."""
    return x if rows_B is None else x.unflatten(0, (-1, n or len(x)))[:, rows_B].flatten(0, 1)


def louder(raw: Mapping[str, Sequence[Mapping[str, Any]]], factor: float) -> dict[str, list[dict[str, Any]]]:
    """Augmentations with the standard deviation of their noise times a factor; other steps as they are."""
    return {
        kind: [{**step, "std": step["std"] * factor} if "std" in step else dict(step) for step in steps]
        for kind, steps in raw.items()
    }


METHOD = TupleInfoNCE

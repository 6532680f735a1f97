"""TupleInfoNCE: fused tuples, contrasted with other tuples and with tuples that hold one modality of another row.

Source: Liu et al., "Contrastive Multimodal Fusion with TupleInfoNCE", ICCV 2021. Only its abstract, a restatement of
its formulas and the released NYUv2 code (github hoi4d/TupleInfoNCE) could be read, not its body.

Shapes: b rows of this rank, B rows of the global batch, K modalities, R draws of foreign rows a modality, H width of
the fusion's first layer, D width of the fused embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.config.objectives import TupleInfoNCEObjective
from mmcontrast.contrast.derangement import derangement
from mmcontrast.contrast.key_queue import KeyQueue
from mmcontrast.contrast.precision import upcast
from mmcontrast.contrast.similarity import unit_rows
from mmcontrast.contrast.tuple_info_nce import TupleLoss, counts, tuple_info_nce, weights_from_alpha
from mmcontrast.contrast.tuples import check_disturbable, every_own_row_loss, swap_terms
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.self_supervised import SelfSupervised, augmented, build_augmenters, refuse_finetuning
from mmcontrast.models.momentum import follow, frozen_copy
from mmcontrast.models.sum_fusion import SumFusion, add


def alpha_by_modality(cell: CellConfig, objective: TupleInfoNCEObjective) -> list[float]:
    """K numbers in the dataset's order of modalities.

    Raises:
        ConfigError: alpha is by modality, and not by those of the dataset; or shares leave nothing for naive negatives.
    """
    where = f"params/methods/{cell.method}.yaml ({cell.name}): objective.alpha"
    given = objective.alpha
    if isinstance(given, dict):
        for name in given:
            if name not in cell.modalities:
                raise ConfigError(f"{where}: no modality '{name}'; {nearest(name, cell.modalities)}")
        missing = [name for name in cell.modalities if name not in given]
        if missing:
            raise ConfigError(f"{where}: nothing for {', '.join(missing)}; give a number for each modality, 0 for none")
        alpha = [given[name] for name in cell.modalities]
    else:
        alpha = [given] * len(cell.modalities)
    if objective.form == "simplex" and sum(alpha) >= 1:
        raise ConfigError(
            f"{where}: shares of all negatives that sum to {sum(alpha):g} over {len(alpha)} modalities leave none for "
            "naive ones; lower them, or use form: ratio"
        )
    return alpha


def fused_width(cell: CellConfig, objective: TupleInfoNCEObjective) -> int:
    """Width D of the fused embedding: the objective's own, or that of model.fusion.

    Raises:
        ConfigError: neither is given.
    """
    if objective.fusion_width is not None:
        return objective.fusion_width
    if cell.model.fusion is None:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): objective.fusion_width: not given, and there is no "
            "model.fusion to take it from"
        )
    return cell.model.fusion.width


class Network(nn.Module):
    """What a tuple goes through: the modules given, not copies of them."""

    def __init__(self, encoders: nn.ModuleDict, fusion: SumFusion) -> None:
        super().__init__()
        self.encoders, self.fusion = encoders, fusion

    def unit(self, sum_BH: Tensor) -> Tensor:
        """(B, D) of unit norm, from sums of the fusion's first layer."""
        return unit_rows(upcast(self.fusion.finish(sum_BH)))


class TupleInfoNCE(SelfSupervised):
    """Anchor: one augmented view of the fused tuple. Positive: another view. Negatives: other rows' tuples, and tuples
    of which modality k comes from another row (a derangement of the global batch, drawn anew for each k and step).

    Each modality is encoded once a view; disturbed tuples are put together after the fusion's first layer. Blocks of
    weight 0 are measured for the log, without gradient. `embed` is the fused embedding, not normalised.

    Where paper and released code differ, or the code has a defect that is not repeated: a random permutation may leave
    a row in place, so that its positive is among its negatives (here: never); the ratio alpha becomes 1, 2 or 4 copies
    of a block (here: a weight); anchors are not noisy and one noise field serves a whole epoch (here: both views, drawn
    for each row); a fused feature per network pass (here: late fusion).

    With a queue, keys come from a momentum copy of the network, and those of earlier batches are negatives as well.
    `rows: every_own` builds no disturbed tuple: a linear fusion gives their scores from products of its terms.

    Raises:
        ConfigError: fewer than two modalities, or an objective that does not fit them; a queue under ZeRO stage 3.
    """

    def __init__(self, cell: CellConfig) -> None:
        super().__init__(cell)
        refuse_finetuning(cell)
        self.objective = spec = TupleInfoNCEObjective.model_validate(cell.objective)
        if len(self.modalities) < 2:
            raise ConfigError(
                f"params/datasets/{cell.dataset}.yaml: modalities: a disturbed tuple takes one of at least two "
                f"modalities from another row, and there is {', '.join(self.modalities) or 'none'}"
            )
        self.alpha = alpha_by_modality(cell, spec)
        self.dropping = spec.dropping
        self.augmenters = build_augmenters(cell, spec.augmentations)
        width = fused_width(cell, spec)
        self.fusion = SumFusion(self.modalities, cell.model.width, spec.fusion_hidden, width)
        if spec.queue:
            if cell.engine.zero_stage == 3:
                raise ConfigError(
                    f"{cell.name}: objective.queue: its momentum copy needs all weights on every rank, which "
                    "engine.zero_stage: 3 takes apart"
                )
            self.key_network = frozen_copy(Network(self.encoders, self.fusion))
            held = [KeyQueue(spec.queue, width) for _ in range(1 + len(self.modalities))]
            self.queues = nn.ModuleList(held)

    def check_data(self, inputs: Mapping[str, Tensor]) -> None:
        """Raise TrainingError where a modality is the same in all rows, unless nothing is disturbed."""
        if not self.objective.naive:
            check_disturbable(inputs)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        query, rest = self._parts(progress.generator)
        network = Network(self.encoders, self.fusion)
        anchor_BD = network.unit(add(self._view_terms(network, batch, progress, query)))
        keys = self._key_network(network)
        with self._key_gradient():
            terms = dict(zip(self.modalities, self._view_terms(keys, batch, progress, rest), strict=True))
        # of one modality alone a disturbed tuple would be another row's intact one
        present = rest if len(rest) > 1 else []
        if self.objective.rows == "every_own":
            out = self._every_own_row(anchor_BD, terms, present)
        else:
            out = self._drawn_rows(anchor_BD, keys, terms, present, progress.generator)
        if query == self.modalities:
            return {"loss": out.loss, **out.stats}
        return {"loss": out.loss, "crossmodal": out.loss.detach()}

    def embed(self, batch: Batch) -> Tensor:
        return self.fuse(batch.inputs, self.modalities)

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """The fused embedding, what it is fused from, and what is left of it without each modality."""
        lacking = {f"without_{m}": self.fuse(batch.inputs, self._others(m)) for m in self.modalities}
        return {"": self.embed(batch), "encoders": self.encodings(batch), **lacking}

    def fuse(self, inputs: Mapping[str, Tensor], kept: Sequence[str]) -> Tensor:
        """(b, D) fused embedding of the kept modalities; the others' encodings are zeros, as in the released code."""
        z_bD: Tensor = self.fusion(self._encode_kept(self.encoders, inputs, kept))
        return z_bD

    def crossmodal(
        self, batch: Batch, generator: torch.Generator, strength: float = 1.0
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Each modality alone, augmented, and each tuple without it, as it is: K tensors (b, D) of unit norm each.

        What `training.rewards.crossmodal_accuracy` takes. generator: of the augmentations. strength: factor on their
        noise, of what is given in params/ and not of what is trained with.
        """
        augmenters = build_augmenters(self.cell, louder(self.objective.augmentations, strength))
        view = {m: augment(batch.inputs[m], generator) for m, augment in augmenters.items()}
        queries = [self.fuse(view, [m]) for m in self.modalities]
        candidates = [self.fuse(batch.inputs, self._others(m)) for m in self.modalities]
        return [unit_rows(upcast(z)) for z in queries], [unit_rows(upcast(z)) for z in candidates]

    def train_at(self, alpha: Sequence[float], strength: float = 1.0) -> None:
        """Take another alpha, one number a modality, and another strength of the augmentations, a factor > 0."""
        self.alpha = list(alpha)
        self.augmenters = build_augmenters(self.cell, louder(self.objective.augmentations, strength))

    def settled(self, alpha: Sequence[float], strength: float = 1.0) -> dict[str, Any]:
        """The objective that trains with a found alpha, one number a modality, and strength of the augmentations."""
        found = dict(zip(self.modalities, alpha, strict=True))
        augmentations = louder(self.objective.augmentations, strength)
        changed = {"alpha": found, "naive": not any(alpha), "search": None, "augmentations": augmentations}
        return self.cell.objective | changed

    def _parts(self, generator: torch.Generator) -> tuple[list[str], list[str]]:
        """The modalities of anchors and of keys in this step: all of both, or one and the others."""
        if self.dropping == 0:
            return self.modalities, self.modalities
        split, chosen = (
            torch.rand((), generator=generator),
            int(torch.randint(len(self.modalities), (), generator=generator)),
        )
        if split >= self.dropping:
            return self.modalities, self.modalities
        return [self.modalities[chosen]], self._others(self.modalities[chosen])

    def _others(self, modality: str) -> list[str]:
        return [m for m in self.modalities if m != modality]

    def _key_network(self, network: Network) -> Network:
        """The network itself, or its momentum copy, one step on."""
        if not self.objective.queue:
            return network
        follow(self.key_network, network, self.objective.key_decay)
        return self.key_network

    def _queues(self) -> list[KeyQueue]:
        """Naive first, then one a modality."""
        return cast("list[KeyQueue]", list(self.queues))

    def _key_gradient(self) -> torch.set_grad_enabled:
        return torch.set_grad_enabled(torch.is_grad_enabled() and not self.objective.detach_keys)

    def _encode_kept(
        self, encoders: nn.ModuleDict, inputs: Mapping[str, Tensor], kept: Sequence[str]
    ) -> dict[str, Tensor]:
        """modality -> (b, d)."""
        out = {m: encoders[m](inputs[m]) for m in kept}
        some_bd = next(iter(out.values()))
        return {m: out[m] if m in out else torch.zeros_like(some_bd) for m in self.modalities}

    def _view_terms(self, network: Network, batch: Batch, progress: Progress, kept: Sequence[str]) -> list[Tensor]:
        """K tensors (B, H) of a fresh view, gathered."""
        view = augmented(self.augmenters, batch, progress)
        encoded = self._encode_kept(network.encoders, view, kept)
        return [progress.gather(term_bH) for term_bH in network.fusion.terms(encoded)]

    def _every_own_row(self, anchor_BD: Tensor, terms: Mapping[str, Tensor], present: Sequence[str]) -> TupleLoss:
        """Each anchor against its own tuple with each present modality of each other row, of a linear fusion."""
        weights = dict(zip(self.modalities, self._weights(len(anchor_BD)), strict=True))
        lent = {m: terms[m] for m in present}
        sum_BD = add(list(terms.values()))
        return every_own_row_loss(anchor_BD, sum_BD, lent, [weights[m] for m in present], self.objective.tau)

    def _drawn_rows(
        self,
        anchor_BD: Tensor,
        network: Network,
        terms: Mapping[str, Tensor],
        present: Sequence[str],
        generator: torch.Generator,
    ) -> TupleLoss:
        """Anchors against tuples whose present modalities are disturbed by drawn rows, and against the queues."""
        spec = self.objective
        # one modality alone is contrasted with parts of tuples, which are not what the queues hold
        whole = list(present) == self.modalities
        queue = [held.rows() for held in self._queues()] if spec.queue and whole else None
        weights = dict(zip(self.modalities, self._weights(len(anchor_BD), len(queue[0]) if queue else 0), strict=True))
        with self._key_gradient():
            positive_BD, disturbed = self._keys(network, list(terms.values()), present, generator)
        out = tuple_info_nce(
            anchor_BD,
            positive_BD,
            list(disturbed.values()),
            [weights[m] for m in present],
            spec.tau,
            rows=spec.rows,
            queue=queue,
            names=list(disturbed),
        )
        if queue is not None:
            for held, key_RBD in zip(self._queues(), (positive_BD, *disturbed.values()), strict=True):
                held.push(key_RBD)
        return out

    def _keys(
        self, network: Network, terms: list[Tensor], present: Sequence[str], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Unit-norm positives (B, D), and modality -> (R * B, D) disturbed tuples."""
        n, copies = len(terms[0]), self.objective.copies
        sources = [[derangement(n, generator) for _ in range(copies)] for _ in terms]
        sum_BH = add(terms)
        used = [draws if m in present else [] for m, draws in zip(self.modalities, sources, strict=True)]
        disturbed = {}
        for m, alpha, swapped_SH in zip(self.modalities, self.alpha, swap_terms(sum_BH, terms, used), strict=True):
            if m in present:
                with torch.set_grad_enabled(torch.is_grad_enabled() and alpha > 0):
                    disturbed[m] = network.unit(swapped_SH)
        return network.unit(sum_BH), disturbed

    def _weights(self, n: int, queued: int = 0) -> list[float]:
        """w_k of a batch of n rows."""
        spec = self.objective
        alpha = [1 - sum(self.alpha), *self.alpha] if spec.form == "simplex" else self.alpha
        return weights_from_alpha(alpha, *counts(n, spec.rows, spec.copies, queued), spec.form)


def louder(raw: Mapping[str, Sequence[Mapping[str, Any]]], factor: float) -> dict[str, list[dict[str, Any]]]:
    """Augmentations with the standard deviation of their noise times a factor; other steps as they are."""
    return {
        kind: [{**step, "std": step["std"] * factor} if "std" in step else dict(step) for step in steps]
        for kind, steps in raw.items()
    }


METHOD = TupleInfoNCE

"""TupleInfoNCE: fused tuples, contrasted with other tuples and with tuples that hold one modality of another row.

Source: Liu et al., "Contrastive Multimodal Fusion with TupleInfoNCE", ICCV 2021. Only its abstract, a restatement of
its formulas and the released NYUv2 code (github hoi4d/TupleInfoNCE) could be read, not its body.

Shapes: b rows of this rank, B rows of the global batch, K modalities, R draws of foreign rows a modality, H width of
the fusion's first layer, D width of the fused embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.config import CellConfig
from mmcontrast.config.objectives import TupleInfoNCEObjective
from mmcontrast.contrast.derangement import derangement
from mmcontrast.contrast.precision import upcast
from mmcontrast.contrast.tuple_info_nce import counts, tuple_info_nce, weights_from_alpha
from mmcontrast.contrast.tuples import check_disturbable, swap_terms
from mmcontrast.errors import ConfigError, nearest
from mmcontrast.methods.base import Batch, Progress
from mmcontrast.methods.self_supervised import SelfSupervised, augmented, build_augmenters, refuse_finetuning
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


class TupleInfoNCE(SelfSupervised):
    """Anchor: one augmented view of the fused tuple. Positive: another view. Negatives: other rows' tuples, and tuples
    of which modality k comes from another row (a derangement of the global batch, drawn anew for each k and step).

    Each modality is encoded once a view; disturbed tuples are put together after the fusion's first layer. Blocks of
    weight 0 are measured for the log, without gradient. `embed` is the fused embedding, not normalised.

    Where paper and released code differ, or the code has a defect that is not repeated: a random permutation may leave
    a row in place, so that its positive is among its negatives (here: never); the ratio alpha becomes 1, 2 or 4 copies
    of a block (here: a weight); anchors are not noisy and one noise field serves a whole epoch (here: both views, drawn
    for each row); a fused feature per network pass (here: late fusion).

    Raises:
        ConfigError: fewer than two modalities, or an objective that does not fit them.
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
        self.fusion = SumFusion(self.modalities, cell.model.width, spec.fusion_hidden, fused_width(cell, spec))

    def check_data(self, inputs: Mapping[str, Tensor]) -> None:
        """Raise TrainingError where a modality is the same in all rows, unless nothing is disturbed."""
        if not self.objective.naive:
            check_disturbable(inputs)

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        spec = self.objective
        query, rest = self._parts(progress.generator)
        anchor_BD = self._unit(add(self._view_terms(batch, progress, query)))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not spec.detach_keys):
            terms = self._view_terms(batch, progress, rest)
            positive_BD, disturbed = self._keys(terms, progress, rest)
        weights = dict(zip(self.modalities, self._weights(len(anchor_BD)), strict=True))
        out = tuple_info_nce(
            anchor_BD,
            positive_BD,
            list(disturbed.values()),
            [weights[m] for m in disturbed],
            spec.tau,
            rows=spec.rows,
            names=list(disturbed),
        )
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
        z_bD: Tensor = self.fusion(self._encode_kept(inputs, kept))
        return z_bD

    def crossmodal(self, batch: Batch, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
        """Each modality alone, augmented, and each tuple without it, as it is: K tensors (b, D) of unit norm each.

        What `training.rewards.crossmodal_accuracy` takes. generator: of the augmentations.
        """
        view = {m: augment(batch.inputs[m], generator) for m, augment in self.augmenters.items()}
        queries = [self.fuse(view, [m]) for m in self.modalities]
        candidates = [self.fuse(batch.inputs, self._others(m)) for m in self.modalities]
        return [F.normalize(upcast(z), dim=-1) for z in queries], [F.normalize(upcast(z), dim=-1) for z in candidates]

    def settled(self, alpha: Sequence[float]) -> dict[str, Any]:
        """The objective that trains with a found alpha, one number a modality."""
        found = dict(zip(self.modalities, alpha, strict=True))
        return self.cell.objective | {"alpha": found, "naive": not any(alpha), "search": None}

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

    def _encode_kept(self, inputs: Mapping[str, Tensor], kept: Sequence[str]) -> dict[str, Tensor]:
        """modality -> (b, d)."""
        out = self.encode({m: inputs[m] for m in kept})
        some_bd = next(iter(out.values()))
        return {m: out[m] if m in out else torch.zeros_like(some_bd) for m in self.modalities}

    def _view_terms(self, batch: Batch, progress: Progress, kept: Sequence[str]) -> list[Tensor]:
        """K tensors (B, H) of a fresh view, gathered."""
        view = augmented(self.augmenters, batch, progress)
        return [progress.gather(term_bH) for term_bH in self.fusion.terms(self._encode_kept(view, kept))]

    def _keys(self, terms: list[Tensor], progress: Progress, kept: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Unit-norm positives (B, D), and modality -> (R * B, D) disturbed tuples.

        Only of modalities that are there; and of one alone, a disturbed tuple would be another row's intact one.
        """
        n, copies = len(terms[0]), self.objective.copies
        sources = [[derangement(n, progress.generator) for _ in range(copies)] for _ in terms]
        sum_BH = add(terms)
        present = kept if len(kept) > 1 else []
        used = [draws if m in present else [] for m, draws in zip(self.modalities, sources, strict=True)]
        disturbed = {}
        for m, alpha, swapped_SH in zip(self.modalities, self.alpha, swap_terms(sum_BH, terms, used), strict=True):
            if m in present:
                with torch.set_grad_enabled(torch.is_grad_enabled() and alpha > 0):
                    disturbed[m] = self._unit(swapped_SH)
        return self._unit(sum_BH), disturbed

    def _unit(self, sum_BH: Tensor) -> Tensor:
        return F.normalize(upcast(self.fusion.finish(sum_BH)), dim=-1)

    def _weights(self, n: int) -> list[float]:
        """w_k of a batch of n rows."""
        spec = self.objective
        alpha = [1 - sum(self.alpha), *self.alpha] if spec.form == "simplex" else self.alpha
        return weights_from_alpha(alpha, *counts(n, spec.rows, spec.copies), spec.form)


METHOD = TupleInfoNCE

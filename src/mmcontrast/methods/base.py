"""What the training loop knows of a method, and which rows have which modality.

What stands in a row that lacks a modality is never looked at: its embedding is zeros, and a loss leaves it out
(`losses.rows`). Every rank calls every encoder in every step, so that no collective depends on the data.

Shapes: B rows of the global batch, b rows of this rank, d or D width of a modality's embedding, T tokens, C classes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.data.loading import Table
from mmcontrast.errors import ConfigError
from mmcontrast.losses.rows import shared_rows
from mmcontrast.methods.registry import method_module
from mmcontrast.models.heads import TargetScale, as_predictions

if TYPE_CHECKING:
    from mmcontrast.training.distributed import StopRequest, World


def keep_local(x: Tensor) -> Tensor:
    """The gather of a single process, (b, ...) -> (B, ...): every row is already here."""
    return x


@dataclass(frozen=True)
class Presence:
    """Only of the modalities that a row may lack; of the others every row has every one.

    Attributes:
        local: modality -> (b,) bool, of this rank. whole: modality -> (B,) bool, of all ranks.
    """

    local: Mapping[str, Tensor] = field(default_factory=dict)
    whole: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch, gather: Callable[[Tensor], Tensor] = keep_local) -> Presence:
        """Of a batch. gather: (b,) -> (B,) as `Progress.gather`; by default these are all rows there are."""
        whole = {m: gather(rows_b.to(torch.uint8)).bool() for m, rows_b in batch.present.items()}
        return cls(batch.present, whole)

    def rows(self, *modalities: str) -> Tensor | None:
        """(B,) rows of the global batch that have all of these modalities; None = all rows."""
        return shared_rows(*(self.whole.get(m) for m in modalities))

    def any(self, modalities: Collection[str]) -> Tensor | None:
        """(B,) rows that have at least one of these modalities; None = all rows."""
        if any(m not in self.whole for m in modalities):
            return None
        return torch.stack([self.whole[m] for m in modalities]).any(dim=0)

    def encode(self, encoders: nn.ModuleDict, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """modality in `inputs` -> what its encoder gives of this rank's rows (b, ...), zeros in rows that lack it."""
        return {m: self.encode_one(m, e, inputs[m]) for m, e in encoders.items() if m in inputs}

    def encode_one(self, modality: str, encoder: nn.Module, x: Tensor) -> Any:
        """(b, D), or (b, T, D) and padding (b, T), True in rows that lack the modality. x: (b, ...) of this rank."""
        return _of_rows(encoder, x, self.local.get(modality), self.whole.get(modality))

    def project(self, modality: str, head: nn.Module, z_BD: Tensor) -> Tensor:
        """(B, P): a head on gathered rows, whose batch statistics are of the rows that have the modality."""
        rows_B = self.whole.get(modality)
        out: Tensor = _of_rows(head, z_BD, rows_B, rows_B)
        return out

    def mixed(self, perm_B: Tensor, rows: slice) -> Presence:
        """Of mixtures of each row with its partner (B,): they have what both have. rows: those of this rank."""
        whole = {m: rows_B & rows_B[perm_B.to(rows_B.device)] for m, rows_B in self.whole.items()}
        return Presence({m: rows_B[rows] for m, rows_B in whole.items()}, whole)

    def blank(self, modality: str, z: Tensor, filling: float = 0) -> Tensor:
        """`z` (b, ...) of this rank with `filling` in the rows that lack the modality."""
        if modality not in self.local:
            return z
        return z.masked_fill(~self.local[modality].view(-1, *[1] * (z.ndim - 1)), filling)

    def shares(self, modalities: list[str]) -> dict[str, Tensor]:
        """Scalars for the log: shares of rows that have a modality, and both of a pair, where a row may lack it."""
        groups = [*((m,) for m in modalities), *combinations(modalities, 2)]
        masks = {"_".join(group): self.rows(*group) for group in groups}
        return {f"have_{name}": rows_B.float().mean() for name, rows_B in masks.items() if rows_B is not None}


EVERYTHING = Presence()


def _of_rows(module: nn.Module, x: Tensor, rows_b: Tensor | None, rows_B: Tensor | None) -> Any:
    """The module's output for the rows that are True, in its place among all rows; none of them is a batch too.

    With fewer than two rows on all ranks a batch has no statistics to normalise by: the module runs as in evaluation.
    """
    if rows_b is None or rows_B is None:
        return module(x)
    few = module.training and int(rows_B.sum()) < 2
    if few:
        module.eval()
    out = module(x[rows_b])
    if few:
        module.train()
    if not isinstance(out, tuple):
        return _placed(out, rows_b, 0)
    tokens_nTD, padding_nT = out
    if padding_nT is None:
        padding_nT = torch.zeros(tokens_nTD.shape[:2], dtype=torch.bool, device=x.device)
    return _placed(tokens_nTD, rows_b, 0), _placed(padding_nT, rows_b, True)


def _placed(out: Tensor, rows_b: Tensor, filling: float) -> Tensor:
    """The rows of `out` at the places that are True, `filling` at the others."""
    all_rows = out.new_full((len(rows_b), *out.shape[1:]), filling)
    all_rows[rows_b] = out
    return all_rows


# (epoch, name, value) of a logged scalar
History = list[tuple[int, str, float]]


@dataclass(frozen=True)
class Batch:
    """Rows of this rank.

    Attributes:
        inputs: modality -> tensor whose first axis is b (of multifold data the modality's own number of rows), in the
            dataset's order of modalities. A sequence is (b, T, d) with NaN after its last step, T the most steps in the
            global batch; a text (b, T) int64 with padding after its last token: 0 among our own word pieces, -1 among
            a pretrained tokenizer's.
        labels: (b,) int64 class indices, (b, C) float32 zeros and ones, or (b, C) float32 numbers, scaled in training.
        ids: modality -> (P,) int64 instance of each of its rows, of multifold data; numbers that all ranks agree on.
            None: every modality has b rows, and row k is of instance k.
        present: modality -> (b,) bool, whether the row has it; {} where no row can lack anything. What stands in
            `inputs` for a row that lacks it is never looked at: zeros, of a sequence NaN, of a text padding.
        scenes: (b,) int64 scene of each row, where the dataset repeats scenes; numbers that all ranks agree on.
        tasks: task -> labels of the dataset's further tasks, which nothing is trained on: for oracles.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor
    ids: Mapping[str, Tensor] | None = None
    scenes: Tensor | None = None
    present: Mapping[str, Tensor] = field(default_factory=dict)
    tasks: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where training stands, and what a step may draw on.

    Attributes:
        stage: pretrain = contrastive terms only; finetune = the joint or supervised objective.
        epoch: 0-based. epochs: of this stage.
        generator: CPU generator, in the same state on every rank: all draws that concern the global batch come from it.
        gather: rows of this rank (b, ...) -> rows of all ranks (B, ...) in rank order, with gradient; takes integer
            tensors (labels) too. Every rank then computes the loss of the whole batch, so that negatives, permutations
            and means are those of one process, and gradients averaged over the ranks are its gradients.
        rows: the rows of the global batch that this rank holds.
    """

    stage: str
    epoch: int
    epochs: int
    generator: torch.Generator
    gather: Callable[[Tensor], Tensor] = keep_local
    rows: slice = field(default_factory=lambda: slice(None))


@dataclass(frozen=True)
class SeedJob:
    """One seed of one stage: what is trained, and where its state goes.

    Attributes:
        stage: pretrain | finetune. world: the processes that share the work.
        state: folder of this seed's resume state.
        fingerprint: of everything that decides the result; state of another fingerprint is not resumed.
        stop: tells after each step whether to save and leave.
    """

    stage: str
    seed: int
    world: World
    state: Path
    fingerprint: str
    stop: StopRequest


class Method(nn.Module):
    """A training objective with its wiring. Subclasses are built as `METHOD(cell)` from a cell's configuration.

    `forward` gives the scalars of `training_loss`: DeepSpeed and DDP hook the forward call. A modality that a row lacks
    is encoded as zeros and takes no part in a loss; each method says what that means for its own terms. The share of
    rows that have a modality, and both of a pair, is logged: `have_<modality>`, `have_<modality>_<modality>`.

    Attributes:
        takes_partial_rows: its embedding makes sense of a row that lacks a modality which every row of train had: it
            encodes each modality for itself, or was trained on some of them at a time.
        reads_labels: its embedding is made of labels, so that rows without them have none.
    """

    takes_partial_rows: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False

    def __init__(self, cell: CellConfig) -> None:
        super().__init__()
        self.cell = cell
        self.modalities = list(cell.modalities)
        self.n_classes = len(cell.classes)
        self.target_scale = TargetScale(self.n_classes) if cell.target == "regression" else None

    @classmethod
    def prepare(cls, cell: CellConfig, job: SeedJob, table: Table) -> tuple[CellConfig, History]:
        """Called before the method is built: the cell that is trained, and what to log of how it was found.

        By default the cell as it is. A method that searches for some of its values on the training rows, `table`, does
        it here, with its resume state in `job.state`.
        """
        return cell, []

    def check_data(self, inputs: Mapping[str, Tensor]) -> None:
        """Called once before training with all training rows, modality -> (N, ...).

        Raises TrainingError: the method cannot learn from these; by default it can.
        """

    def training_loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Named scalar terms; `loss` is the one that is minimised, the others are logged.

        A parameter that a stage's loss does not reach has no gradient, and the engines leave it as it is.
        """
        raise NotImplementedError

    def embed(self, batch: Batch) -> Tensor:
        """(b, width) representation of each instance: no augmentation, no projection head."""
        raise NotImplementedError

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """What is scored: (b, width) tensors by name, `embed` under the empty one; names: `evaluation.columns`."""
        return {"": self.embed(batch)}

    def observations(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """modality -> ((P, width) unit rows in the space where modalities are compared, (P,) instance of each).

        Only of methods for multifold data, which retrieval scores. Raises ConfigError: the method has no such space.
        """
        raise ConfigError(
            f"params/methods/{self.cell.method}.yaml ({self.cell.name}): this method compares no observations of one "
            f"modality with those of another, so dataset '{self.cell.dataset}', which is scored by retrieval, is not "
            "for it"
        )

    def logits(self, batch: Batch) -> Tensor | None:
        """(b, C) scores of classes, labels or scaled quantities, or None for a method without a classifier."""
        return None

    def predictions(self, batch: Batch) -> Tensor | None:
        """(b, C) float32 probabilities of classes or labels, or numbers in the units of the data; None as `logits`."""
        scores = self.logits(batch)
        return None if scores is None else as_predictions(self.cell.target, scores.float(), self.target_scale)

    def learnable(self, labels: Tensor) -> Tensor:
        """The training rows' labels (N, ...) as the loss takes them: numbers standardised, others as given.

        What they are scaled by is kept with the weights.
        """
        if self.target_scale is None:
            return labels
        self.target_scale.fit(labels)
        return self.target_scale.scaled(labels)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        terms = self.training_loss(batch, progress)
        if not batch.present or batch.ids is not None:
            return terms
        return terms | Presence.of(batch, progress.gather).shares(self.modalities)


def refuse_finetuning(cell: CellConfig) -> None:
    """Raise ConfigError if the cell has a `finetune` stage, for a method that has no loss of labels."""
    if cell.finetune is not None:
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): finetune: this method has no classifier; remove "
            "`finetune`, its embeddings are scored as they are"
        )


def method_class(implementation: str) -> type[Method]:
    """The class of a method, so that a run imports its own method alone."""
    module = importlib.import_module(method_module(implementation))
    found: type[Method] = module.METHODS[implementation] if hasattr(module, "METHODS") else module.METHOD
    return found


def build_method(cell: CellConfig) -> Method:
    """The cell's method with freshly initialised weights, drawn from torch's global generator."""
    return method_class(cell.implementation)(cell)

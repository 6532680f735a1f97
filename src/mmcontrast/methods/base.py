"""What the training loop knows of a method.

Shapes: B rows of the global batch, b rows of this rank, d width of one modality's embedding, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.data.loading import Table
from mmcontrast.errors import ConfigError
from mmcontrast.methods.presence import Presence
from mmcontrast.models.heads import TargetScale, as_predictions

if TYPE_CHECKING:
    from mmcontrast.training.distributed import World
    from mmcontrast.training.interrupt import StopRequest

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


def keep_local(x: Tensor) -> Tensor:
    """The gather of a single process: every row is already here."""
    return x


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

    stage: Literal["pretrain", "finetune"]
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

    `forward` is `training_loss`, because DeepSpeed and DDP hook the forward call.

    A modality that a row lacks (`Batch.present`) is encoded as zeros and takes no part in a loss; each method says what
    that means for its own terms. `methods.presence` does it, and `losses.rows` says what a term of few rows weighs. The
    share of rows that have a modality, and both of a pair, is logged: `have_<modality>`, `have_<modality>_<modality>`.

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

        By default the cell as it is. A method that searches for some of its values on the training rows does it here,
        so that what follows is exactly the stage of a cell that was given them.

        Args:
            table: the training rows. job: its stage, and a folder for resume state (`job.state`).
        """
        return cell, []

    def check_data(self, inputs: Mapping[str, Tensor]) -> None:
        """Called once before training with all training rows, to refuse what the method cannot learn from.

        Args:
            inputs: modality -> (N, ...).

        Raises:
            TrainingError: saying what is wrong with which modality. By default nothing is.
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
        """What is scored: (b, width) tensors by name, `embed` under the empty one; names: `evaluation.readouts`."""
        return {"": self.embed(batch)}

    def observations(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """modality -> ((P, width) unit rows in the space where modalities are compared, (P,) instance of each).

        Only of methods for multifold data, which retrieval scores.

        Raises:
            ConfigError: the method has no such space.
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
        """The training rows' labels as the loss takes them: numbers scaled to mean 0 and variance 1, others as given.

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


def refuse_training(cell: CellConfig, where: str) -> None:
    """Raise ConfigError if a stage is to train, for a method without a weight to train. `where`: starts the message."""
    if cell.finetune is not None or cell.pretrain is None or cell.pretrain.epochs:
        raise ConfigError(f"{where}: nothing is trained here; give `pretrain: {{epochs: 0}}` and no `finetune`")

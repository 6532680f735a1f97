"""The model of one cell: what remains of `params/` after all merging."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mmcontrast.config.base import Grown
from mmcontrast.config.datasets import Modality, Retrieval, ScoredBy
from mmcontrast.config.metrics import Kind, Metric
from mmcontrast.config.targets import Target, Tasks, targets_of
from mmcontrast.config.training import Engine, Model, Selection, Stage
from mmcontrast.methods.registry import OBJECTIVES


class CellConfig(Grown):
    """Everything that decides a cell's result: what remains of params/ after all merging."""

    LATER = ("target", "case_weights", "label_counts")

    dataset: str
    method: str
    variant: str
    implementation: str
    modalities: dict[str, Modality]
    classes: list[str]
    target: Kind = "classes"
    tasks: Tasks = Field(default={})
    class_weighted: list[str] = Field(default=[])
    case_weights: bool = False
    probe_from: str | None = None
    scenes: str | None = None
    metrics: list[Metric]
    retrieval: Retrieval | None = None
    objective: dict[str, Any]
    model: Model
    pretrain: Stage | None
    finetune: Stage | None
    selection: Selection
    recipe: str | None = Field(default=None, description="Shared recipe it is trained on; a probe then scores it.")
    label_counts: list[int] = Field(default=[], description="Labels per class that probes are fitted on, besides all.")
    seeds: list[int]
    engine: Engine
    followed_by: Literal["finetune"] | None = Field(
        default=None, description="Stage that comes later and decides nothing here; of a plan for pretraining."
    )

    @model_validator(mode="after")
    def _weights_are_of_probes(self) -> Self:
        if self.case_weights and self.scored_by == "classifier":
            raise ValueError(
                f"case_weights: cases of dataset '{self.dataset}' have weights, which a probe alone takes, and this "
                "cell is scored by its own classifier; use a variant that a recipe trains"
            )
        return self

    @property
    def name(self) -> str:
        """dataset/method/variant, as it is typed on the command line."""
        return f"{self.dataset}/{self.method}/{self.variant}"

    @property
    def targets(self) -> dict[str, Target]:
        """Task -> what its labels are and are scored by, the main ones under the empty name first."""
        return targets_of(self.target, self.classes, self.tasks, self.metrics)

    @property
    def data(self) -> list[tuple[str, str]]:
        """(dataset, split) of every prepared file the cell reads."""
        own = [(self.dataset, split) for split in ("train", "val", "test")]
        return own if self.probe_from in (None, self.dataset) else [*own, (self.probe_from, "train")]

    @property
    def stages(self) -> list[str]:
        """The training stages this cell has, in order."""
        return [s for s in ("pretrain", "finetune") if getattr(self, s) is not None]

    @property
    def scored_by(self) -> ScoredBy:
        """What makes scores of what the last stage leaves behind."""
        if self.retrieval is not None:
            return "retrieval"
        has_classifier = self.finetune is not None and OBJECTIVES[self.implementation].classifier
        return "classifier" if has_classifier and self.recipe is None else "probe"

    @property
    def last_stage(self) -> str:
        """The stage whose outputs are scored and shown."""
        return self.followed_by or self.stages[-1]

    def of_stage(self, stage: str) -> CellConfig:
        """What of this decides the result of one of its stages, or of `evaluate`: an equal one gives equal outputs."""
        if stage == "evaluate":
            return self.model_copy(update={"engine": Engine()})
        if stage == "pretrain" and self.last_stage != stage:
            later: dict[str, Any] = {"finetune": None, "metrics": [], "followed_by": "finetune", "label_counts": []}
            return self.model_copy(update=later)
        return self.model_copy(update={"label_counts": []})

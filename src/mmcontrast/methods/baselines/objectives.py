"""Hyper-parameters of the baselines: `method` names the file beside this one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mmcontrast.config.augmentations import Augmentations
from mmcontrast.config.objective import Objective, TemperatureSpec, Views


class RawObjective(Objective):
    """Raw inputs, which nothing is learned from."""

    method: ClassVar[str] = "raw"
    classifier: ClassVar[bool] = False
    steps: int = Field(default=64, gt=1, description="Steps that a sequence is resampled to.")


class OracleObjective(Objective):
    """A code of known factors, which nothing is learned from."""

    method: ClassVar[str] = "oracle"
    classifier: ClassVar[bool] = False
    factors: list[str] = Field(min_length=1, description="Tasks of classes whose labels it holds; main = the label.")
    products: list[list[str]] = Field(
        default=[], description="Sets of these whose combinations have a unit each, as one attribute would."
    )


class UnimodalObjective(Objective):
    """Cross-entropy on one modality alone."""

    method: ClassVar[str] = "unimodal"
    modality: str | None = Field(
        default=None, description="Modality the classifier sees; null = all, each with its own head, averaged."
    )


class ConcatObjective(Objective):
    """Cross-entropy on the concatenated embeddings, with or without unimodal heads and an InfoNCE term."""

    method: ClassVar[str] = "concat"
    unimodal_heads: bool = Field(default=False, description="Add the sum of the unimodal cross-entropies.")
    beta: float = Field(default=0.0, ge=0, description="Weight of the CLIP-type InfoNCE term; 0 = off.")
    tau: float = Field(default=0.1, gt=0, description="Temperature of the InfoNCE term.")
    pairing: Literal["ring", "all"] = Field(default="ring", description="Pairs of modalities that are contrasted.")


class MixupObjective(Objective):
    """Input mixup with mixed labels: one coefficient and one permutation per batch, shared by the modalities."""

    method: ClassVar[str] = "mixup"
    alpha: float = Field(default=0.2, gt=0, description="Both parameters of the Beta distribution.")
    unimodal_heads: bool = Field(default=True, description="Add the sum of the unimodal cross-entropies.")


class PairwiseObjective(Objective):
    """Contrast of pairs: one modality with another (cross), two augmented views of the same modality (self)."""

    method: ClassVar[str] = "pairwise"
    cross_weight: float = Field(ge=0, description="Weight of the mean over pairs of modalities; 0 = off.")
    self_weight: float = Field(ge=0, description="Weight of the mean over modalities of SimCLR's loss; 0 = off.")
    cross_loss: Literal["info_nce", "nt_xent"] = Field(
        default="info_nce", description="info_nce: CLIP's, negatives from the other modality alone; nt_xent: from both."
    )
    tau: float = Field(default=0.1, gt=0, description="Temperature of both terms.")
    head: Literal["mlp", "linear", "none"] = Field(
        default="mlp", description="What stands between a modality's embedding and the loss; its widths: projection."
    )
    embedding: Literal["encoders", "heads"] = Field(
        default="encoders", description="What is scored: the encoders' outputs, or what the heads make of them."
    )
    augmentations: Augmentations = Field(default={})

    @model_validator(mode="after")
    def _some_term(self) -> Self:
        if self.cross_weight == self.self_weight == 0:
            raise ValueError("cross_weight and self_weight are both 0, which leaves nothing to minimise")
        return self


class JointFusionObjective(Objective):
    """Cross-entropy on CoMM's fused embedding."""

    method: ClassVar[str] = "joint_fusion"


class SupConObjective(Objective):
    """Supervised contrast between the modalities' embeddings."""

    method: ClassVar[str] = "supcon"
    classifier: ClassVar[bool] = False
    tau: float = Field(default=0.07, gt=0, description="Temperature.")


class FactorCLObjective(Objective):
    """FactorCL: bounds on shared and unique information between two modalities, over all pairs of them."""

    method: ClassVar[str] = "factorcl"
    classifier: ClassVar[bool] = False
    critic_hidden: int = Field(default=512, gt=0, description="Hidden width of the critics.")
    embedding: Literal["encoders", "heads"] = Field(
        default="heads",
        description="What is scored: the encoders' outputs, or all heads', ten per pair (released code).",
    )
    augmentations: Augmentations


class InstanceContrastObjective(Objective):
    """A loss over rows and the instances they are of."""

    method: ClassVar[str] = "instance_contrast"
    loss: Literal["clip", "supcon", "mil_nce", "tricolo", "siglip"]
    tau: TemperatureSpec = TemperatureSpec()
    double_count: bool = Field(
        default=False, description="mil_nce: positives twice in the denominator, as in the released code."
    )
    directions: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={}, description="tricolo: 'text->image' -> weight; {} = every direction 0.5."
    )
    views: Views = Views()

    @model_validator(mode="after")
    def _only_where_it_counts(self) -> Self:
        if self.directions and self.loss != "tricolo":
            raise ValueError(f"directions: of loss tricolo alone, and the loss is {self.loss}")
        if self.double_count and self.loss != "mil_nce":
            raise ValueError(f"double_count: of loss mil_nce alone, and the loss is {self.loss}")
        return self

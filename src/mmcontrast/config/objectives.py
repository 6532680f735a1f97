"""Hyper-parameters of every method's objective, one model a method.

They stand apart from the methods themselves because the workflow checks all of `params/` each time it starts,
and a method's module imports torch (three seconds) while this one does not.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from mmcontrast.config.augmentations import parse_augmentations
from mmcontrast.errors import ConfigError
from mmcontrast.methods.tuple_infonce.search.settings import Search


class Objective(BaseModel):
    """Base of all objectives: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # whether what `finetune` trains ends in a classifier; else its embeddings are scored by a linear probe
    classifier: ClassVar[bool] = True


class UnimodalObjective(Objective):
    """Cross-entropy on one modality alone."""

    modality: str | None = Field(
        default=None, description="Modality the classifier sees; null = all, each with its own head, averaged."
    )


class ConcatObjective(Objective):
    """Cross-entropy on the concatenated embeddings, with or without unimodal heads and an InfoNCE term."""

    unimodal_heads: bool = Field(default=False, description="Add the sum of the unimodal cross-entropies.")
    beta: float = Field(default=0.0, ge=0, description="Weight of the CLIP-type InfoNCE term; 0 = off.")
    tau: float = Field(default=0.1, gt=0, description="Temperature of the InfoNCE term.")
    pairing: Literal["ring", "all"] = Field(default="ring", description="Pairs of modalities that are contrasted.")


class MixupObjective(Objective):
    """Input mixup with mixed labels: one coefficient and one permutation per batch, shared by the modalities."""

    alpha: float = Field(default=0.2, gt=0, description="Both parameters of the Beta distribution.")
    unimodal_heads: bool = Field(default=True, description="Add the sum of the unimodal cross-entropies.")


class M3CoLCompat(Objective):
    """Switches that bring back what the released code does where it departs from the method (methods: defects)."""

    both_sides_mixed: bool = Field(
        default=False, description="Compare mixed a with MIXED b (in-place edit of a shared clone), targets of a only."
    )
    overwrite_targets: bool = Field(
        default=False, description="Where a sample is its own partner, the target is overwritten instead of added."
    )


class M3CoLObjective(Objective):
    """M3CoL: supervised losses + beta times (M3Co, later MultiSClip)."""

    alpha: float = Field(default=0.15, gt=0, description="Both parameters of the Beta distribution of lambda.")
    p_select: float = Field(default=0.5, ge=0, le=1, description="Probability that a sample is mixed at all.")
    tau: float = Field(default=0.1, gt=0, description="Temperature of M3Co.")
    tau_soft: float = Field(default=0.125, gt=0, description="Temperature of MultiSClip, predictions and targets.")
    beta: float = Field(default=0.1, ge=0, description="Weight of the contrastive term.")
    schedule_fraction: float = Field(
        default=0.33, ge=0, le=1, description="M3Co while epoch < int(fraction * epochs), MultiSClip after."
    )
    pairing: Literal["ring", "all"] = Field(default="ring", description="Directed pairs of modalities.")
    mix_space: Literal["input", "embedding"] = Field(default="embedding", description="What is mixed.")
    detach_targets: bool = Field(default=False, description="Stop the gradient through MultiSClip's soft targets.")
    unimodal_heads: bool = Field(default=True, description="Add the sum of the unimodal cross-entropies.")
    compat: M3CoLCompat = Field(default=M3CoLCompat(), description="Defects of the released code, off by default.")


def _known_augmentations(raw: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    for kind, steps in raw.items():
        try:
            parse_augmentations(steps, kind, kind)
        except ConfigError as e:
            raise ValueError(str(e)) from None
    return raw


Augmentations = Annotated[
    dict[str, list[dict[str, Any]]],
    AfterValidator(_known_augmentations),
    Field(description="kind of modality -> augmentations in the order they are applied; [] = none."),
]


class CommCompat(Objective):
    """Switches that bring back what the released code does where it departs from the protocol."""

    probe_refit: bool = Field(
        default=False,
        description="Once a probe's strength is chosen on validation, fit it again on train and validation. Its "
        "validation score is then one of cases it has seen.",
    )
    probe_crops: bool = Field(
        default=False,
        description="What a probe is given is made of a random crop of every image, half of it to all, of test too.",
    )


class CommObjective(Objective):
    """CoMM: fused embeddings of two augmented tuples, contrasted with each other and with each modality's own."""

    classifier: ClassVar[bool] = False
    form: Literal["released", "paper"] = Field(
        default="released",
        description="released: NT-Xent, unimodal embeddings of augmented inputs, mean over terms. paper: eq. 7, "
        "InfoNCE in one direction, unimodal embeddings of inputs as they are, sum over terms.",
    )
    tau: float = Field(default=0.1, gt=0, description="Temperature.")
    unimodal_weight: float = Field(default=1.0, ge=0, description="Weight of every modality's own term; 0 = off.")
    fused_weight: float = Field(default=1.0, ge=0, description="Weight of the fused term; 0 = off.")
    tau_supervised: float = Field(default=0.07, gt=0, description="Temperature of SupCon, the loss of `finetune`.")
    augmentations: Augmentations
    compat: CommCompat = Field(default=CommCompat(), description="Habits of the released code, off by default.")

    @model_validator(mode="after")
    def _some_term(self) -> Self:
        if self.unimodal_weight == self.fused_weight == 0:
            raise ValueError("unimodal_weight and fused_weight are both 0, which leaves nothing to minimise")
        return self


class PairwiseObjective(Objective):
    """Contrast of pairs: one modality with another (cross), two augmented views of the same modality (self)."""

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
    augmentations: Augmentations = {}

    @model_validator(mode="after")
    def _some_term(self) -> Self:
        if self.cross_weight == self.self_weight == 0:
            raise ValueError("cross_weight and self_weight are both 0, which leaves nothing to minimise")
        return self


class JointFusionObjective(Objective):
    """Cross-entropy on CoMM's fused embedding."""


class SupConObjective(Objective):
    """Supervised contrast between the modalities' embeddings."""

    classifier: ClassVar[bool] = False
    tau: float = Field(default=0.07, gt=0, description="Temperature.")


class FactorCLObjective(Objective):
    """FactorCL: bounds on shared and unique information between two modalities, over all pairs of them."""

    classifier: ClassVar[bool] = False
    critic_hidden: int = Field(default=512, gt=0, description="Hidden width of the critics.")
    embedding: Literal["encoders", "heads"] = Field(
        default="heads", description="What is scored: the encoders' outputs, or all heads', ten a pair (released code)."
    )
    augmentations: Augmentations


class TupleInfoNCEObjective(Objective):
    """TupleInfoNCE: tuples against other tuples, and against tuples with one modality of another row."""

    alpha: float | dict[str, float] = Field(
        default=1.0, description="Amount of negatives disturbed in each modality: one number, or modality -> number."
    )
    naive: bool = Field(default=False, description="Naive tuple contrast, the baseline: needs an alpha of 0.")
    form: Literal["ratio", "simplex", "weight"] = Field(
        default="ratio",
        description="What alpha counts. ratio: disturbed negatives for each naive one; simplex: share of all "
        "negatives, the rest being naive; weight: of every disturbed tuple in the denominator.",
    )
    rows: Literal["all", "own", "others", "every_own"] = Field(
        default="all",
        description="Disturbed tuples an anchor meets: of all rows, of its own row, of the other rows; every_own: its "
        "own row with the modality of each other row in turn, of a linear fusion.",
    )
    copies: int = Field(default=1, ge=1, description="Disturbed tuples of each row and modality, in every step.")
    tau: float = Field(default=0.07, gt=0, description="Temperature.")
    detach_keys: bool = Field(default=True, description="No gradient through positives and disturbed tuples.")
    queue: int = Field(
        default=0, ge=0, description="Keys of earlier batches, of each kind, that are negatives too; 0 = none."
    )
    key_decay: float = Field(
        default=0.99, ge=0, lt=1, description="Of the momentum copy that makes keys where there is a queue, a step."
    )
    dropping: float = Field(
        default=0.0, ge=0, lt=1, description="Share of steps that contrast one modality alone with all the others."
    )
    search: Search | None = Field(
        default=None, description="Find alpha first, on held-out training tuples, starting from the one given."
    )
    augmentations: Augmentations
    fusion: Literal["late", "early"] = Field(
        default="late",
        description="late: an encoder a modality, and an MLP on the concatenated encodings. early: ONE encoder of all "
        "modalities side by side (vectors, or images of one size), and an MLP on its encoding; every kind of disturbed "
        "tuple is then a further pass of the whole network.",
    )
    fusion_hidden: list[Annotated[int, Field(gt=0)]] = Field(
        description="Hidden widths of the MLP on the encodings; [] = one linear layer."
    )
    fusion_width: int | None = Field(
        default=None, gt=0, description="Width of the fused embedding; null = model.fusion.width."
    )

    @field_validator("alpha")
    @classmethod
    def _at_least_zero(cls, alpha: float | dict[str, float]) -> float | dict[str, float]:
        for name, value in alpha.items() if isinstance(alpha, dict) else [("", alpha)]:
            if not 0 <= value < math.inf:
                of = f" of '{name}'" if name else ""
                raise ValueError(f"the amount{of} is {value:g}, and must be finite and at least 0")
        return alpha

    @model_validator(mode="after")
    def _naive_only_by_name(self) -> Self:
        none = not any(self.alpha.values() if isinstance(self.alpha, dict) else [self.alpha])
        if none and not self.naive:
            raise ValueError(
                "alpha is 0 for every modality, which is naive tuple contrast; say `naive: true` to mean it"
            )
        if self.naive and not none:
            raise ValueError(f"naive: true has no disturbed negatives, and alpha is {self.alpha}; set alpha to 0")
        return self

    @model_validator(mode="after")
    def _rows_that_can_be_had(self) -> Self:
        if self.rows == "every_own":
            if self.fusion == "early":
                raise ValueError("rows: every_own comes from products of a linear late fusion; set fusion to late")
            if self.fusion_hidden:
                raise ValueError("rows: every_own comes from products of a linear fusion; set fusion_hidden to []")
            if self.copies > 1 or self.queue:
                raise ValueError("rows: every_own draws no rows; set copies to 1 and queue to 0")
        if self.queue and not self.detach_keys:
            raise ValueError("queue: its keys have no gradient; set detach_keys to true")
        return self

    @model_validator(mode="after")
    def _searched_freely(self) -> Self:
        if self.search is None:
            return self
        if self.form == "simplex":
            raise ValueError(
                "search: every amount is searched on its own, which shares of one whole (form: simplex) "
                "are not; use form: ratio"
            )
        if self.naive:
            raise ValueError("search: naive: true has no alpha to find; remove one of the two")
        if self.search.beta and not any(step["name"] == "noise" for s in self.augmentations.values() for step in s):
            raise ValueError("search.beta: scales noise, and there is none among the augmentations; remove one of them")
        for value in self.alpha.values() if isinstance(self.alpha, dict) else [self.alpha]:
            if not self.search.low <= value <= self.search.high:
                raise ValueError(
                    f"search: starts from an alpha of {value:g}, outside low ({self.search.low:g}) to high "
                    f"({self.search.high:g})"
                )
        return self


class TemperatureSpec(Objective):
    """A temperature: fixed, or learned from a start."""

    start: float = Field(default=0.1, gt=0, description="Its value, or the first value of a learned one.")
    learned: bool = False
    smallest: float = Field(default=0.01, gt=0, description="Where a learned one is clamped (CLIP: scale <= 100).")


class Views(Objective):
    """How the images of an instance become rows."""

    mode: Literal["single", "group", "fused"] = Field(
        default="single",
        description="single: each a row. fused: all one row, by the largest value over them (MVCNN). group: "
        "`groups` such rows.",
    )
    groups: int = Field(default=2, ge=1, description="Rows an instance gives in mode group.")

    @property
    def pooled_groups(self) -> int:
        """0 = nothing is pooled, 1 = all views as one row, g = g rows."""
        return {"single": 0, "fused": 1, "group": self.groups}[self.mode]


class MXMCLRObjective(Objective):
    """MXM-CLR as reconstructed here: (1 - w) hard + w soft, or hard + w soft. The paper's own values are not known."""

    tau: TemperatureSpec = TemperatureSpec()
    tau_soft: float = Field(default=0.2, gt=0, description="Temperature of the soft targets.")
    hard: Literal["mean", "logsum"] = Field(
        default="mean", description="mean: cross-entropy to all positives alike; logsum: one may carry the anchor."
    )
    relation: Literal["block", "intra", "pair"] = Field(
        default="block", description="What soft targets are made of; see contrast.relations."
    )
    soft_weight: float = Field(default=0.5, ge=0, description="w; 0 = hard alone. convex: at most 1.")
    combine: Literal["convex", "additive"] = "convex"
    warmup: int = Field(default=1, ge=0, description="Epochs over which w rises from 0; 0 = none.")
    teacher: Literal["self", "ema"] = Field(
        default="self", description="Whose embeddings make the soft targets: these, or a momentum copy's."
    )
    teacher_decay: float = Field(default=0.999, ge=0, lt=1, description="Of the momentum copy, a step.")
    reduce: Literal["row", "instance"] = Field(
        default="row", description="Mean over rows, or over instances of the mean over their rows."
    )
    chunk: int | None = Field(default=None, ge=1, description="Rows worked on at once; null = all.")
    views: Views = Views()

    @model_validator(mode="after")
    def _convex_weight(self) -> Self:
        if self.combine == "convex" and self.soft_weight > 1:
            raise ValueError(f"soft_weight: {self.soft_weight:g} is above 1, the most for combine: convex")
        return self

    @model_validator(mode="after")
    def _targets_that_are_not_the_predictions(self) -> Self:
        copied = self.relation == "pair" and self.teacher == "self" and not self.tau.learned and self.soft_weight > 0
        if copied and self.tau_soft == self.tau.start:
            raise ValueError(
                f"tau_soft: {self.tau_soft:g} is tau too, and with relation: pair the soft targets are then the "
                "predictions themselves, which have no gradient; give another tau_soft, or a momentum teacher"
            )
        return self


class InstanceContrastObjective(Objective):
    """A loss over rows and the instances they are of."""

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


OBJECTIVES: dict[str, type[Objective]] = {
    "unimodal": UnimodalObjective,
    "concat": ConcatObjective,
    "mixup": MixupObjective,
    "m3col": M3CoLObjective,
    "comm": CommObjective,
    "pairwise": PairwiseObjective,
    "joint_fusion": JointFusionObjective,
    "supcon": SupConObjective,
    "factorcl": FactorCLObjective,
    "tuple_infonce": TupleInfoNCEObjective,
    "mxm_clr": MXMCLRObjective,
    "instance_contrast": InstanceContrastObjective,
}

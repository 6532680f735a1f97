"""Hyper-parameters of the baselines: `method` names the file beside this one, or <file>.<method> of several in it."""

from operator import attrgetter
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mmcontrast.config.augmentations import Augmentations
from mmcontrast.config.base import Strict
from mmcontrast.config.objective import Objective, ProjectedObjective, TemperatureSpec, Views


class RawObjective(Objective):
    """Raw inputs, which nothing is learned from."""

    method: ClassVar[str] = "untrained.raw"
    classifier: ClassVar[bool] = False
    encoders: ClassVar[bool] = False
    steps: int = Field(default=64, gt=1, description="Steps that a sequence is resampled to.")


class OracleObjective(Objective):
    """A code of known factors, which nothing is learned from."""

    method: ClassVar[str] = "untrained.oracle"
    classifier: ClassVar[bool] = False
    factors: list[str] = Field(min_length=1, description="Tasks of classes whose labels it holds; main = the label.")
    products: list[list[str]] = Field(
        default=[], description="Sets of these whose combinations have a unit each, as one attribute would."
    )


class UnimodalObjective(Objective):
    """Cross-entropy on one modality alone."""

    method: ClassVar[str] = "supervised.unimodal"
    modality: str | None = Field(
        default=None, description="Modality the classifier sees; null = all, each with its own head, averaged."
    )


class ConcatObjective(Objective):
    """Cross-entropy on the concatenated embeddings, with or without unimodal heads and an InfoNCE term."""

    method: ClassVar[str] = "supervised.concat"
    unimodal_heads: bool = Field(default=False, description="Add the sum of the unimodal cross-entropies.")
    beta: float = Field(default=0.0, ge=0, description="Weight of the CLIP-type InfoNCE term; 0 = off.")
    tau: float = Field(default=0.1, gt=0, description="Temperature of the InfoNCE term.")
    pairing: Literal["ring", "all"] = Field(default="ring", description="Pairs of modalities that are contrasted.")


class MixupObjective(Objective):
    """Input mixup with mixed labels: one coefficient and one permutation per batch, shared by the modalities."""

    method: ClassVar[str] = "supervised.mixup"
    alpha: float = Field(default=0.2, gt=0, description="Both parameters of the Beta distribution.")
    unimodal_heads: bool = Field(default=True, description="Add the sum of the unimodal cross-entropies.")


class PairwiseObjective(ProjectedObjective):
    """Contrast of pairs: one modality with another (cross), two augmented views of the same modality (self)."""

    method: ClassVar[str] = "pairwise.pairwise"
    cross_weight: float = Field(ge=0, description="Weight of the mean over pairs of modalities; 0 = off.")
    self_weight: float = Field(ge=0, description="Weight of the mean over modalities of SimCLR's loss; 0 = off.")
    cross_loss: Literal["info_nce", "nt_xent"] = Field(
        default="info_nce", description="info_nce: CLIP's, negatives from the other modality alone; nt_xent: from both."
    )
    tau: float = Field(default=0.1, gt=0, description="Temperature of both terms.")
    pairs: Literal["all", "star"] = Field(
        default="all", description="Pairs of modalities in the cross term; star: the anchor with each other one."
    )
    anchor: str | None = Field(default=None, description="Modality in all pairs of a star; null = the first.")
    augmentations: Augmentations = Field(default={})
    cross_augmented: bool = Field(
        default=False, description="The cross term, too, sees augmented inputs, as CLIP crops its pictures."
    )

    @model_validator(mode="after")
    def _some_term(self) -> Self:
        if self.cross_weight == self.self_weight == 0:
            raise ValueError("cross_weight and self_weight are both 0, which leaves nothing to minimise")
        if self.anchor is not None and self.pairs != "star":
            raise ValueError(f"anchor: of pairs: star alone, and pairs is {self.pairs}")
        return self


class JointFusionObjective(Objective):
    """Cross-entropy on CoMM's fused embedding."""

    method: ClassVar[str] = "joint_fusion"


class SupConObjective(Objective):
    """Supervised contrast between the modalities' embeddings."""

    method: ClassVar[str] = "supervised.supcon"
    classifier: ClassVar[bool] = False
    tau: float = Field(default=0.07, gt=0, description="Temperature.")


class FactorCLObjective(Objective):
    """FactorCL: bounds on shared and unique information between two modalities, over all pairs of them."""

    method: ClassVar[str] = "disentangled.factorcl"
    classifier: ClassVar[bool] = False
    critic_hidden: int = Field(default=512, gt=0, description="Hidden width of the critics.")
    embedding: Literal["encoders", "heads"] = Field(
        default="heads",
        description="What is scored: the encoders' outputs, or all heads', ten per pair (released code).",
    )
    augmentations: Augmentations


class LossChoice(Objective):
    """Base of those that name one of several losses. `of`: value -> the losses that it is a value of."""

    of: ClassVar[dict[str, tuple[str, ...]]] = {}
    loss: str

    @model_validator(mode="after")
    def _only_where_it_counts(self) -> Self:
        defaults = type(self).model_construct(loss=self.loss)
        for key, losses in self.of.items():
            if self.loss not in losses and attrgetter(key)(self) != attrgetter(key)(defaults):
                raise ValueError(f"{key}: of loss {' and '.join(losses)} alone, and the loss is {self.loss}")
        return self


class InstanceContrastObjective(LossChoice):
    """A loss over rows and the instances they are of."""

    method: ClassVar[str] = "pairwise.instance_contrast"
    of: ClassVar[dict[str, tuple[str, ...]]] = {
        "double_count": ("mil_nce",),
        "directions": ("tricolo",),
        **dict.fromkeys(("cyclic_within", "cyclic_across", "hopfield"), ("clip",)),
    }
    loss: Literal["clip", "supcon", "mil_nce", "tricolo", "siglip"]
    tau: TemperatureSpec = TemperatureSpec()
    double_count: bool = Field(
        default=False, description="mil_nce: positives twice in the denominator, as in the released code."
    )
    directions: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={}, description="tricolo: 'text->image' -> weight; {} = every direction 0.5."
    )
    cyclic_within: float = Field(default=0.0, ge=0, description="clip: weight of CyCLIP's term within modalities.")
    cyclic_across: float = Field(default=0.0, ge=0, description="clip: weight of CyCLIP's term between modalities.")
    hopfield: float | None = Field(
        default=None, gt=0, description="clip: beta of CLOOB's retrieval, with its InfoLOOB; null = InfoNCE."
    )
    views: Views = Views()


class TupleCompat(Strict):
    """What released code does where it departs from the formula."""

    plain_permutations: bool = Field(default=False, description="symile: a drawn tuple may be a row's own.")
    without_root: bool = Field(default=False, description="triangle: twice the squared area instead of the area.")


class TupleContrastObjective(LossChoice, ProjectedObjective):
    """Contrast of whole tuples: Symile, GRAM, TRIANGLE."""

    method: ClassVar[str] = "tuples.tuple_contrast"
    of: ClassVar[dict[str, tuple[str, ...]]] = {
        **dict.fromkeys(("negatives", "compat.plain_permutations"), ("symile",)),
        **dict.fromkeys(("anchor", "smoothing", "eps"), ("gram", "triangle")),
        "compat.without_root": ("triangle",),
    }
    loss: Literal["symile", "gram", "triangle"]
    tau: TemperatureSpec = TemperatureSpec(start=0.07, learned=True)
    negatives: Literal["drawn", "all"] = Field(
        default="drawn", description="symile: tuples that a row is told from: one per row, or every combination."
    )
    anchor: str | None = Field(
        default=None, description="gram, triangle: modality that is exchanged between rows; null = each in turn."
    )
    smoothing: float = Field(default=0.1, ge=0, lt=1, description="gram, triangle: label smoothing.")
    eps: float = Field(default=1e-8, ge=0, description="gram, triangle: added under the root.")
    compat: TupleCompat = Field(default=TupleCompat(), description="Defects of released code, off by default.")


class GMCObjective(Objective):
    """GMC: each modality's embedding pulled to the one of all modalities together."""

    method: ClassVar[str] = "gmc"
    tau: float = Field(default=0.1, gt=0, description="Temperature.")


class ConFuObjective(Objective):
    """ConFu: pairs of modalities, and fused subsets with each modality outside them."""

    method: ClassVar[str] = "tuples.confu"
    classifier: ClassVar[bool] = False
    tau: float = Field(default=0.07, gt=0, description="Temperature.")
    fused_weight: float = Field(default=0.5, ge=0, le=1, description="Lambda, of the fused terms; pairs have the rest.")
    hidden: int = Field(default=512, gt=0, description="Hidden width of what fuses a subset.")


class DecurCompat(Strict):
    """What DeCUR's released code does where it departs from its description."""

    one_projector: bool = Field(default=False, description="All modalities share a projector and its statistics.")


class DecurObjective(ProjectedObjective):
    """DeCUR: decorrelated dimensions, of which some are common to modalities and the others are not."""

    method: ClassVar[str] = "disentangled.decur"
    common: float = Field(default=0.75, gt=0, lt=1, description="Share of the heads' dimensions that is common.")
    off_diagonal: float = Field(default=0.0051, ge=0, description="Weight of correlations of different dimensions.")
    augmentations: Augmentations
    compat: DecurCompat = Field(default=DecurCompat(), description="Defects of the released code, off by default.")


class DisentangledObjective(Objective):
    """DisentangledSSL: what modalities share, learned first; then what each has beside it."""

    method: ClassVar[str] = "disentangled.disentangled_ssl"
    classifier: ClassVar[bool] = False
    tau: float = Field(default=0.07, gt=0, description="Temperature of both steps.")
    beta: float = Field(default=0.5, ge=0, description="Weight of the cosine of the shared embeddings, in step 1.")
    ortho_weight: float = Field(default=0.1, ge=0, description="Lambda, weight of the orthogonality, in step 2.")
    first_step: float = Field(default=0.625, gt=0, lt=1, description="Share of the epochs that step 1 has.")
    augmentations: Augmentations

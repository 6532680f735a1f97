"""Hyper-parameters of CoMM."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from mmcontrast.config.augmentations import Augmentations
from mmcontrast.config.base import Strict
from mmcontrast.config.objective import Objective


class CommCompat(Strict):
    """Switches that bring back what the released code does where it departs from the protocol."""

    probe_refit: bool = Field(
        default=False,
        description="Once a probe's strength is chosen on validation, fit it again on train and validation. Its "
        "validation score is then one of cases it has seen.",
    )
    probe_unweighted: bool = Field(
        default=False, description="The probe of a task of `class_weighted` weighs its classes as they occur."
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


OBJECTIVE = CommObjective

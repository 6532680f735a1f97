"""Hyper-parameters of DisentangledSSL."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mmcontrast.config.augmentations import Augmentations
from mmcontrast.config.objective import Objective


class DisentangledObjective(Objective):
    """What modalities share, learned first; then, beside it and apart from it, what each has alone."""

    classifier: ClassVar[bool] = False
    tau: float = Field(default=0.07, gt=0, description="Temperature of both steps.")
    beta: float = Field(default=0.5, ge=0, description="Weight of the cosine of the shared embeddings, in step 1.")
    ortho_weight: float = Field(default=0.1, ge=0, description="Lambda, weight of the orthogonality, in step 2.")
    first_step: float = Field(default=0.625, gt=0, lt=1, description="Share of the epochs that step 1 has.")
    augmentations: Augmentations


OBJECTIVE = DisentangledObjective

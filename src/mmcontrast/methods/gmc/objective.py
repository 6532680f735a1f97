"""Hyper-parameters of GMC."""

from __future__ import annotations

from pydantic import Field

from mmcontrast.config.objective import Objective


class GMCObjective(Objective):
    """Each modality's embedding pulled to the one of all modalities together."""

    tau: float = Field(default=0.1, gt=0, description="Temperature.")
    joints_as_negatives: bool = Field(
        default=False, description="Negatives are the joint embeddings of other rows alone, in one direction."
    )


OBJECTIVE = GMCObjective

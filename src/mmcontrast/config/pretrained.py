"""Models of encoders that were trained elsewhere: where their files are, and what is trained of them here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mmcontrast.config.base import Strict


class Lora(Strict):
    """Low-rank updates of some layers (Hu et al., ICLR 2022); needs the optional extra `lora`."""

    r: int = Field(gt=0, description="Rank of an update.")
    alpha: int = Field(gt=0, description="An update is scaled by alpha / r.")
    dropout: float = Field(ge=0, lt=1, description="Of what goes into an update.")
    target_modules: list[str] = Field(min_length=1, description="Ends of the names of the layers that get one.")


class Pretrained(Strict):
    """A pretrained encoder of texts, pictures or audio; needs the optional extra `encoders`."""

    has_weights: ClassVar[bool] = True

    folder: str | None = Field(
        default=None, min_length=1, description="Folder with its files as transformers saves them, from the checkout."
    )
    hub: str | None = Field(
        default=None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="owner/name on the hub, downloaded by `mmcontrast data encoders`; a job never downloads.",
    )
    revision: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{40}$", description="Commit of `hub`, so that the weights cannot change."
    )
    tuning: Literal["full", "frozen", "lora"] = Field(
        default="full", description="frozen = train only a linear layer on top; lora = low-rank updates and that layer."
    )
    pooling: Literal["cls", "mean", "pooler"] | None = Field(
        default=None,
        description="What stands for all tokens: the first, their mean, or the model's own pooled output; null = of a "
        "CLIP its pooled output and projection, of others the mean.",
    )
    tokens: Annotated[int, Field(gt=1)] | None = Field(
        default=None, description="Most tokens of a text; a longer one is cut. null = as many as the model takes."
    )
    attention: Literal["sdpa", "eager"] = Field(
        default="sdpa", description="Which of its two forms of attention, which differ by rounding."
    )
    lr: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Its own learning rate under the stage's schedule; null = that of the stage."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations again in the backward pass: less memory, the same result."
    )
    lora: Lora | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.folder is None) == (self.hub is None):
            raise ValueError("give `folder`, or `hub` with its `revision`; one of the two")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("`revision` goes with `hub`: the 40 digits of a commit")
        if (self.lora is None) == (self.tuning == "lora"):
            raise ValueError("`lora` goes with `tuning: lora`: r, alpha, dropout and target_modules")
        if self.tuning == "frozen" and (self.lr is not None or self.gradient_checkpointing):
            raise ValueError("lr, gradient_checkpointing: nothing of a frozen encoder is trained; remove them")
        return self


class Exported(Pretrained):
    """One whose weights are among those of the model that it is part of; `folder` has all its other files."""

    has_weights: ClassVar[bool] = False

"""Models of `params/methods/`: a method, and what differs by dataset and by variant."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from mmcontrast.config.base import Strict

BASE_VARIANT = "base"
UNTRAINED = "untrained"


def untrained_twin(variant: str) -> str:
    """Name of a variant's untrained twin, see `Method.variant`."""
    return UNTRAINED if variant == BASE_VARIANT else f"{variant}_{UNTRAINED}"


class Overrides(Strict):
    """Values laid over others, section by section. `pretrain: null` takes a stage away."""

    objective: dict[str, Any] = Field(default={})
    model: dict[str, Any] = Field(default={})
    pretrain: dict[str, Any] | None = None
    finetune: dict[str, Any] | None = None
    selection: dict[str, Any] = Field(default={})

    def given(self) -> dict[str, Any]:
        """Only what the file says, explicit nulls included; not which recipe a variant has."""
        return self.model_dump(exclude_unset=True, exclude={"recipe"})


class Variant(Overrides):
    """A method with some values changed; with `recipe`, on encoders and training that it shares with other methods."""

    recipe: str | None = Field(
        default=None,
        description="File in params/recipes/ whose model, training and selection replace the method's own. Only the "
        "objective may differ then; `pretrain: {epochs: 0}` leaves the weights as they are initialised, and "
        "`pretrain: {batch_size: N}` (or `finetune`) is for an ablation of the batch size.",
    )

    @model_validator(mode="after")
    def _recipe_is_whole(self) -> Self:
        own = self.model_dump(exclude_unset=True, exclude={"recipe", "objective"})
        batch = own.keys() <= {"pretrain", "finetune"} and all(set(v or {}) == {"batch_size"} for v in own.values())
        if self.recipe is not None and not batch and own != {"pretrain": {"epochs": 0}}:
            raise ValueError(
                f"a variant with a recipe takes all of it, and this one gives {', '.join(own)} of its own; give "
                "`objective` alone, `pretrain: {epochs: 0}`, or a batch size (`pretrain: {batch_size: N}`)"
            )
        return self


class Method(Overrides):
    """A method's file: defaults, then what differs by dataset, then its variants."""

    title: str
    paper: str | None = Field(default=None, description="Key of the paper in params/papers/.")
    implementation: str = Field(description="Module in mmcontrast.methods.")
    recipe_from: str | None = Field(
        default=None,
        description="Method whose model, pretrain, finetune and selection are taken over: same encoders, same recipe.",
    )
    datasets: dict[str, Overrides] = Field(default={}, description="Overrides by dataset.")
    variants: dict[str, Variant] = Field(
        default={},
        description="Overrides by variant; every method also has the variant `base`, without any, and a method without "
        "labels an untrained twin of each: `shared_untrained` of `shared`, and `untrained` of `base`.",
    )

    def variant(self, name: str) -> Variant | None:
        """A variant by name, declared or not; an untrained twin has the other's weights as they are initialised."""
        if name in (BASE_VARIANT, *self.variants):
            return self.variants.get(name, Variant())
        stem, _, last = name.rpartition("_")
        twin = self.variant(stem or BASE_VARIANT) if last == UNTRAINED else None
        if twin is None or twin.finetune is not None or self.finetune is not None:
            return None
        return Variant.model_validate(twin.model_dump(exclude_unset=True) | {"pretrain": {"epochs": 0}})

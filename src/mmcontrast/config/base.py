"""What all models of the files in `params/` share."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Strict(BaseModel):
    """Immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Grown(Strict):
    """A model that has gained keys: those of `LATER` are written only where they are set.

    So values written before there were these keys stay as they were, and what is known by them stays known.
    """

    LATER: ClassVar[tuple[str, ...]]

    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        usual = {key: type(self).model_fields[key].default for key in self.LATER}
        return {k: v for k, v in dump(self).items() if k not in usual or getattr(self, k) != usual[k]}

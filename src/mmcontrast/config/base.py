"""What all models of the files in `params/` share, and what is wrong with a file in words."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from mmcontrast.errors import ConfigError, MMContrastError, nearest

M = TypeVar("M", bound=BaseModel)
# the cell that stands behind a file in a message
CELL = re.compile(r" \([a-z0-9_]+/[a-z0-9_]+/[a-z0-9_]+\)")


class Strict(BaseModel):
    """Immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def _wrong(self) -> Iterator[str]:
        """What is wrong with values that do not fit together, a message each; the first is told."""
        yield from ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (fault := next(self._wrong(), None)) is not None:
            raise ValueError(fault)
        return self


class Grown(Strict):
    """A model that has gained keys: `LATER` are written only where set, so that older values stay as they were."""

    LATER: ClassVar[tuple[str, ...]]

    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        usual = {key: type(self).model_fields[key].default for key in self.LATER}
        return {k: v for k, v in dump(self).items() if k not in usual or getattr(self, k) != usual[k]}


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in loc[:-1]:
        field = getattr(current, "model_fields", {}).get(str(part))
        if field is not None:
            candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
            current = next((c for c in candidates if hasattr(c, "model_fields")), None)
    return list(getattr(current, "model_fields", ()))


class Faults:
    """What is wrong in several places, so that all of it is told at once."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    @contextmanager
    def kept(self, needed_by: str = "") -> Iterator[None]:
        """Keep a ConfigError of the block for later; of those that many cells have alike the first."""
        try:
            yield
        except ConfigError as e:
            for line in str(e).splitlines():
                self._told.setdefault(CELL.sub("", line), line + (f"\n(needed by {needed_by})" if needed_by else ""))

    def tell(self) -> None:
        """Raise ConfigError with all that was kept, if anything was."""
        if self._told:
            raise ConfigError("\n".join(self._told.values()))


def validate(
    model: type[M], data: Any, where: str, prefix: str = "", origin: Callable[[list[str]], str] | None = None
) -> M:
    """`data` as a `model`. Raises ConfigError with a line `where: key: what is wrong` per fault. `origin`: of data that
    several files make: keys down to a value -> `file: key` where it was written.
    """
    try:
        return model.model_validate(data)
    except ValidationError as e:
        lines = []
        for fault in e.errors():
            loc = fault["loc"]
            keys = [prefix, *map(str, loc)] if prefix else list(map(str, loc))
            at = f"{where}: {'.'.join(keys) or '(whole file)'}" if origin is None else origin(keys)
            if fault["type"] == "extra_forbidden":
                lines.append(f"{at}: unknown key; {nearest(str(loc[-1]), _known_keys(model, loc))}")
            elif fault["type"] == "missing":
                lines.append(f"{at}: required and not given")
            else:
                got = "" if isinstance(fault["input"], dict) else f" (given: {fault['input']!r})"
                lines.append(f"{at}: {fault['msg'].removeprefix('Value error, ')}{got}")
        raise ConfigError("\n".join(lines)) from None
    except (LookupError, TypeError, AttributeError, ArithmeticError) as e:
        # a check across keys met what it takes for granted; pydantic turns only ValueError into a fault
        raise ConfigError(
            f"{where}: {prefix or '(whole file)'}: its keys do not fit together ({type(e).__name__}: {e}); accepted is "
            f"what {model.__name__} in mmcontrast.config describes"
        ) from e


def known(
    where: str | Path,
    what: str,
    given: str | Iterable[str] | None,
    names: Collection[str],
    error: type[MMContrastError] = ConfigError,
) -> None:
    """Raise the error, with the nearest name there is, for a name in `given` (one, several, None) that nothing has."""
    for name in [given] if isinstance(given, str) else given or ():
        if name not in names:
            raise error(f"{where}: no {what} '{name}'; {nearest(name, names)}")

"""Plain objects as models, and what is wrong with them in words: file, key, and the nearest accepted one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mmcontrast.errors import ConfigError, nearest

M = TypeVar("M", bound=BaseModel)

OLD_NAMES = {"profile": "suite", "budget": "recipe", "budget_from": "recipe_from"}


def unknown(key: str, known: Sequence[str]) -> str:
    """What to write in place of a key that is not accepted."""
    if OLD_NAMES.get(key) in known:
        return f"`{key}` is now `{OLD_NAMES[key]}`"
    return nearest(key, known)


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Keys accepted in the mapping that holds the last element of loc."""
    current: Any = model
    for part in loc[:-1]:
        field = getattr(current, "model_fields", {}).get(str(part))
        if field is not None:
            candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
            current = next((c for c in candidates if hasattr(c, "model_fields")), None)
    return list(getattr(current, "model_fields", ()))


def validate(model: type[M], data: Any, where: str, prefix: str = "") -> M:
    """`data` as a `model`. Raises ConfigError with a line `where: key: what is wrong` for every fault."""
    try:
        return model.model_validate(data)
    except ValidationError as e:
        lines = []
        for fault in e.errors():
            loc = fault["loc"]
            key = ".".join([prefix, *map(str, loc)] if prefix else map(str, loc)) or "(whole file)"
            if fault["type"] == "extra_forbidden":
                lines.append(f"{where}: {key}: unknown key; {unknown(str(loc[-1]), _known_keys(model, loc))}")
            elif fault["type"] == "missing":
                lines.append(f"{where}: {key}: required and not given")
            else:
                got = "" if isinstance(fault["input"], dict) else f" (given: {fault['input']!r})"
                lines.append(f"{where}: {key}: {fault['msg'].removeprefix('Value error, ')}{got}")
        raise ConfigError("\n".join(lines)) from None
    except (LookupError, TypeError, AttributeError, ArithmeticError) as e:
        # a check across keys met what it takes for granted; pydantic turns only ValueError into a fault
        raise ConfigError(
            f"{where}: {prefix or '(whole file)'}: its keys do not fit together ({type(e).__name__}: {e}); accepted is "
            f"what {model.__name__} in mmcontrast.config describes"
        ) from e

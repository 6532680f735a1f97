"""Augmentations as params/ names them: one model an augmentation, by kind of modality. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from mmcontrast.config.base import Strict, validate
from mmcontrast.errors import ConfigError, nearest

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class Augmentation(Strict):
    """Base of all augmentations."""

    p: float = Field(default=1.0, ge=0, le=1, description="Probability with which an instance is changed.")


def rising(ends: tuple[float, float]) -> tuple[float, float]:
    """A range as it is. Raises ValueError where its ends fall."""
    if ends[0] > ends[1]:
        raise ValueError("a range must rise")
    return ends


class Crop(Augmentation):
    """A random part of the image, scaled back to its size."""

    scale: tuple[Share, Share] = Field(default=(0.5, 1.0), description="Range of the area, share of the image.")
    ratio: tuple[Positive, Positive] = Field(default=(3 / 4, 4 / 3), description="Range of width / height.")

    _rises = field_validator("scale", "ratio")(rising)


Fill = Annotated[
    float | None,
    Field(ge=0, le=1, description="Brightness of what comes in from outside the image; null = its border goes on."),
]


class Shift(Augmentation):
    """Moved by up to `amount` of the side, each axis on its own."""

    amount: float = Field(default=0.1, gt=0, le=1)
    fill: Fill = None


class Rotation(Augmentation):
    """Turned about the centre by up to `degrees` either way."""

    degrees: float = Field(default=30.0, gt=0, le=180)
    fill: Fill = None


class Flip(Augmentation):
    """Mirrored left to right."""

    p: float = Field(default=0.5, ge=0, le=1)


class Brightness(Augmentation):
    """All values times a factor of 1 +- `amount`."""

    amount: float = Field(default=0.2, gt=0, le=1)


class Contrast(Augmentation):
    """Distance from the image's mean grey times a factor of 1 +- `amount`."""

    amount: float = Field(default=0.2, gt=0, le=1)


class Jitter(Augmentation):
    """Brightness, contrast, saturation and hue in a random order (SimCLR's colour jitter)."""

    brightness: float = Field(default=0.4, ge=0, le=1)
    contrast: float = Field(default=0.4, ge=0, le=1)
    saturation: float = Field(default=0.4, ge=0, le=1)
    hue: float = Field(default=0.1, ge=0, le=0.5, description="Turns of the colour circle, either way.")
    p: float = Field(default=0.8, ge=0, le=1)


class Greyscale(Augmentation):
    """Colour taken away."""

    p: float = Field(default=0.2, ge=0, le=1)


class Blur(Augmentation):
    """Gaussian blur of a random width, in pixels."""

    sigma: tuple[Positive, Positive] = (0.1, 2.0)
    p: float = Field(default=0.5, ge=0, le=1)


class Noise(Augmentation):
    """Gaussian noise added to every value."""

    std: float = Field(default=0.1, gt=0)


class Drop(Augmentation):
    """Features of a vector set to 0, each with a probability drawn from U(0, `share`) for the instance."""

    share: float = Field(default=0.8, gt=0, le=1)


class DropSteps(Augmentation):
    """round(f * L) of a sequence's L steps set to 0, f ~ U(0, `share`) for the instance."""

    share: float = Field(default=0.8, gt=0, le=1)


OF_IMAGES = (Crop, Shift, Rotation, Flip, Brightness, Contrast, Jitter, Greyscale, Blur, Noise)
AUGMENTATIONS: dict[str, dict[str, type[Augmentation]]] = {
    "image": {step.__name__.lower(): step for step in OF_IMAGES},
    "vector": {"noise": Noise, "drop": Drop},
    "sequence": {"noise": Noise, "drop_steps": DropSteps},
    "text": {},
}


def parse_augmentations(raw: Sequence[Mapping[str, Any]], kind: str, where: str) -> list[Augmentation]:
    """Augmentations of a kind of modality in the order given. Raises ConfigError, which begins with `where`."""
    if kind not in AUGMENTATIONS:
        raise ConfigError(f"{where}: a modality of kind '{kind}' has no augmentations; {nearest(kind, AUGMENTATIONS)}")
    known, out = AUGMENTATIONS[kind], []
    for i, entry in enumerate(raw):
        if not isinstance(entry, Mapping) or "name" not in entry:
            raise ConfigError(f"{where}[{i}]: give `name` and the augmentation's own keys, not {entry!r}")
        name = str(entry["name"])
        if not known:
            raise ConfigError(f"{where}[{i}]: there is no augmentation of a {kind}, and '{name}' is given; give []")
        if name not in known:
            raise ConfigError(f"{where}[{i}]: no augmentation '{name}' for {kind} modalities; {nearest(name, known)}")
        values = {k: v for k, v in entry.items() if k != "name"}
        out.append(validate(known[name], values, f"{where}[{i}] ({name})"))
    return out


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

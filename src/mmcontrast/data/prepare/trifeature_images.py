"""Trifeature images (Hermann & Lampinen 2020): a shape filled with a texture in a colour, on grey.

The formulas are those of the published construction: templates of 128 x 128, textures of period 10. Another shape size
averages the template, another period stretches the texture; at the published sizes nothing is changed.
i, j: row and column.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import ndimage

TEMPLATE = 128
PERIOD = 10
SHAPES = ("triangle", "square", "plus", "circle", "tee", "rhombus", "pentagon", "star", "fivesquare", "trapezoid")
TEXTURES = ("solid", "stripes", "grid", "hexgrid", "dots", "noise", "triangles", "zigzags", "rain", "pluses")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "pink": (1, 0.4, 1),
    "cyan": (0, 1, 1),
    "purple": (0.3, 0, 0.5),
    "ocean": (0.1, 0.4, 0.5),
    "orange": (1, 0.6, 0),
    "white": (1, 1, 1),
}
BACKGROUND = 0.5


def template(name: str) -> np.ndarray:
    """(128, 128) float32 of 0 and 1."""
    size, centre, third, two_thirds = TEMPLATE, 64, 42, 85
    i, j = np.mgrid[:size, :size]
    tip, arm, leg = (i - 51) // 3.1, (i - 51) * 2.4, 0.33 * size - 0.43 * (i - 70)
    head = (i < 51) & (abs(j - centre) < 1 + i // 4)
    arms = (i >= 51) & (i < 76) & (j > arm) & (j < size - arm)
    legs = [(of > leg) & (of < 0.62 * size - 1.05 * (i - 70)) for of in (j, size - j)]
    middle_i, middle_j = (i >= third) & (i < two_thirds), (j >= third) & (j < two_thirds)
    upright, across = (j > third) & (j <= two_thirds), j - centre + i // 2
    shapes = {
        "triangle": abs(j - centre) < 1 + i // 2,
        "square": np.ones((size, size), bool),
        "plus": upright | ((i > third) & (i <= two_thirds)),
        "circle": (i + 0.5 - centre) ** 2 + (j + 0.5 - centre) ** 2 < centre**2,
        "tee": upright | (i < third),
        "rhombus": (across > 0) & (across < centre),
        "pentagon": np.where(i < 51, abs(j - centre) < 1 + 1.25 * i, (j > tip) & (j < size - tip)),
        "star": head | arms | ((i >= 70) & (legs[0] | legs[1])),
        "fivesquare": middle_i == middle_j,
        "trapezoid": (j > i // 3.1) & (j < size - i // 3.1),
    }
    return shapes[name].astype(np.float32)


def texture(name: str, shift_x: int, shift_y: int, side: int, period: int, rng: np.random.Generator) -> np.ndarray:
    """(side, side) float32 of 0 and 1, moved by the shifts; noise and rain draw from `rng`."""
    if name == "noise":
        return (rng.random((side, side)) < 0.5).astype(np.float32)
    if name == "rain":
        length = max(1, round(7 * period / PERIOD))
        drops = rng.random((side, side)) < 0.05
        streaks = [np.pad(drops, ((k, 0), (0, 0)))[:side] for k in range(length)]
        return np.logical_or.reduce(streaks).astype(np.float32)
    i, j = np.mgrid[:side, :side]
    below, right = (i + shift_y) * PERIOD // period, (j + shift_x) * PERIOD // period
    y, x = below % PERIOD, right % PERIOD
    odd = (below // PERIOD) % 2 == 1
    slope, along = (1.73 * below).astype(int), np.where(odd, 9 - x, x)
    row, column = abs(y - 5) < 1.5, abs(x - 5) < 1.5
    patterns: dict[str, Callable[[], np.ndarray]] = {
        "solid": lambda: np.ones((side, side), bool),
        "stripes": lambda: y < 3,
        "grid": lambda: (y < 3) | (x < 3),
        "hexgrid": lambda: ((right + slope) % 10 < 2) | ((right - slope) % 10 < 2) | (y < 2),
        "dots": lambda: (y - 5) ** 2 + (x - 5) ** 2 < 16,
        "triangles": lambda: y // 2 - abs(x - 5) > 0,
        "zigzags": lambda: (along > y // 2) & (along < 5 + y // 2),
        "pluses": lambda: np.where(odd, (x < 1.5) | (10 - x < 1.5) | (row & ~column), row | column),
    }
    return patterns[name]().astype(np.float32)


@cache
def _sized_template(name: str, side: int) -> np.ndarray:
    """The template averaged to side x side; untouched at 128."""
    if side == TEMPLATE:
        return template(name)
    edges = np.linspace(0, TEMPLATE, side + 1)
    low, high = edges[:-1, None], edges[1:, None]
    cell = np.arange(TEMPLATE)[None, :]
    share = np.clip(np.minimum(high, cell + 1) - np.maximum(low, cell), 0, None)
    weights = (share / share.sum(axis=1, keepdims=True)).astype(np.float32)
    averaged: np.ndarray = weights @ template(name) @ weights.T
    return averaged


def render(
    shape: str, texture_name: str, colour: str, rng: np.random.Generator, size: int, side: int, period: int, gap: float
) -> np.ndarray:
    """One image, (3, size, size) uint8.

    Drawn in this order: angle of the shape in [-45, 45) whole degrees, its place, two shifts of the texture, what the
    texture itself draws, angle of the texture. A rotated shape that is larger than the image loses its rim. `side`: of
    the template before rotation. `period`: of the texture, in pixels. `gap`: brightness between its strokes: 0.5
    (published) is the background's, so that gaps and background are one; 0 keeps the silhouette whole.
    """
    turned = ndimage.rotate(_sized_template(shape, side), int(rng.integers(-45, 45)), order=1, reshape=True)
    height, width = turned.shape
    top, left = int(rng.integers(0, max(1, size - height))), int(rng.integers(0, max(1, size - width)))
    shape_HW = _placed(turned, top, left, size)
    shift_x, shift_y = (int(v) for v in rng.integers(0, period, size=2))
    pattern = texture(texture_name, shift_x, shift_y, 2 * size, period, rng)
    pattern = ndimage.rotate(pattern, int(rng.integers(-45, 45)), order=0, reshape=False)
    start = size // 2
    texture_HW = pattern[start : start + size, start : start + size]
    colour_3 = np.array(COLOURS[colour], np.float32)[:, None, None]
    if gap == BACKGROUND:
        mask_HW = shape_HW * texture_HW
        image = mask_HW * colour_3 + (1 - mask_HW) * BACKGROUND
    else:
        inside = texture_HW * colour_3 + (1 - texture_HW) * gap
        image = shape_HW * inside + (1 - shape_HW) * BACKGROUND
    out: np.ndarray = (255 * np.clip(image, 0, 1)).astype(np.uint8)
    return out


def _placed(turned: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """The rotated template on an empty frame, cut around its middle where it is larger."""
    height, width = turned.shape
    cut_i, cut_j = max(0, height - size) // 2, max(0, width - size) // 2
    seen = turned[cut_i : cut_i + size, cut_j : cut_j + size]
    frame = np.zeros((size, size), np.float32)
    frame[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
    return frame

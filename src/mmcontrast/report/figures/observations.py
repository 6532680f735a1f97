"""A sheet of what multifold data looks like: a row an instance, all its pictures, all its texts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

ROW_INCHES = 0.62
TEXT_INCHES = {False: 4.6, True: 1.9}
WRAP = {False: 74, True: 30}
LINES = 3


def contact_sheet(
    images: Sequence[Sequence[npt.NDArray[np.uint8]]],
    texts: Sequence[Sequence[str]],
    groups: Sequence[str],
    caption: str,
    narrow: bool = False,
) -> Figure:
    """A figure of the given instances; a missing observation is an empty place.

    Args:
        images: for each instance its (3, H, W) pictures. texts: for each instance its texts, the first set in bold.
        groups: for each instance the name of its class.
        caption: what the data are, under the sheet.

    Raises:
        ValueError: no instance, or lists of different lengths.
    """
    if not images or not len(images) == len(texts) == len(groups):
        raise ValueError(f"{len(images)} lists of images, {len(texts)} of texts and {len(groups)} groups")
    columns, rows = max(map(len, images)), len(images)
    width = columns * ROW_INCHES + TEXT_INCHES[narrow]
    figure = Figure(figsize=(width, (rows + 0.7) * ROW_INCHES))
    figure.set_layout_engine("none")  # every part has its place already
    unit_x, unit_y = ROW_INCHES / width, 1 / (rows + 0.7)
    for row, (drawn, worded, group) in enumerate(zip(images, texts, groups, strict=True)):
        bottom = 1 - (row + 1) * unit_y
        for column, pixels_CHW in enumerate(drawn):
            axes = figure.add_axes(
                (column * unit_x + 0.04 * unit_x, bottom + 0.04 * unit_y, 0.92 * unit_x, 0.92 * unit_y)
            )
            axes.imshow(pixels_CHW.transpose(1, 2, 0), interpolation="nearest")
            axes.set_axis_off()
        left = (columns + 0.2) * unit_x
        top = bottom + 0.95 * unit_y
        figure.text(left, top, worded[0], fontsize=7.5, weight="bold", va="top", parse_math=False)
        if not narrow:
            figure.text(0.99, top, group, fontsize=6, color="0.4", ha="right", va="top")
        # a slash between texts, as keywords already have commas
        lines = textwrap.wrap("  /  ".join(worded[1:]), WRAP[narrow], max_lines=LINES, placeholder=" ...")
        figure.text(left, bottom + 0.68 * unit_y, "\n".join(lines), fontsize=6, va="top", parse_math=False)
    figure.text(0.01, 0.25 * unit_y, caption, fontsize=6.5, color="0.3", va="center")
    return figure

"""What multifold data looks like: a row per instance, all its pictures, all its texts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.figures.retrieval import PICK_SEED, in_retrieval_tables, retrieval_of
from mmcontrast.report.text.wording import count

SHEET_INSTANCES = 8
ROW_INCHES = 0.62
TEXT_INCHES = {False: 4.6, True: 1.9}
WRAP = {False: 74, True: 30}
LINES = 3


def _caption(of: Scope) -> str:
    return (
        f"Instances of {of.data.title}: every drawing and text of a few of {count(of.n_instances, 'test instance')}, "
        "drawn at random with a fixed seed."
    )


@figure("observations", caption=_caption, by_default=in_retrieval_tables)
def observations(of: Scope, narrow: bool) -> style.Figure:
    """All drawings and texts of some test instances, drawn at random by a fixed seed."""
    spec, table = retrieval_of(of), of.evidence.test_split(of.dataset)
    size = min(SHEET_INSTANCES, len(table))
    picked = np.sort(np.random.default_rng(PICK_SEED).choice(len(table), size=size, replace=False)).tolist()
    images, texts = (table.observations[m] for m in (spec.gallery, spec.queries))
    return contact_sheet(
        [[np.asarray(images.flat[k]) for k in range(images.offsets[i], images.offsets[i + 1])] for i in picked],
        [[str(texts.flat[k]) for k in range(texts.offsets[i], texts.offsets[i + 1])] for i in picked],
        [table.classes[int(table.labels[i])] for i in picked],
        f"{of.data.title}: {size} of {len(table)} test instances, drawn at random.",
        narrow,
    )


def contact_sheet(
    images: Sequence[Sequence[npt.NDArray[np.uint8]]],
    texts: Sequence[Sequence[str]],
    groups: Sequence[str],
    caption: str,
    narrow: bool = False,
) -> style.Figure:
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
    drawn = style.canvas(False, (rows + 0.7) * ROW_INCHES, width)
    drawn.set_layout_engine("none")  # every part has its place already
    unit_x, unit_y = ROW_INCHES / width, 1 / (rows + 0.7)
    for row, (pictures, worded, group) in enumerate(zip(images, texts, groups, strict=True)):
        bottom = 1 - (row + 1) * unit_y
        for column, pixels_CHW in enumerate(pictures):
            axes = drawn.add_axes(
                (column * unit_x + 0.04 * unit_x, bottom + 0.04 * unit_y, 0.92 * unit_x, 0.92 * unit_y)
            )
            axes.imshow(pixels_CHW.transpose(1, 2, 0), interpolation="nearest")
            axes.set_axis_off()
        left = (columns + 0.2) * unit_x
        top = bottom + 0.95 * unit_y
        drawn.text(left, top, worded[0], fontsize=7.5, weight="bold", va="top", parse_math=False)
        if not narrow:
            drawn.text(0.99, top, group, fontsize=6, color="0.4", ha="right", va="top")
        # a slash between texts, as keywords already have commas
        lines = textwrap.wrap("  /  ".join(worded[1:]), WRAP[narrow], max_lines=LINES, placeholder=" ...")
        drawn.text(left, bottom + 0.68 * unit_y, "\n".join(lines), fontsize=6, va="top", parse_math=False)
    drawn.text(0.01, 0.25 * unit_y, caption, fontsize=6.5, color="0.3", va="center")
    return drawn

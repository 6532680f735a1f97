"""Draw the figures of the site and the README: `python docs/figures/draw.py` writes docs/figures/*.svg.

Every figure is a drawing of an idea; nothing in it is measured. Style and colours are those of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from mmcontrast.report.figures.style import FAINT, INK, KNOWN, SOFT, canvas, house_style, save

HERE = Path(__file__).parent
Point = tuple[float, float]
PULL, PUSH = "#0072B2", "#D55E00"
IMAGE, TEXT, SOUND = "#44AA99", "#CC79A7", "#E69F00"  # modalities
UNITS_PER_INCH = 8


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing, `width` x `height` units."""
    drawn = canvas(False, height / UNITS_PER_INCH, width / UNITS_PER_INCH)
    drawn.set_layout_engine("none")
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return drawn, axes


def write(axes: Axes, at: Point, text: str, **look: Any) -> None:
    """A text around a point."""
    axes.text(*at, text, **{"ha": "center", "va": "center", "fontsize": 8, "linespacing": 1.4} | look)


def box(axes: Axes, centre: Point, size: Point, text: str, colour: str, **look: Any) -> None:
    """A rounded box with a text in it."""
    (x, y), (w, h) = centre, size
    shape = "round,pad=0,rounding_size=0.7"
    axes.add_patch(
        FancyBboxPatch((x - w / 2, y - h / 2), w, h, boxstyle=shape, facecolor="white", edgecolor=colour, linewidth=1.3)
    )
    write(axes, centre, text, **look)


def arrow(axes: Axes, start: Point, end: Point, colour: str, bend: float = 0.0, **look: Any) -> None:
    """From one point to another, ending short of both."""
    given = {"shrinkA": 8, "shrinkB": 8, "mutation_scale": 9, "linewidth": 1.4, "arrowstyle": "-|>"} | look
    axes.add_patch(FancyArrowPatch(start, end, color=colour, connectionstyle=f"arc3,rad={bend}", **given))


def push(axes: Axes, start: Point, end: Point, bend: float = 0.0) -> None:
    """What is pushed apart."""
    arrow(axes, start, end, PUSH, bend, linestyle=(0, (3, 2)), linewidth=1.1, arrowstyle="-")


def dot(axes: Axes, at: Point, colour: str, name: str, above: float = 2.2, **look: Any) -> None:
    """An embedding, with its name above it or, by a negative distance, below."""
    axes.plot(*at, **{"marker": "o", "markersize": 10, "color": colour, "markeredgecolor": "white"} | look)
    write(axes, (at[0], at[1] + above), name)


def key(axes: Axes, at: Point, lines: Sequence[tuple[str, Any, str]]) -> None:
    """What lines mean: colour, line style, words; one below the other."""
    for i, (colour, style, words) in enumerate(lines):
        y = at[1] - 2.3 * i
        axes.plot([at[0], at[0] + 3], [y, y], color=colour, linestyle=style, linewidth=1.5)
        write(axes, (at[0] + 3.8, y), words, ha="left", fontsize=7.5)


APART = (PUSH, (0, (3, 2)), "pushed apart")


def pipeline() -> Figure:
    """Folders of a run, each made from those before it."""
    drawn, axes = blank(60, 19)
    steps = [
        ("params/", "written by hand:\ndatasets, methods,\nexperiments, suites", SOFT),
        ("plan/", "for every stage,\nall that determines\nits result", SOFT),
        ("data/", "fetched, checked,\nsplit and scaled", KNOWN["concat"]),
        ("runs/", "models, embeddings,\nscores of every\nmethod and seed", KNOWN["comm"]),
        ("reports/", "one results table;\ntables, figures, page\nare views of it", KNOWN["m3col"]),
    ]
    names = ("plan", "fetch,\nprepare", "train,\nevaluate", "report")
    for i, (folder, text, colour) in enumerate(steps):
        x = 5.4 + 12.3 * i
        box(axes, (x, 10.5), (9.4, 7), text, colour, fontsize=6.6)
        write(axes, (x, 15.6), folder, fontsize=9, weight="bold", color=INK)
        if i:
            arrow(axes, (x - 7.4, 10.5), (x - 4.9, 10.5), INK, shrinkA=0, shrinkB=0)
            write(axes, (x - 6.15, 15.8), names[i - 1], fontsize=6.2, color=SOFT)
    write(
        axes,
        (30, 3.2),
        "Snakemake or DVC runs what is out of date: a change reruns only what depends on it.",
        color=SOFT,
    )
    return drawn


def m3col() -> Figure:
    """A mixture in one modality against both of its parents in the other."""
    drawn, axes = blank(53, 20)
    write(axes, (12, 18.5), "images", weight="bold", color=IMAGE)
    write(axes, (32, 18.5), "texts", weight="bold", color=TEXT)
    dot(axes, (6, 13.5), IMAGE, "image i")
    dot(axes, (6, 5.5), IMAGE, "image j", -2.2)
    mixed = (16, 9.8)
    for parent in ((6, 13.5), (6, 5.5)):
        arrow(axes, parent, mixed, SOFT, linewidth=0.9)
    dot(axes, mixed, IMAGE, "mixture\nλ i + (1 − λ) j", -3.2, marker="s")
    texts = {"text i": 15, "text j": 11, "text k": 6.5, "text l": 2.5}
    for name, y in texts.items():
        axes.plot(32, y, marker="o", markersize=10, color=TEXT, markeredgecolor="white")
        write(axes, (33.6, y), name, ha="left")
    arrow(axes, mixed, (32, 15), PULL, linewidth=2.2)
    arrow(axes, mixed, (32, 11), PULL, linewidth=1.1)
    write(axes, (22.5, 13.7), "λ", color=PULL)
    write(axes, (25.5, 9.6), "1 − λ", color=PULL)
    push(axes, mixed, (32, 6.5))
    push(axes, mixed, (32, 2.5))
    key(axes, (38.5, 16), [(PULL, "-", "pulled together"), APART])
    return drawn


def comm() -> Figure:
    """Two augmentations of a pair: fused embeddings, and each modality's own against the fused one of the other."""
    drawn, axes = blank(48, 22)
    left, right = (14, 11), (32, 11)
    for side, fused, mark in ((6, left, "'"), (40, right, "''")):
        write(axes, (side, 20.5), f"augmentation {len(mark)}", weight="bold")
        dot(axes, (side, 16), IMAGE, f"image alone  $Z_1{mark}$")
        dot(axes, (side, 6), TEXT, f"text alone  $Z_2{mark}$", -2.2)
        dot(axes, fused, KNOWN["comm"], "", markersize=14)
        write(axes, (fused[0], 14), f"fused  $Z{mark}$")
    arrow(axes, left, right, PULL, arrowstyle="<|-|>", linewidth=2.2)
    for side, fused, bend in ((6, right, -0.25), (40, left, 0.25)):
        arrow(axes, (side, 16), fused, PULL, bend)
        arrow(axes, (side, 6), fused, PULL, -bend)
    for x in (19, 23, 27):
        axes.plot(x, 2, marker="o", markersize=8, color=FAINT, markeredgecolor=SOFT)
        push(axes, left, (x, 2))
        push(axes, right, (x, 2))
    write(axes, (29, 2), "other instances", color=SOFT, ha="left")
    key(axes, (17, 21.5), [(PULL, "-", "pulled together"), APART])
    return drawn


def squares(
    axes: Axes, at: Point, colours: Sequence[str], name: str, ends: Sequence[bool] = (True, True, True)
) -> None:
    """A tuple of three modalities; those that are not of its own scene are hatched."""
    for i, (colour, own) in enumerate(zip(colours, ends, strict=True)):
        look = {"facecolor": colour} if own else {"facecolor": "white", "edgecolor": colour, "hatch": "/////"}
        axes.add_patch(Rectangle((at[0] + 2.2 * i, at[1] - 1), 2, 2, linewidth=1, **look))
    write(axes, (at[0] + 7.4, at[1]), name, ha="left")


def tuple_infonce() -> Figure:
    """A tuple against its other view, other tuples, and tuples with one modality of another scene."""
    drawn, axes = blank(52, 23)
    colours = (IMAGE, TEXT, SOUND)
    squares(axes, (2, 12), colours, "")
    write(axes, (5.2, 14.6), "scene i")
    rows = [
        (20, (True,) * 3, "scene i, other view", True),
        (15.5, (False,) * 3, "scene j", False),
        (11, (False, True, True), "first modality exchanged", False),
        (6.5, (True, False, True), "second modality exchanged", False),
        (2, (True, True, False), "third modality exchanged", False),
    ]
    for y, own, name, pulled in rows:
        squares(axes, (24, y), colours, name, own)
        if pulled:
            arrow(axes, (9, 12), (23.6, y), PULL, shrinkA=2, shrinkB=2, linewidth=2.2)
        else:
            arrow(
                axes,
                (9, 12),
                (23.6, y),
                PUSH,
                shrinkA=2,
                shrinkB=2,
                linestyle=(0, (3, 2)),
                linewidth=1.1,
                arrowstyle="-",
            )
    key(axes, (2, 5), [(PULL, "-", "pulled together"), APART])
    write(axes, (2, 0.7), "hatched: of another scene", ha="left", fontsize=7.5, color=SOFT)
    return drawn


def mxm_clr() -> Figure:
    """All observations of an instance against one another, and the resemblance of instances as a soft target."""
    drawn, axes = blank(50, 24)
    write(axes, (8, 22.7), "views", weight="bold", color=IMAGE)
    write(axes, (30, 22.7), "texts", weight="bold", color=TEXT)
    views = {"first": (19.5, 15.5), "second": (7.5, 3.5)}
    texts = {"first": (20.5, 17.5, 14.5), "second": (8.5, 5.5, 2.5)}
    for own, ys in views.items():
        for other, xs in texts.items():
            for y in ys:
                for x in xs:
                    look = {"linewidth": 1.4} if own == other else {"linewidth": 0.7, "linestyle": (0, (1, 1.6))}
                    arrow(axes, (8, y), (30, x), PULL if own == other else SOFT, arrowstyle="-", **look)
    for name in views:
        for y in views[name]:
            axes.plot(8, y, marker="o", markersize=10, color=IMAGE, markeredgecolor="white")
        for y in texts[name]:
            axes.plot(30, y, marker="o", markersize=10, color=TEXT, markeredgecolor="white")
        middle = sum(views[name]) / 2
        write(axes, (3.4, middle), f"{name}\ninstance", fontsize=7.5)
    key(axes, (33.5, 13), [(PULL, "-", "hard: the same instance"), (SOFT, (0, (1, 1.6)), "soft: by resemblance")])
    return drawn


FIGURES: tuple[Callable[[], Figure], ...] = (pipeline, m3col, comm, tuple_infonce, mxm_clr)


def main(folder: Path = HERE) -> None:
    """Write every figure into a folder."""
    for draw in FIGURES:
        with house_style():
            save(draw(), [folder / f"{draw.__name__}.svg"])


if __name__ == "__main__":
    main()

"""One look for all figures, and one colour per method in all of them. matplotlib is imported only where something is
drawn: captions and lists of figures start faster without it.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcontrast.data.files import replacing
from mmcontrast.evaluation.statistics import Interval
from mmcontrast.report.text.wording import LEVEL_NAME

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Figure
    from matplotlib.lines import Line2D as Line2D
    from matplotlib.text import Text
else:  # a second that only drawing takes
    Axes = Axis = Figure = Line2D = Text = Any

# told apart under the common colour vision deficiencies: Okabe & Ito (2008), then Tol's muted scheme;
# between those, for the losses that stand in figures of their own
KNOWN = {
    "concat": "#0072B2",
    "m3col": "#D55E00",
    "unimodal": "#009E73",
    "mixup": "#CC79A7",
    "cmc": "#E69F00",
    "simclr": "#56B4E9",
    "comm": "#882255",
    "tuple_infonce": "#332288",
    "cross": "#999933",
    "cross_self": "#44AA99",
    "mxm_clr": "#AA4499",
    "clip": "#6699CC",
    "supcon": "#661100",
    "mil_nce": "#AAAA00",
    "tricolo": "#EE8866",
    "siglip": "#77AADD",
}
PALETTE = (*KNOWN.values(), "#117733", "#DDCC77", "#CC6677")
# Tol's muted scheme; classes stand in figures of their own, where no colour means a method
CLASS_COLOURS = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#AA4499", "#44AA99", "#882255", "#999933")
CLASS_MARKERS = "osD^vPX*<"
INK, SOFT, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
MARKERS = "os^Dv"
LABEL_CHARACTERS = 22

WIDE, NARROW = 7.2, 3.6
NARROW_SUFFIX = "narrow.svg"
DPI = 200
HOUSE = Path(__file__).with_name("house.mplstyle")
METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


@contextmanager
def house_style() -> Iterator[None]:
    """The style for everything drawn and saved inside."""
    import matplotlib as mpl

    with mpl.rc_context(fname=HOUSE):
        yield


def method_colours(methods: Iterable[str]) -> dict[str, str]:
    """Method -> colour. One in KNOWN keeps its own whatever else there is; others, by name, take what is left. After
    the palette come its colours darkened, then lightened; beyond these a method is grey.
    """
    from matplotlib.colors import to_hex, to_rgb

    toned = [to_hex(((r + s) / 2, (g + s) / 2, (b + s) / 2)) for s in (0, 1) for r, g, b in map(to_rgb, PALETTE)]
    free = [*PALETTE[len(KNOWN) :], *toned]
    others = sorted(m for m in set(methods) if m not in KNOWN)
    return {m: KNOWN[m] for m in methods if m in KNOWN} | {
        m: free[i] if i < len(free) else SOFT for i, m in enumerate(others)
    }


def save(figure: Figure, paths: Iterable[Path]) -> None:
    """Write a figure in the format of each path's suffix, without dates, so that equal figures are equal files."""
    figure.draw_without_rendering()
    # the layout is settled now; solving it again for every format is most of the time a figure takes
    figure.set_layout_engine("none")
    for path in paths:
        suffix = path.suffix.removeprefix(".")
        with replacing(path) as temp:
            figure.savefig(temp, format=suffix, dpi=DPI, metadata=METADATA[suffix])


def canvas(narrow: bool, height: float, width: float = WIDE) -> Figure:
    """An empty figure, as wide as the page or `width`; on a narrow page NARROW. In inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(NARROW if narrow else width, height))


def tiled(drawn: Figure, n: int, columns: int, **shared: Any) -> list[Axes]:
    """n panels row by row; what is left of the last row stays empty."""
    panels = list(drawn.subplots(-(-n // columns), columns, squeeze=False, **shared).ravel())
    for axes in panels[n:]:
        axes.set_visible(False)
    return panels[:n]


def handle(label: str, **look: Any) -> Line2D:
    """An entry of a legend: a line, or with `linestyle=""` a marker."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **look)


def seed_handles(mean: str, interval: bool = True) -> list[Line2D]:
    """What the dots and lines of a chart of differences or scores are."""
    found = [
        handle(mean, marker="o", linestyle="", color=SOFT, markersize=5.5),
        handle("single seeds", marker=".", linestyle="", color=SOFT, alpha=0.5),
    ]
    return [*found, handle(f"{LEVEL_NAME} interval over seeds", color=SOFT, linewidth=3.2)] if interval else found


def legend(figure: Figure, handles: Sequence[Any], columns: int, **look: Any) -> None:
    """Below the panels."""
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, **look)


def wrapped(label: str) -> str:
    """A row label over as many lines as it takes."""
    return textwrap.fill(label, LABEL_CHARACTERS)


def labelled_rows(axes: Axes, labels: Sequence[str]) -> None:
    """A row per label from top to bottom, without an axis line."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def interval_line(axes: Axes, y: float, low: float, high: float, colour: str, width: float = 3.2) -> None:
    """An interval in row y; nothing where there is none."""
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [y, y], color=colour, linewidth=width, solid_capstyle="butt", zorder=3)


def dot(axes: Axes, y: float, found: Interval, colour: str, size: float = 26, width: float = 3.2, **look: Any) -> None:
    """A value in row y with its interval, where it has one, as a line of that width."""
    interval_line(axes, y, found.low, found.high, colour, width)
    axes.scatter(found.mean, y, s=size, edgecolor=colour, zorder=4, **{"facecolor": colour} | look)


def beside(axes: Axes, y: float, text: str, colour: str = INK) -> Text:
    """A text behind row y."""
    return axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=6.5, color=colour)


def plain_numbers(axis: Axis) -> None:
    """The given ticks as they are, also on a logarithmic axis, and none between them."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_locator(NullLocator())

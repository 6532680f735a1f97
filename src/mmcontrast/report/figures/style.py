"""One look for all figures, and one colour a method in all of them. Equal figures give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from mmcontrast.data.files import replacing

# told apart under the common colour vision deficiencies: Okabe & Ito (2008), then Tol's muted scheme
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#882255", "#332288", "#999933", "#44AA99", "#AA4499", "#117733", "#DDCC77", "#CC6677"),
    # between those, for the losses that stand in figures of their own
    *("#6699CC", "#661100", "#AAAA00", "#EE8866", "#77AADD"),
)
KNOWN = {
    "m3col": "#D55E00",
    "comm": "#882255",
    "tuple_infonce": "#332288",
    "mxm_clr": "#AA4499",
    "concat": "#0072B2",
    "unimodal": "#009E73",
    "mixup": "#CC79A7",
    "cmc": "#E69F00",
    "simclr": "#56B4E9",
    "cross": "#999933",
    "cross_self": "#44AA99",
    "clip": "#6699CC",
    "supcon": "#661100",
    "mil_nce": "#AAAA00",
    "tricolo": "#EE8866",
    "siglip": "#77AADD",
}
# Tol's muted scheme; classes stand in figures of their own, where no colour means a method
CLASS_COLOURS = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#AA4499", "#44AA99", "#882255", "#999933")
CLASS_MARKERS = "osD^vPX*<"
INK, SOFT, FAINT = "#222222", "#6b6b6b", "#d9d9d9"

WIDE, NARROW = 7.2, 3.6
DPI = 200
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": INK,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    # unhinted text is as wide at one resolution as at another, so that one layout serves every format
    "text.hinting": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "mmcontrast",
    "figure.dpi": DPI,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
}
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


@contextmanager
def house_style() -> Iterator[None]:
    """The style for everything drawn and saved inside."""
    with mpl.rc_context(RC):
        yield


def method_colours(methods: Iterable[str]) -> dict[str, str]:
    """Method -> colour. A method in KNOWN keeps its colour whatever else there is; others take what is left, by name.

    After the palette come its colours darkened, then lightened; beyond these a method is grey.
    """
    toned = [_towards(c, shade) for shade in ((0, 0, 0), (1, 1, 1)) for c in PALETTE]
    free = [c for c in (*PALETTE, *toned) if c not in KNOWN.values()]
    others = sorted(m for m in set(methods) if m not in KNOWN)
    return {m: KNOWN[m] for m in methods if m in KNOWN} | {
        m: free[i] if i < len(free) else SOFT for i, m in enumerate(others)
    }


def _towards(colour: str, shade: tuple[int, int, int]) -> str:
    """Half way between the two."""
    red, green, blue = ((part + other) / 2 for part, other in zip(to_rgb(colour), shade, strict=True))
    return to_hex((red, green, blue))


def save(figure: Figure, paths: Iterable[Path]) -> None:
    """Write a figure in the format of each path's suffix, without dates, so that equal figures are equal files."""
    figure.draw_without_rendering()
    # the layout is settled now; solving it again for every format is most of the time a figure takes
    figure.set_layout_engine("none")
    for path in paths:
        suffix = path.suffix.removeprefix(".")
        with replacing(path) as temp:
            figure.savefig(temp, format=suffix, dpi=DPI, metadata=METADATA[suffix])

"""Test embeddings of two cells in the plane of their first two principal components, coloured by class.

Shapes: N test instances, D width of an embedding.
"""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcontrast.config import CellRef, Grid
from mmcontrast.errors import DataError
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.outputs import own_cells
from mmcontrast.report.text.wording import count

PANEL_INCHES = 3.1
LEGEND_INCHES = 0.2
TITLE_CHARACTERS = 34
PLAIN_FUSION = "concat"


def projected_cells(grid: Grid, experiment: str, dataset: str) -> list[CellRef]:
    """Plain fusion, or else the first baseline, and the own method; in a partial report neither may be left."""
    there = grid.cells_on(experiment, dataset)
    own = [c for c in own_cells(grid, experiment) if c in there]
    baselines = [c for c in there if c not in own]
    plain = [c for c in baselines if grid.methods[c.method].implementation == PLAIN_FUSION]
    return (plain or baselines)[:1] + own[:1]


def project(embeddings_ND: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) coordinates, and the share of variance each of the two axes explains.

    Deterministic: the full decomposition, each axis turned so that its largest loading is positive.

    Raises:
        DataError: an embedding is not finite, or there are fewer than two instances or dimensions.
    """
    if not np.isfinite(embeddings_ND).all() or min(embeddings_ND.shape) < 2:
        raise DataError(
            f"embeddings of shape {embeddings_ND.shape} cannot be projected: two finite ones of two dimensions are "
            f"needed; train the cell again"
        )
    from sklearn.decomposition import PCA

    pca = PCA(n_components=2, svd_solver="full")
    if np.ptp(embeddings_ND, axis=0).max() == 0:
        return np.zeros((len(embeddings_ND), 2)), np.zeros(2)
    return pca.fit_transform(embeddings_ND), pca.explained_variance_ratio_


def _caption(of: Scope) -> str:
    names = " and ".join(map(of.label, projected_cells(of.grid, of.experiment, of.dataset)))
    return (
        f"Test embeddings of {names} on {of.data.title}, {count(of.n_instances, 'test instance')}, seed "
        f"{of.first_seed}, by class. Each panel has its own principal components; distances are not "
        "comparable between panels."
    )


@figure(
    "projection",
    caption=_caption,
    # retrieval, several labels at once and numbers have no classes to colour
    by_default=lambda grid, experiment, dataset: (
        grid.experiments[experiment].kind == "table"
        and grid.datasets[dataset].retrieval is None
        and grid.datasets[dataset].target == "classes"
    ),
    possible=projected_cells,
)
def projection(of: Scope, narrow: bool) -> style.Figure:
    """One panel per cell, test split of the dataset's first seed; each panel has its own principal components."""
    cells = projected_cells(of.grid, of.experiment, of.dataset)
    classes = of.data.classes
    rows, legend_rows = len(cells) if narrow else 1, -(-len(classes) // (2 if narrow else 5))
    drawn = style.canvas(narrow, PANEL_INCHES * rows + LEGEND_INCHES * legend_rows, style.WIDE * len(cells) / 2)
    labels = np.zeros(0, dtype=int)
    for axes, ref in zip(style.beside(drawn, len(cells), narrow), cells, strict=True):
        part = of.test_embeddings(ref)
        labels = part["label"].to_numpy()
        points_N2, explained = project(part["embedding"].to_numpy().astype(float))
        for c in range(len(classes)):
            axes.scatter(
                points_N2[labels == c, 0], points_N2[labels == c, 1], s=13, alpha=0.8, linewidths=0, **_look(c)
            )
        x, y = (f"{share:.0%} of variance".replace("%", " %") for share in explained)
        title = textwrap.fill(of.label(ref), TITLE_CHARACTERS)
        axes.set(title=title, xlabel=f"first component ({x})", ylabel=f"second component ({y})")
        axes.set_aspect("equal", adjustable="datalim")
    handles = [
        style.handle(f"{name} ({int((labels == c).sum())})", linestyle="", markersize=5, **_look(c))
        for c, name in enumerate(classes)
    ]
    style.legend(drawn, handles, 2 if narrow else 5, handletextpad=0.2)
    return drawn


def _look(c: int) -> dict[str, Any]:
    """Colour and marker of a class; a tenth class starts over with the colours shifted against the markers."""
    k = len(style.CLASS_COLOURS)
    return {"color": style.CLASS_COLOURS[c % k], "marker": style.CLASS_MARKERS[(c + c // k) % k]}

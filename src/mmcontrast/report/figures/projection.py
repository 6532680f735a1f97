"""Test embeddings of two cells in the plane of their first two principal components, coloured by class.

Shapes: N test cases, D width of an embedding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from mmcontrast.config import CellRef, Grid
from mmcontrast.errors import DataError
from mmcontrast.report.figures.style import CLASS_COLOURS, CLASS_MARKERS, NARROW, WIDE
from mmcontrast.report.text.wording import cell_label

PANEL_INCHES = 3.1
LEGEND_INCHES = 0.2


def project(embeddings_ND: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) coordinates, and the share of variance each of the two axes explains.

    Deterministic: the full decomposition, each axis turned so that its largest loading is positive.

    Raises:
        DataError: an embedding is not finite, or there are fewer than two cases or dimensions.
    """
    if not np.isfinite(embeddings_ND).all() or min(embeddings_ND.shape) < 2:
        raise DataError(
            f"embeddings of shape {embeddings_ND.shape} cannot be projected: two finite ones of two dimensions are "
            f"needed; train the cell again"
        )
    pca = PCA(n_components=2, svd_solver="full")
    if np.ptp(embeddings_ND, axis=0).max() == 0:
        return np.zeros((len(embeddings_ND), 2)), np.zeros(2)
    return pca.fit_transform(embeddings_ND), pca.explained_variance_ratio_


def embedding_figure(
    grid: Grid, dataset: str, cells: list[CellRef], embeddings: dict[CellRef, pl.DataFrame], narrow: bool = False
) -> Figure:
    """One panel a cell, test split of the dataset's first seed; each panel has principal components of its own."""
    seed, classes = grid.seeds_of(dataset)[0], grid.datasets[dataset].classes
    shape = (len(cells), 1) if narrow else (1, len(cells))
    legend_rows = -(-len(classes) // (2 if narrow else 5))
    size = (NARROW if narrow else WIDE * len(cells) / 2, PANEL_INCHES * shape[0] + LEGEND_INCHES * legend_rows)
    figure = Figure(figsize=size)
    panels = figure.subplots(*shape, squeeze=False).ravel()
    labels = np.zeros(0, dtype=int)
    for axes, ref in zip(panels, cells, strict=True):
        part = embeddings[ref].filter(split="test", seed=seed)
        if not len(part):
            raise DataError(f"{dataset}/{ref.method}/{ref.variant}: no test embeddings of seed {seed}; train it again")
        labels = part["label"].to_numpy()
        points_N2, explained = project(part["embedding"].to_numpy().astype(float))
        for c in range(len(classes)):
            members = labels == c
            axes.scatter(*points_N2[members].T, s=13, alpha=0.8, linewidths=0, **_look(c))
        axes.set_title(f"{cell_label(grid, ref)}, seed {seed}, {len(labels)} test cases")
        axes.set_xlabel(f"first component ({explained[0]:.0%} of variance)".replace("%", " %"))
        axes.set_ylabel(f"second component ({explained[1]:.0%} of variance)".replace("%", " %"))
        axes.set_aspect("equal", adjustable="datalim")
    handles = [
        Line2D([], [], linestyle="", markersize=5, label=f"{name} ({int((labels == c).sum())})", **_look(c))
        for c, name in enumerate(classes)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2 if narrow else 5, handletextpad=0.2)
    return figure


def _look(c: int) -> dict[str, Any]:
    """Colour and marker of a class; a tenth class starts over with the colours shifted against the markers."""
    k = len(CLASS_COLOURS)
    return {"color": CLASS_COLOURS[c % k], "marker": CLASS_MARKERS[(c + c // k) % k]}

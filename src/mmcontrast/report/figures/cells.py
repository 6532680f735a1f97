"""Training curves of cells, and test embeddings (N instances, width D) in the plane of two principal components."""

import textwrap
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmcontrast.config import BASE_VARIANT, CellConfig, CellRef, Grid
from mmcontrast.config.metrics import measure
from mmcontrast.errors import DataError
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.registry import figure
from mmcontrast.report.outputs import own_cells
from mmcontrast.report.text.wording import count, metric_title, short_title

MOST_COLUMNS = {False: 4, True: 2}
PANEL_INCHES = {1: 1.7, 2: 1.15}
LEGEND_INCHES = 0.35
PLANE_INCHES, ROW_INCHES = 3.1, 0.2
AXIS_CHARACTERS = 14  # as many as stand beside a panel of two kinds
TITLE_CHARACTERS, PLANE_CHARACTERS = 20, 34
PLAIN_FUSION = "concat"
DASHED: dict[str, Any] = {"color": style.SOFT, "linewidth": 0.8, "linestyle": (0, (4, 2))}
DOTTED: dict[str, Any] = {"color": style.INK, "linewidth": 0.8, "linestyle": (0, (1, 1.5))}


def over_seeds_by_epoch(frame: pl.DataFrame) -> pl.DataFrame:
    """epoch, mean, lowest and highest of `value` over seeds."""
    value = pl.col("value")
    return frame.group_by("epoch").agg(mean=value.mean(), low=value.min(), high=value.max()).sort("epoch")


def curve_cells(grid: Grid, experiment: str, dataset: str) -> list[CellRef]:
    """Every cell of an ablation; of a table one multimodal cell per method."""
    cells = grid.cells_on(experiment, dataset)
    if grid.experiments[experiment].kind == "ablation":
        return cells
    out: dict[str, CellRef] = {}
    for ref in sorted(cells, key=lambda c: c.variant != BASE_VARIANT):
        if grid.cell(dataset, ref.method, ref.variant).objective.get("modality") is None:
            out.setdefault(ref.method, ref)
    return [c for c in cells if c in out.values()]


def switch_epoch(cell: CellConfig) -> int | None:
    """First epoch of MultiSClip in M3CoL's schedule, or None where a run has but one contrastive term, or none."""
    fraction, stage = cell.objective.get("schedule_fraction"), cell.finetune
    if fraction is None or stage is None or cell.objective.get("beta") == 0:
        return None
    epoch = int(fraction * stage.epochs)
    return epoch if 0 < epoch < stage.epochs else None


def _curves_told(of: Scope) -> dict[str, Any]:
    shown = curve_cells(of.grid, of.experiment, of.dataset)
    cells = [of.config(c) for c in shown]
    return {
        "labels": ", ".join(map(of.label, shown)),
        "metric": metric_title(of.data.metrics[0]).lower(),
        "scored": any(cell.scored_by != "probe" for cell in cells),
        "switched": any(map(switch_epoch, cells)),
    }


@figure(
    "curves",
    told=_curves_told,
    by_default=lambda grid, experiment, dataset: grid.experiments[experiment].kind in ("table", "ablation"),
)
def curves(of: Scope, narrow: bool) -> style.Figure:
    """Panels of each cell: validation score above, training loss below; panels of a kind share their axes. A probe
    gives a cell one score, at the end; where all cells are scored by one, only the loss is drawn.
    """
    from matplotlib.patches import Patch

    shown = curve_cells(of.grid, of.experiment, of.dataset)
    cells = {ref: of.config(ref) for ref in shown}
    metric, scored = of.data.metrics[0], any(cell.scored_by != "probe" for cell in cells.values())
    scores = {ref: of.evidence.curves(cell) for ref, cell in cells.items()}
    # what a long name means is said in the table; beside a panel there is room for one line
    title = textwrap.fill(f"validation {short_title(metric).lower()}{measure(metric).heading}", AXIS_CHARACTERS)
    titles = [title, "training loss"] if scored else ["training loss"]
    reference = of.reference if scored and of.reference in shown else None
    switches = {ref: switch for ref, cell in cells.items() if (switch := switch_epoch(cell)) is not None}
    drawn, rows_of_axes = _grid(len(shown), titles, narrow)
    for ref, panels in zip(shown, rows_of_axes, strict=True):
        colour = style.method_colours(of.grid.methods)[ref.method]
        panels[0].set_title(textwrap.fill(of.label(ref), TITLE_CHARACTERS))
        if scored:
            other = scores[reference] if reference is not None and reference != ref else None
            _score(panels[0], scores[ref], metric, colour, other)
        _band(panels[-1], of.history(ref).filter(name="train/loss"), colour, 1)
        for axes in panels if ref in switches else ():
            axes.axvline(switches[ref], zorder=1, **DOTTED)
    handles: list[Any] = [
        style.handle(f"mean of {count(of.n_seeds, 'seed')}", color=style.INK),
        Patch(color=style.INK, alpha=0.2, linewidth=0, label="lowest to highest seed"),
    ]
    handles += [style.handle(f"{of.label(reference)}, for comparison", **DASHED)] if reference is not None else []
    handles += [style.handle("M3Co before, MultiSClip after", **DOTTED)] if switches else []
    style.legend(drawn, handles, 1 if narrow else 4, handlelength=1.8)
    return drawn


def _grid(n: int, titles: list[str], narrow: bool) -> tuple[style.Figure, NDArray[Any]]:
    """For each of n cells a panel per title, below one another; the cells side by side in as few bands as fit."""
    kinds, bands = len(titles), -(-n // MOST_COLUMNS[narrow])
    columns = -(-n // bands)
    drawn = style.canvas(narrow, bands * kinds * PANEL_INCHES[kinds] + LEGEND_INCHES)
    panels = drawn.subplots(kinds * bands, columns, squeeze=False, sharex=True)
    by_cell = panels.reshape(bands, kinds, columns).transpose(0, 2, 1).reshape(-1, kinds)
    for axes in by_cell[n:].ravel():
        axes.remove()
    for i, of_cell in enumerate(by_cell[:n]):
        for k, (axes, title) in enumerate(zip(of_cell, titles, strict=True)):
            if i > 0:
                axes.sharey(by_cell[0, k])
            axes.tick_params(labelleft=i % columns == 0, labelbottom=k == kinds - 1)
            axes.set_ylabel("" if i % columns else title)
        of_cell[-1].set_xlabel("epoch")
    return drawn, by_cell[:n]


def _band(axes: style.Axes, frame: pl.DataFrame, colour: str, scale: float) -> None:
    by_epoch = over_seeds_by_epoch(frame)
    epochs = by_epoch["epoch"].to_numpy()
    mean, low, high = (scale * by_epoch[c].to_numpy() for c in ("mean", "low", "high"))
    axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    # one epoch makes no line
    axes.plot(epochs, mean, color=colour, marker="o" if len(epochs) == 1 else None, markersize=3)


def _score(axes: style.Axes, curve: pl.DataFrame, metric: str, colour: str, other: pl.DataFrame | None) -> None:
    factor = measure(metric).factor
    if other is not None:
        mean = over_seeds_by_epoch(other.filter(split="val", metric=metric))
        axes.plot(mean["epoch"], factor * mean["mean"], **DASHED)
    own = curve.filter(split="val", metric=metric)
    if own["epoch"].n_unique() > 1:
        _band(axes, own, colour, factor)
    else:
        word = "scored only at the end" if len(own) else "no validation split"
        axes.text(0.5, 0.5, word, transform=axes.transAxes, ha="center", va="center", color=style.SOFT, fontsize=6.5)


def projected_cells(grid: Grid, experiment: str, dataset: str) -> list[CellRef]:
    """Plain fusion, or else the first baseline, and the own method; in a partial report neither may be left."""
    there = grid.cells_on(experiment, dataset)
    own = [c for c in own_cells(grid, experiment) if c in there]
    baselines = [c for c in there if c not in own]
    plain = [c for c in baselines if grid.methods[c.method].implementation == PLAIN_FUSION]
    return (plain or baselines)[:1] + own[:1]


def project(embeddings_ND: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) coordinates and each axis's share of variance. Deterministic: full decomposition, largest loading
    positive. Raises DataError: an embedding is not finite, or there are fewer than two instances or dimensions.
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


def names_told(of: Scope) -> dict[str, str]:
    """The cells' labels, and that of the last, which is the own method where there is one."""
    labels = [of.label(ref) for ref in projected_cells(of.grid, of.experiment, of.dataset)]
    return {"names": " and ".join(labels), "own": labels[-1]}


@figure(
    "projection",
    told=names_told,
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
    drawn = style.canvas(narrow, PLANE_INCHES * rows + ROW_INCHES * legend_rows, style.WIDE * len(cells) / 2)
    labels = np.zeros(0, dtype=int)
    for axes, ref in zip(style.tiled(drawn, len(cells), 1 if narrow else len(cells)), cells, strict=True):
        part = of.test_embeddings(ref)
        labels = part["label"].to_numpy()
        points_N2, explained = project(part["embedding"].to_numpy().astype(float))
        for c in range(len(classes)):
            of_class = points_N2[labels == c]
            axes.scatter(of_class[:, 0], of_class[:, 1], s=13, alpha=0.8, linewidths=0, **_look(c))
        x, y = (f"{share:.0%} of variance".replace("%", " %") for share in explained)
        title = textwrap.fill(of.label(ref), PLANE_CHARACTERS)
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

"""Queries with their nearest items, similarities by instance, the data. P drawings, Q texts, I instances, D width."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmcontrast.config import CellRef, Grid
from mmcontrast.config.datasets import Retrieval
from mmcontrast.evaluation.retrieval import grouped_similarity
from mmcontrast.report.evidence import Scope
from mmcontrast.report.figures import style
from mmcontrast.report.figures.cells import names_told, projected_cells
from mmcontrast.report.figures.registry import figure

if TYPE_CHECKING:
    from mmcontrast.data.loading import Observations, Table

Floats = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.int64]

# fixed before any result was seen, so that no query is picked for how well it goes
PICK_SEED = 0
QUERIES, TOP = 7, 5
HEAT_INSTANCES = {False: 14, True: 8}
RIGHT, WRONG = "#009E73", "#d9d9d9"

SHEET_INSTANCES = 8
SHEET_ROW_INCHES = 0.62
SHEET_TEXT_INCHES = {False: 4.6, True: 1.9}
WRAP = {False: 74, True: 30}
LINES = 3


@dataclass(frozen=True)
class Retrieved:
    """One cell's test observations at the selected epoch of one seed. `table`: the prepared test split; `spec`: what is
    sought in what; `gallery`, `queries`: modality's (P, D) rows and (P,) row of each one's instance in `table`.
    """

    table: Table
    spec: Retrieval
    gallery: tuple[npt.NDArray[np.float32], Rows]
    queries: tuple[npt.NDArray[np.float32], Rows]

    def similarity(self) -> Floats:
        """(I, Q) of instances, in the table's order, and single queries."""
        z, ids = self.queries
        return grouped_similarity(*self.gallery, z, np.arange(len(ids)))[0]


def retrieval_of(of: Scope) -> Retrieval:
    """What the dataset seeks in what."""
    if of.data.retrieval is None:
        raise TypeError(f"{of.dataset} is not scored by retrieval")
    return of.data.retrieval


def in_retrieval_tables(grid: Grid, experiment: str, dataset: str) -> bool:
    """Where retrieval scores, there are observations to look at."""
    return grid.experiments[experiment].kind == "table" and grid.datasets[dataset].retrieval is not None


def retrieved(of: Scope, ref: CellRef) -> Retrieved:
    """The first seed at its selected epoch, or its last without validation. Raises DataError: no embeddings of it."""
    spec, table = retrieval_of(of), of.evidence.test_split(of.dataset)
    of_seed = of.evidence.metrics(of.config(ref)).filter(seed=of.first_seed, split="test", metric="rsum")
    protocol = "selected" if "selected" in of_seed["protocol"].to_list() else "last"
    epoch = of_seed.filter(protocol=protocol)["epoch"][0]
    row = {name: i for i, name in enumerate(table.ids)}
    sides, embeddings = [], of.test_embeddings(ref, epoch=epoch)
    for modality in (spec.gallery, spec.queries):
        part = embeddings.filter(modality=modality)
        sides.append((part["embedding"].to_numpy(), np.array([row[i] for i in part["id"]])))
    return Retrieved(table, spec, sides[0], sides[1])


def picked(size: int, table: Table, generator: np.random.Generator | None = None) -> Rows:
    """Ascending rows of as many instances, drawn at random by a fixed seed, or by the generator."""
    generator = generator or np.random.default_rng(PICK_SEED)
    return np.sort(generator.choice(len(table), size=min(size, len(table)), replace=False))


@figure("neighbours", told=names_told, by_default=in_retrieval_tables, possible=projected_cells)
def neighbours(of: Scope, narrow: bool) -> style.Figure:
    """Nearest items, the right ones marked, of QUERIES instances and of one text of each, all drawn by a fixed seed."""
    found = retrieved(of, projected_cells(of.grid, of.experiment, of.dataset)[-1])
    similarity_IQ = found.similarity()
    generator = np.random.default_rng(PICK_SEED)
    rows = picked(QUERIES, found.table, generator)
    texts = [generator.choice(np.flatnonzero(found.queries[1] == i)) for i in rows]
    drawn = style.canvas(narrow, 10.4 if narrow else 5.8)
    shape: dict[str, Any] = {"nrows": 2} if narrow else {"ncols": 2, "width_ratios": (1, 1.15)}
    first, second = drawn.subfigures(squeeze=False, **shape).ravel()
    _images_for_texts(first, found, similarity_IQ, texts)
    _texts_for_images(second, found, similarity_IQ, rows)
    return drawn


def _images_for_texts(part: Any, found: Retrieved, similarity_IQ: Floats, texts: list[int]) -> None:
    part.suptitle(f"{found.spec.queries} to {found.spec.gallery}", fontsize=8.5, weight="bold")
    grid = part.subplots(len(texts), TOP, squeeze=False)
    names = found.table.observations[found.spec.queries].flat
    for row, query in zip(grid, texts, strict=True):
        order = np.argsort(-similarity_IQ[:, query], kind="stable")[:TOP]
        for axes, item in zip(row, order, strict=True):
            _picture(axes, found, int(item), right=bool(item == found.queries[1][query]))
        title = textwrap.shorten(str(names[query]), 60, placeholder=" ...")
        # the text runs over all five pictures and must not widen the first; a blank title keeps its height
        look: dict[str, Any] = {"fontsize": 6.5, "transform": row[0].transAxes, "parse_math": False}
        row[0].text(0, 1.12, title, **look).set_in_layout(False)
        row[0].set_title(" ", fontsize=6.5)


def _texts_for_images(part: Any, found: Retrieved, similarity_IQ: Floats, rows: Rows) -> None:
    part.suptitle(f"{found.spec.gallery} to {found.spec.queries}", fontsize=8.5, weight="bold")
    grid = part.subplots(len(rows), 2, squeeze=False, width_ratios=(1, 4.6))
    names = found.table.observations[found.spec.queries].flat
    for (left, right), item in zip(grid, rows, strict=True):
        _picture(left, found, int(item), right=None)
        right.set_axis_off()
        order = np.argsort(-similarity_IQ[item], kind="stable")[:TOP]
        for k, query in enumerate(order):
            is_right = found.queries[1][query] == item
            line = ("✓ " if is_right else "   ") + textwrap.shorten(str(names[query]), 48, placeholder=" ...")
            look: dict[str, Any] = {"color": RIGHT, "weight": "bold"} if is_right else {"color": style.SOFT}
            right.text(0, 0.9 - 0.2 * k, line, fontsize=6, va="center", parse_math=False, **look)


def _picture(axes: style.Axes, found: Retrieved, item: int, right: bool | None) -> None:
    """The first drawing of an instance, framed if it is an answer."""
    of = found.table.observations[found.spec.gallery]
    pixels_CHW = _by_instance(of, np.array([item]))[0][0]
    axes.imshow(pixels_CHW.transpose(1, 2, 0), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        look = {"color": RIGHT, "linewidth": 2.2} if right else {"color": WRONG, "linewidth": 0.6}
        spine.set(visible=right is not None, **look)


@figure("similarities", told=names_told, by_default=in_retrieval_tables, possible=projected_cells)
def similarities(of: Scope, narrow: bool) -> style.Figure:
    """Similarity of every text with every drawing of some test instances, ordered by instance; a panel per cell."""
    cells = projected_cells(of.grid, of.experiment, of.dataset)
    drawn = style.canvas(narrow, 3.0 * len(cells) + 0.4 if narrow else 3.6)
    panels = style.tiled(drawn, len(cells), 1 if narrow else len(cells), sharey=not narrow)
    image = None
    for axes, ref in zip(panels, cells, strict=True):
        image = _heat(axes, retrieved(of, ref), narrow)
        axes.set_title(textwrap.fill(of.label(ref), 34))
    if image is not None:
        drawn.colorbar(image, ax=panels, label="cosine similarity", shrink=0.8)
    return drawn


def _heat(axes: style.Axes, found: Retrieved, narrow: bool) -> Any:
    rows, sides = picked(HEAT_INSTANCES[narrow], found.table), (found.gallery, found.queries)
    order_a, order_b = (np.concatenate([np.flatnonzero(ids == i) for i in rows]) for _, ids in sides)
    similarity = found.gallery[0][order_a] @ found.queries[0][order_b].T
    image = axes.imshow(similarity, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    for axis, ids in (("y", found.gallery[1][order_a]), ("x", found.queries[1][order_b])):
        edges = np.flatnonzero(np.diff(ids)) + 0.5
        (axes.hlines if axis == "y" else axes.vlines)(edges, -0.5, similarity.shape[axis == "y"] - 0.5, "k", lw=0.3)
    axes.set(xlim=(-0.5, similarity.shape[1] - 0.5), ylim=(similarity.shape[0] - 0.5, -0.5))
    axes.grid(visible=False)
    axes.set(xticks=[], xlabel=f"{found.spec.queries}, by instance")
    axes.set(yticks=[], ylabel=f"{found.spec.gallery}, by instance")
    return image


@figure("observations", by_default=in_retrieval_tables)
def observations(of: Scope, narrow: bool) -> style.Figure:
    """A sheet of all drawings and texts of some test instances; a missing drawing leaves its place empty."""
    spec, table = retrieval_of(of), of.evidence.test_split(of.dataset)
    rows = picked(SHEET_INSTANCES, table)
    images, texts = (_by_instance(table.observations[m], rows) for m in (spec.gallery, spec.queries))
    columns, unit_y = max(map(len, images)), 1 / (len(rows) + 0.7)
    width = columns * SHEET_ROW_INCHES + SHEET_TEXT_INCHES[narrow]
    drawn = style.canvas(False, (len(rows) + 0.7) * SHEET_ROW_INCHES, width)
    drawn.set_layout_engine("none")  # every part has its place already
    unit_x = SHEET_ROW_INCHES / width
    left = (columns + 0.2) * unit_x
    for i, row in enumerate(rows):
        bottom = 1 - (i + 1) * unit_y
        for column, pixels_CHW in enumerate(images[i]):
            place = (column * unit_x + 0.04 * unit_x, bottom + 0.04 * unit_y, 0.92 * unit_x, 0.92 * unit_y)
            axes = drawn.add_axes(place)
            axes.imshow(pixels_CHW.transpose(1, 2, 0), interpolation="nearest")
            axes.set_axis_off()
        top = bottom + 0.95 * unit_y
        drawn.text(left, top, texts[i][0], fontsize=7.5, weight="bold", va="top", parse_math=False)
        if not narrow:
            group = table.classes[int(table.labels[row])]
            drawn.text(0.99, top, group, fontsize=6, color="0.4", ha="right", va="top")
        # a slash between texts, as keywords already have commas
        lines = textwrap.wrap("  /  ".join(texts[i][1:]), WRAP[narrow], max_lines=LINES, placeholder=" ...")
        drawn.text(left, bottom + 0.68 * unit_y, "\n".join(lines), fontsize=6, va="top", parse_math=False)
    title = f"{of.data.title}: {len(rows)} of {len(table)} test instances, drawn at random."
    drawn.text(0.01, 0.25 * unit_y, title, fontsize=6.5, color="0.3", va="center")
    return drawn


def _by_instance(of: Observations, rows: Rows) -> list[list[Any]]:
    found = [of.flat[int(of.offsets[i]) : int(of.offsets[i + 1])] for i in rows]
    return [[x if isinstance(x, str) else np.asarray(x) for x in of_row] for of_row in found]

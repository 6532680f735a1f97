"""Models of `params/experiments/` and `params/papers.yaml`: tables, figures, and what was printed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from mmcontrast.config.base import Strict
from mmcontrast.config.datasets import TaskName
from mmcontrast.config.figures import figure_kinds, known_figure

Verified = Literal["read", "digitised", "second_hand"]


class Published(Strict):
    """A row somebody printed. A number that could not be found is left out."""

    row: str = Field(description="Name of the row in the source.")
    dataset: str = Field(description="A dataset of params/datasets/, or a key of the experiment's `not_run`.")
    values: dict[str, float] = Field(
        description="metric: value, in percent; R, U and S where there is `information`; else a key of `titles`."
    )
    spread: dict[str, float] = Field(default={}, description="metric: the spread printed beside it.")
    method: str | None = Field(default=None, description="Our method of the same name, where there is one.")
    variant: str = "base"
    source: str | None = Field(default=None, description="Where it was read; default: the experiment's `source`.")
    verified: Verified = Field(
        default="read",
        description="read: in the paper, or on a page or in a repository of its authors; digitised: off a curve of "
        "theirs; second_hand: as another source quotes it.",
    )

    @model_validator(mode="after")
    def _spread_of_a_value(self) -> Self:
        if unknown := sorted(set(self.spread) - set(self.values)):
            raise ValueError(f"spread: {unknown} have no value; a spread stands beside a value")
        return self


class CellRef(Strict):
    """A cell without its dataset."""

    method: str
    variant: str = "base"
    label: str | None = Field(default=None, description="Row label; default: the method's title.")
    only: list[str] | None = Field(
        default=None, description="Datasets it is run on, of the experiment's own. Default: all."
    )


class Arms(Strict):
    """One set of instances in two datasets, which differ only in the pairs that are pretrained on."""

    unbiased: str = Field(description="Dataset whose training pairs say nothing of the synergistic task: the control.")
    biased: str = Field(description="Dataset whose training pairs all solve the synergistic task.")


class Information(Strict):
    """Which probes ask for information that is redundant, unique, or synergistic between the modalities.

    Redundant and unique information is read after pretraining on the unbiased arm, synergy after the biased one;
    synergy after the unbiased one is its control. The redundant probe is the dataset's own label.
    """

    arms: list[Arms] = Field(min_length=1, description="One entry a size of the data.")
    unique: list[TaskName] = Field(min_length=1, description="Tasks whose mean is U.")
    synergistic: TaskName = Field(description="Task that is S.")
    published: str | None = Field(default=None, description="Dataset that the published R, U and S are of.")


class Sweep(Strict):
    """A panel of curves over cells that differ in one number."""

    axis: str = Field(description="What the number is.")
    scale: Literal["log", "linear"] = "log"
    dataset: str | None = Field(default=None, description="Where the cells are scored; default: each dataset in turn.")
    series: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(
        min_length=1, description="Name of a line -> method/variant -> the cell's place on the axis."
    )

    @model_validator(mode="after")
    def _on_its_scale(self) -> Self:
        if self.scale == "log" and any(x == 0 for line in self.series.values() for x in line.values()):
            raise ValueError("series: 0 has no place on a logarithmic axis; say scale: linear")
        return self


class MatrixPart(Strict):
    """One score of a cell: of a dataset's own label, or of a further task."""

    dataset: str
    task: TaskName | None = None


class MatrixColumn(Strict):
    """A column of a matrix: the mean of one or several scores by the first metric of their datasets."""

    title: str
    parts: list[MatrixPart] = Field(min_length=1)


class Contrast(Strict):
    """Two cells of one dataset, or two protocols of one cell, whose difference by seed is a result."""

    label: str
    dataset: str
    cell: str = Field(pattern=r"^[a-z0-9_]+/[a-z0-9_]+$", description="method/variant")
    against: str = Field(pattern=r"^[a-z0-9_]+/[a-z0-9_]+$", description="method/variant it is compared with")
    protocol: Literal["selected", "optimistic"] = Field(
        default="selected", description="Of `cell`; that of `against` is always `selected`."
    )


FigureKind = Annotated[
    str, AfterValidator(known_figure), WithJsonSchema({"enum": sorted(figure_kinds()), "type": "string"})
]
View = Literal["own", "encoders", "removed"]
# figures of all datasets together, and the section that each shows
OVERALL = {kind: section for kind, section in figure_kinds().items() if section}


class Experiment(Strict):
    """One table or figure: the cells it needs, and what the paper printed."""

    title: str
    paper: str | None = None
    caption: str
    kind: Literal["table", "ablation", "matrix", "listing"] = Field(
        description="matrix: a row a label, a column a dataset, and what holds across datasets. listing: what a paper "
        "shows and nothing here runs; it has neither datasets nor cells."
    )
    datasets: list[str] = Field(default=[])
    views: list[View] = Field(
        default=["own"],
        min_length=1,
        description="What a probe is given. own: the method's embedding; encoders: its encoders' outputs, one "
        "definition for all methods; removed: the own embedding without each modality in turn.",
    )
    figures: list[FigureKind] | None = Field(default=None, description="What is drawn; default: what its kind has.")
    cells: list[CellRef] = Field(default=[])
    reference: CellRef | None = Field(default=None, description="Cell that the others are compared with, by seed.")
    sweep: Sweep | None = Field(default=None, description="Of an ablation: its cells as lines over a number.")
    columns: list[MatrixColumn] = Field(default=[], description="Of a matrix: its columns.")
    contrasts: list[Contrast] = Field(default=[], description="Differences that are themselves the result.")
    panels: list[Sweep] = Field(default=[], description="Curves over one number each, in one figure of all datasets.")
    source: str | None = Field(default=None, description="Where the published numbers were read.")
    published: list[Published] = Field(default=[])
    titles: dict[str, str] = Field(
        default={}, description="Key in `published` that is no metric of ours: its title, with its unit."
    )
    information: Information | None = Field(
        default=None, description="Of an experiment on redundant, unique and synergistic information."
    )
    not_run: dict[str, str] = Field(
        default={}, description="Dataset, table or figure of the paper: why it is not run here."
    )

    @model_validator(mode="after")
    def _runs_or_lists(self) -> Self:
        if self.kind == "listing":
            if self.paper is None or not self.not_run:
                raise ValueError("kind: a listing names its `paper`, and in `not_run` why nothing of it is run")
            if given := [k for k in ("datasets", "cells", "reference", "information", "sweep") if getattr(self, k)]:
                raise ValueError(f"kind: a listing runs nothing, and {given[0]} is given; say kind: table or ablation")
        elif not self.datasets or not self.cells:
            raise ValueError("datasets and cells: at least one of each; kind: listing has neither")
        if self.published and self.source is None and any(p.source is None for p in self.published):
            raise ValueError("source: say where the published numbers were read")
        return self

    @model_validator(mode="after")
    def _ablation_compares(self) -> Self:
        if self.kind == "ablation" and len({(c.method, c.variant) for c in self.cells}) < 2:
            raise ValueError(
                "kind: an ablation shows differences between cells, and there is one cell; say kind: table"
            )
        return self

    @model_validator(mode="after")
    def _only_on_its_datasets(self) -> Self:
        for ref in self.cells:
            if unknown := sorted(set(ref.only or []) - set(self.datasets)):
                raise ValueError(f"cells: only: {unknown} are not among the experiment's datasets, {self.datasets}")
        partial = any(ref.only is not None for ref in self.cells) and self.kind != "matrix"
        able = {"scores", "differences", "sweep", *OVERALL}
        if partial and not set(["curves"] if self.figures is None else self.figures) <= able:
            raise ValueError(
                f"figures: where cells are on some datasets `only`, give some of {', '.join(sorted(able))}; [] for none"
            )
        return self

    @model_validator(mode="after")
    def _overall_figures_have_what_they_show(self) -> Self:
        """Columns, contrasts and panels are of its own cells and datasets, and a figure has something to show."""
        if (self.kind == "matrix") != bool(self.columns):
            raise ValueError("columns: a matrix has columns, and no other kind does")
        for kind, needed in OVERALL.items():
            if kind in (self.figures or []) and not getattr(self, needed):
                raise ValueError(f"figures: {kind} shows `{needed}`, and there are none")
        used: list[tuple[str, str | None, str]]
        used = [(p.dataset, None, f"columns: {c.title}") for c in self.columns for p in c.parts]
        used += [(c.dataset, cell, f"contrasts: {c.label}") for c in self.contrasts for cell in (c.cell, c.against)]
        if self.panels and not self.datasets:
            raise ValueError("panels: show the experiment's datasets, and there are none")
        for panel in self.panels:
            dataset = panel.dataset or self.datasets[0]
            used += [(dataset, cell, f"panels: {panel.axis}") for line in panel.series.values() for cell in line]
        for dataset, cell, where in used:
            if dataset not in self.datasets:
                raise ValueError(f"{where}: '{dataset}' is not among the experiment's datasets, {self.datasets}")
            on_it = [f"{c.method}/{c.variant}" for c in self.cells if c.only is None or dataset in c.only]
            if cell is not None and cell not in on_it:
                raise ValueError(f"{where}: {cell} is no cell of the experiment on {dataset}")
        return self

    @model_validator(mode="after")
    def _sweeps_over_its_cells(self) -> Self:
        cells = {f"{c.method}/{c.variant}" for c in self.cells}
        placed = {cell for line in self.sweep.series.values() for cell in line} if self.sweep else set()
        if absent := sorted(placed - cells):
            raise ValueError(f"sweep: {absent} are no cells of the experiment; a cell is written method/variant")
        if self.sweep is not None and self.kind != "ablation":
            raise ValueError(f"sweep: of kind ablation alone, and the kind is {self.kind}")
        return self


class Paper(Strict):
    """Bibliography entry."""

    title: str
    authors: str
    venue: str
    year: int
    url: str
    bibtex: str

"""Models of `params/experiments/`, tables and figures with the cells they need, and of `params/suites/`."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, field_validator

from mmcontrast.config.base import Strict
from mmcontrast.config.methods import UNTRAINED, Overrides, untrained_twin
from mmcontrast.config.metrics import TaskName
from mmcontrast.config.training import Engine
from mmcontrast.errors import nearest

FOLDER = Path(__file__).parents[1] / "report/figures"
REGISTERED = re.compile(r'^@figure\(\s*"(\w+)"(?:,\s*section="(\w+)")?', re.MULTILINE)
# keys that are shorter in the name of a variant
SHORT = {"batch_size": "batch", "schedule_fraction": "fraction"}
View = Literal["own", "encoders", "removed"]
# what torch, NumPy and a column of int64 take
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]


@cache
def figure_kinds() -> dict[str, str]:
    """Kind -> the section that it shows, all datasets together, or "" for a figure per dataset; parsed from the code of
    report/figures/, which draws when it is run.
    """
    files = sorted(FOLDER.glob("*.py"))
    return {kind: section for f in files for kind, section in REGISTERED.findall(f.read_text(encoding="utf-8"))}


def known_figure(kind: str) -> str:
    """The kind, if there is such a figure. Raises ValueError where there is none; names the nearest."""
    if kind not in figure_kinds():
        raise ValueError(f"no figure '{kind}'; {nearest(kind, figure_kinds())}")
    return kind


class CellRef(Strict):
    """A cell without its dataset."""

    method: str
    variant: str = "base"
    label: str | None = Field(default=None, description="Row label; default: the method's title.")
    only: list[str] | None = Field(default=None, description="Datasets it is run on, of the experiment's; null = all.")


class Arms(Strict):
    """One set of instances in two datasets, which differ only in the pairs that are pretrained on."""

    unbiased: str = Field(description="Dataset whose training pairs say nothing of the synergistic task: the control.")
    biased: str = Field(description="Dataset whose training pairs all solve the synergistic task.")


class Information(Strict):
    """Which probes ask for redundant, unique or synergistic information. Redundant (the dataset's own label) and unique
    information is read after pretraining on the unbiased arm, synergy after the biased one; synergy after the unbiased
    one is its control.
    """

    arms: list[Arms] = Field(min_length=1, description="One entry a size of the data.")
    unique: list[TaskName] = Field(min_length=1, description="Tasks whose mean is U.")
    synergistic: TaskName = Field(description="Task that is S.")
    published: str | None = Field(default=None, description="Dataset that the published R, U and S are of.")


class SweepLine(Strict):
    """One key of a cell and its values in turn, each a variant: `objective.alpha: [0.05, 0.15, 0.5]`. The cell's own
    value is the cell itself, and one that another variant in the method's file gives is that variant.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[list[Any], Field(min_length=1)]]

    title: str | None = Field(default=None, description="Name of the line; default: the method's title.")
    label: str | None = Field(
        default=None, description="Label of a row, with {value} and {place}; null: key = {value}."
    )
    places: list[Annotated[float, Field(ge=0)]] | None = Field(
        default=None, description="Place of each value on the axis; default: the value, or the rows that `full` are."
    )

    def _wrong(self) -> Iterator[str]:
        keys = list(self.__pydantic_extra__)
        if len(keys) != 1 or keys[0].partition(".")[0] not in Overrides.model_fields or "." not in keys[0]:
            sections = ", ".join(Overrides.model_fields)
            yield f"one key with its values is accepted, in one of {sections}, and there is {keys}"
        if self.places is not None and len(self.places) != len(self.values):
            yield f"places: {len(self.places)} of them for {len(self.values)} values"

    @property
    def key(self) -> str:
        """What is varied, e.g. objective.alpha."""
        return next(iter(self.__pydantic_extra__))

    @property
    def short(self) -> str:
        """The key in the name of a variant and in the label of a row."""
        last = self.key.rpartition(".")[2]
        return SHORT.get(last, last)

    @property
    def values(self) -> list[Any]:
        """The values in turn."""
        return self.__pydantic_extra__[self.key]


Lines = Annotated[
    Annotated[SweepLine, Tag("one")] | Annotated[list[SweepLine], Tag("several")],
    Discriminator(lambda given: "several" if isinstance(given, list) else "one"),
]


class Sweep(Strict):
    """A panel of curves over cells that differ in one number; any further key is a cell, with a line or a list of them.
    `m3col: {objective.alpha: [0.05, 0.15, 0.5]}` makes the variants, the table's rows and the line; a cell other than
    the base is written method/variant.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Lines]

    axis: str = Field(default="", description="What the number is; default: the last part of the first line's key.")
    scale: Literal["log", "linear"] = "log"
    dataset: str | None = Field(default=None, description="Where the cells are scored; default: each dataset in turn.")
    series: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(
        default={}, description="Lines of cells that are written out: name -> method/variant -> place on the axis."
    )

    @property
    def lines(self) -> list[tuple[str, SweepLine]]:
        """The cell that each line starts from, and what is varied."""
        asked = self.__pydantic_extra__.items()
        return [(cell, line) for cell, given in asked for line in (given if isinstance(given, list) else [given])]

    def _wrong(self) -> Iterator[str]:
        if not self.series and not self.lines:
            yield "no line is given; write `method: {objective.key: [values]}`"
        if self.scale == "log" and any(x == 0 for line in self.series.values() for x in line.values()):
            yield "series: 0 has no place on a logarithmic axis; say scale: linear"


class MatrixPart(Strict):
    """One score of a cell: of a dataset's own label, or of a further task."""

    dataset: str
    task: TaskName | None = None


class MatrixColumn(Strict):
    """A column of a matrix: the mean of one or several scores by the first metric of their datasets."""

    title: str
    parts: list[MatrixPart] = Field(min_length=1)


class Contrast(Strict):
    """Two cells of one dataset, or two protocols of one cell, whose difference by seed is a result. Primary ones are
    declared before the run and tested, by Holm's method within a family: those of one experiment, dataset and score.
    Any other is exploratory and has an interval but no p value.
    """

    label: str
    dataset: str
    cell: str = Field(pattern=r"^[a-z0-9_]+/[a-z0-9_]+$", description="method/variant")
    against: str = Field(pattern=r"^[a-z0-9_]+/[a-z0-9_]+$", description="method/variant it is compared with")
    metric: str | None = Field(
        default=None,
        description="Score that is compared, as the results call it: [task/]metric[@readout][:labels per class]. "
        "Default: the dataset's first metric.",
    )
    protocol: Literal["selected", "optimistic"] = Field(
        default="selected", description="Of `cell`; that of `against` is always `selected`."
    )
    primary: bool = Field(default=False, description="Declared before the run, and tested.")

    def _wrong(self) -> Iterator[str]:
        if self.primary and self.protocol == "optimistic":
            yield (
                f"contrasts: {self.label}: a maximum is not tested against one of its members; of protocol optimistic "
                "leave `primary` out"
            )
        if self.cell == self.against and self.protocol == "selected":
            yield f"contrasts: {self.label}: {self.cell} is compared with itself; give two cells"


class ContrastGroup(Strict):
    """Contrasts that differ in their dataset, score or cell: one for each combination."""

    datasets: list[str] = Field(min_length=1)
    cells: dict[str, str] = Field(min_length=1, description="method/variant: what stands for {cell} in `label`.")
    against: str = Field(description="method/variant, or `untrained`: each cell's own untrained twin.")
    label: str = "{cell}"
    metrics: list[str | None] = Field(default=[None], min_length=1)
    primary: bool = False

    @property
    def contrasts(self) -> list[dict[str, Any]]:
        """As they would be written out."""
        return [
            {
                "dataset": dataset,
                "cell": cell,
                "against": f"{method}/{untrained_twin(variant)}" if self.against == UNTRAINED else self.against,
                "metric": metric,
                "label": self.label.replace("{cell}", name),
                "primary": self.primary,
            }
            for dataset in self.datasets
            for metric in self.metrics
            for cell, name in self.cells.items()
            for method, _, variant in [cell.partition("/")]
        ]


FigureKind = Annotated[
    str, AfterValidator(known_figure), WithJsonSchema({"enum": sorted(figure_kinds()), "type": "string"})
]
# figures of all datasets together, and the section that each shows
OVERALL = {kind: section for kind, section in figure_kinds().items() if section}


class Experiment(Strict):
    """One table or figure, and the cells it needs."""

    title: str
    paper: str | None = None
    published: str | None = Field(default=None, description="Table of the paper's file that stands beside the rows.")
    caption: str
    kind: Literal["table", "ablation", "matrix"] = Field(
        description="matrix: one row per label, one column per dataset, and what holds across datasets."
    )
    datasets: list[str] = Field(min_length=1)
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
    contrasts: list[Contrast] = Field(
        default=[],
        description="Differences that are themselves the result; an entry with `datasets` and `cells` is one for each.",
    )
    panels: list[Sweep] = Field(default=[], description="Curves over one number each, in one figure of all datasets.")
    information: Information | None = Field(default=None, description="Of redundant, unique and synergistic parts.")
    not_run: dict[str, str] = Field(default={}, description="What one may look for among its rows: why it is not run.")

    @field_validator("contrasts", mode="before")
    @classmethod
    def _written_out(cls, given: Any) -> Any:
        if not isinstance(given, list):
            return given
        groups = [isinstance(c, dict) and "datasets" in c for c in given]
        written = [ContrastGroup(**c).contrasts if group else [c] for c, group in zip(given, groups, strict=True)]
        return [c for of_entry in written for c in of_entry]

    def _wrong(self) -> Iterator[str]:
        if not self.cells:
            yield "cells: at least one, or a `sweep` or `panels` that make them"
        if self.published is not None and self.paper is None:
            yield "published: a table of the paper, and no `paper` is named"
        if self.kind == "ablation" and len({(c.method, c.variant) for c in self.cells}) < 2:
            yield "kind: an ablation shows differences between cells, and there is one; say kind: table"
        for ref in self.cells:
            if unknown := sorted(set(ref.only or []) - set(self.datasets)):
                yield f"cells: only: {unknown} are not among the experiment's datasets, {self.datasets}"
        partial = any(ref.only is not None for ref in self.cells) and self.kind != "matrix"
        able = {"scores", "differences", "sweep", *OVERALL}
        if partial and not set(["curves"] if self.figures is None else self.figures) <= able:
            yield (
                f"figures: where cells are on some datasets `only`, give some of {', '.join(sorted(able))}; [] for none"
            )
        yield from self._wrong_shown()

    def _wrong_shown(self) -> Iterator[str]:
        if (self.kind == "matrix") != bool(self.columns):
            yield "columns: a matrix has columns, and no other kind does"
        for kind, needed in OVERALL.items():
            if kind in (self.figures or []) and not getattr(self, needed):
                yield f"figures: {kind} shows `{needed}`, and there are none"
        used: list[tuple[str, str | None, str]]
        used = [(p.dataset, None, f"columns: {c.title}") for c in self.columns for p in c.parts]
        used += [(c.dataset, cell, f"contrasts: {c.label}") for c in self.contrasts for cell in (c.cell, c.against)]
        for panel in self.panels:
            dataset = panel.dataset or self.datasets[0]
            used += [(dataset, cell, f"panels: {panel.axis}") for line in panel.series.values() for cell in line]
        for dataset, cell, where in used:
            if dataset not in self.datasets:
                yield f"{where}: '{dataset}' is not among the experiment's datasets, {self.datasets}"
            on_it = [f"{c.method}/{c.variant}" for c in self.cells if c.only is None or dataset in c.only]
            if cell is not None and cell not in on_it:
                yield f"{where}: {cell} is no cell of the experiment on {dataset}"
        cells = {f"{c.method}/{c.variant}" for c in self.cells}
        placed = {cell for line in self.sweep.series.values() for cell in line} if self.sweep else set()
        if absent := sorted(placed - cells):
            yield f"sweep: {absent} are no cells of the experiment; a cell is written method/variant"
        if self.sweep is not None and self.kind != "ablation":
            yield f"sweep: of kind ablation alone, and the kind is {self.kind}"


class Suite(Strict):
    """How much of the grid is run, and on what."""

    description: str
    datasets: list[str] = Field(min_length=1)
    experiments: list[str] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    seeds_by_dataset: dict[str, Annotated[list[Seed], Field(min_length=1)]] = Field(
        default={}, description="Other seeds for some datasets, e.g. fewer where a run costs much."
    )
    engine: Engine = Engine()
    overrides: Overrides = Field(default=Overrides(), description="Laid over every cell, e.g. {finetune: {epochs: 2}}.")

    def _wrong(self) -> Iterator[str]:
        for name, seeds in {"": self.seeds, **self.seeds_by_dataset}.items():
            if len(set(seeds)) != len(seeds):
                key = f"seeds_by_dataset.{name}" if name else "seeds"
                yield f"{key}: {seeds} repeats a seed; a repeated run is not a second observation"
        if unknown := sorted(set(self.seeds_by_dataset) - set(self.datasets)):
            yield f"seeds_by_dataset: {unknown} are not among the suite's datasets, {self.datasets}"

    def seeds_of(self, dataset: str) -> list[int]:
        """The seeds that a dataset's cells are run with."""
        return self.seeds_by_dataset.get(dataset, self.seeds)

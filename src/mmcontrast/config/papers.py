"""Models of `params/papers/`: the bibliography, what a paper published, and what of it is not run."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mmcontrast.config.base import Strict
from mmcontrast.errors import nearest

Verified = Literal["read", "digitised", "second_hand", "run"]


class Published(Strict):
    """A row somebody printed. A number that could not be found is left out."""

    row: str = Field(description="Name of the row in the source.")
    dataset: str = Field(description="A dataset of params/datasets/; of what is not run, a key of `why`.")
    values: dict[str, float] = Field(
        description="metric: value, in percent; R, U and S where there is `information`; else a key of `titles`."
    )
    spread: dict[str, float] = Field(default={}, description="metric: the spread printed beside it.")
    seeds: int | None = Field(
        default=None, gt=1, description="Runs that the spread is a standard deviation of, where the source says so."
    )
    method: str | None = Field(default=None, description="Our method of the same name, where there is one.")
    variant: str = "base"
    source: str | None = Field(default=None, description="Where it was read; default: the table's `source`.")
    verified: Verified = Field(
        default="read",
        description="read: in the paper, or on a page or in a repository of its authors; digitised: off a curve of "
        "theirs; second_hand: as another source quotes it; run: not printed, but found by running their code.",
    )

    @model_validator(mode="after")
    def _spread_of_a_value(self) -> Self:
        if unknown := sorted(set(self.spread) - set(self.values)):
            raise ValueError(f"spread: {unknown} have no value; a spread stands beside a value")
        if self.seeds is not None and not self.spread:
            raise ValueError(f"seeds: {self.seeds} runs of what? they are those that a `spread` is of; give both")
        return self


class PublishedTable(Strict):
    """Published rows, and where they were read."""

    source: str | None = Field(default=None, description="Where the numbers were read.")
    rows: list[Published] = Field(default=[])
    notes: list[str] = Field(default=[], description="What was found about these numbers; shown below the table.")

    @model_validator(mode="after")
    def _was_read_somewhere(self) -> Self:
        if self.source is None and any(p.source is None for p in self.rows):
            raise ValueError("source: say where the published numbers were read")
        return self


class NotRun(PublishedTable):
    """A table or figures of the paper of which nothing is run here."""

    title: str
    caption: str
    titles: dict[str, str] = Field(default={}, description="Key in `values` of the rows: its title, with its unit.")
    why: dict[str, str] = Field(min_length=1, description="Dataset, table or figure: why it is not run here.")

    @model_validator(mode="after")
    def _rows_are_of_it(self) -> Self:
        for p in self.rows:
            if p.dataset not in self.why:
                near = nearest(p.dataset, self.why)
                raise ValueError(f"rows ({p.row}): dataset: '{p.dataset}' is not in `why`; {near}")
            if unknown := [m for m in p.values if m not in self.titles]:
                near = nearest(unknown[0], self.titles)
                raise ValueError(f"rows ({p.row}): values: '{unknown[0]}' is not in `titles`; {near}")
        return self


class Paper(Strict):
    """Bibliography entry, and what the paper shows."""

    title: str
    authors: str
    venue: str
    year: int
    url: str
    bibtex: str
    published: dict[str, PublishedTable] = Field(default={}, description="Tables that stand beside rows of ours.")
    not_run: dict[str, NotRun] = Field(default={}, description="Tables and figures of which nothing is run here.")

"""Model of `params/suites/`: how much of the grid is run, and on what."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from mmcontrast.config.base import Strict
from mmcontrast.config.methods import Overrides
from mmcontrast.config.training import Engine

# what torch, NumPy and a column of int64 take
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]


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
    overrides: Overrides = Field(
        default=Overrides(), description="Merged over every cell last, e.g. {finetune: {epochs: 2}}."
    )

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        for name, seeds in {"": self.seeds, **self.seeds_by_dataset}.items():
            if len(set(seeds)) != len(seeds):
                key = f"seeds_by_dataset.{name}" if name else "seeds"
                raise ValueError(f"{key}: {seeds} repeats a seed; a repeated run is not a second observation")
        if unknown := sorted(set(self.seeds_by_dataset) - set(self.datasets)):
            raise ValueError(f"seeds_by_dataset: {unknown} are not among the suite's datasets, {self.datasets}")
        return self

    def seeds_of(self, dataset: str) -> list[int]:
        """The seeds that a dataset's cells are run with."""
        return self.seeds_by_dataset.get(dataset, self.seeds)

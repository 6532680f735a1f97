"""A dataset of the Hugging Face hub: a folder that the library `datasets` saved, or Parquet files of a hub repository.

Of a repository the files at a revision are sources like any other, with their checksums:
https://huggingface.co/datasets/<owner>/<name>/resolve/<commit>/data/train-00000-of-00001.parquet.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mmcontrast.config import Dataset, validate
from mmcontrast.config.base import Strict
from mmcontrast.data.instances import Instances
from mmcontrast.data.prepare.table import Columns, TableOptions, read_tables
from mmcontrast.data.prepare.table_files import Split, TableFile
from mmcontrast.data.streaming import Stream


class HubOptions(Strict):
    """`prepare` in the dataset's file."""

    path: str | list[str] | dict[Split, str | list[str]] = Field(
        description="Parquet file, several, or a saved folder, as `sources` has it; or split -> one of these."
    )
    columns: dict[str, str] = Field(min_length=1, description="Modality -> its column.")
    id: str | None = Field(default=None, description="Column that names an instance; null = by the number of the row.")
    label: str | None = Field(default=None, description="Column of the class; a ClassLabel has numbers.")
    group: str | None = Field(default=None, description="Column of what no split may part.")


def read(name: str, dataset: Dataset, raw_dir: Path) -> Instances | Stream:
    """All rows. Raises as `table.read`."""
    where = f"params/datasets/{name}.yaml"
    options = validate(HubOptions, dataset.prepare, where, prefix="prepare")
    given = {
        m: Columns(array=column) if dataset.modalities[m].kind in ("vector", "sequence") else Columns(columns=[column])
        for m, column in options.columns.items()
        if m in dataset.modalities
    }
    tables: dict[str, str | TableFile] = {"rows": TableFile(path=options.path)}
    of_tables = TableOptions(tables=tables, modalities=given, id=options.id, label=options.label, group=options.group)
    return read_tables(where, dataset, of_tables, raw_dir)

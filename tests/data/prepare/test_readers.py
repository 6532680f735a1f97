"""Every fault of a csv is named by file, line and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmcontrast.data.prepare.readers import class_indices, column, expect, numbers, read_sheet
from mmcontrast.errors import DataError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    return path


def test_numbers_are_read_to_the_last_digit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-9, 9, size=(50, 3))
    text = "".join(",".join(map(repr, row)) + "\n" for row in values.tolist())
    sheet = read_sheet(write(tmp_path, text), header=False)
    np.testing.assert_array_equal(numbers(sheet, sheet.names), values)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_header_is_kept_apart(tmp_path: Path, end: str) -> None:
    sheet = read_sheet(write(tmp_path, end.join([",a,b", "p,1,2", "q,3,4", ""])), header=True)
    assert sheet.names == ["", "a", "b"]
    assert column(sheet, "") == ["p", "q"]
    assert numbers(sheet, ["a", "b"], first=1).tolist() == [[1, 2], [3, 4]]
    assert numbers(sheet, ["b"], first=2).tolist() == [[2], [4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a,b\n1,2,3\n", "not readable as csv (line 2 has 3 cells, and line 1 has 2)"),
        ("a,b,a\n1,2,3\n", "line 1: columns 1 and 3 are both called 'a'"),
        ("a,,b\n1,2,3\n", "line 1: column 2 has no name"),
    ],
)
def test_a_file_that_is_no_csv(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError) as e:
        read_sheet(path, header=True)
    assert str(e.value) == f"{path}: {message}"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(DataError, match=r"x\.csv: not readable as csv \(.*utf-?8"):
        read_sheet(path, header=True)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.csv: no such file; `sources` of the dataset"):
        read_sheet(tmp_path / "x.csv", header=True)


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("", "is empty"),
        ("n/a", "holds 'n/a', which is not a finite number"),
        ("NaN", "holds 'NaN', which is not a finite number"),
        ("inf", "holds 'inf', which is not a finite number"),
        ("1e999", "holds '1e999', which is not a finite number"),
    ],
)
@pytest.mark.parametrize(("header", "line"), [(True, 3), (False, 2)])
def test_a_cell_that_is_no_number(tmp_path: Path, cell: str, what: str, header: bool, line: int) -> None:
    path = write(tmp_path, ("id,a,b\n" if header else "") + f"p,1,2\nq,3,{cell}\nr,5,6\n")
    with pytest.raises(DataError) as e:
        numbers(read_sheet(path, header), ["a", "b"], first=1)
    assert str(e.value).startswith(f"{path}: line {line}, column 3 (b) {what}; ")


def test_the_other_bad_cells_are_counted(tmp_path: Path) -> None:
    sheet = read_sheet(write(tmp_path, "1,x\ny,z\n"), header=False)
    with pytest.raises(DataError, match=r"line 1, column 2 \(b\) holds 'x'.*\(and 2 more such cells\)"):
        numbers(sheet, ["a", "b"])


def test_a_row_cut_short_has_empty_cells(tmp_path: Path) -> None:
    sheet = read_sheet(write(tmp_path, "1,2,3\n4,5\n6,7,8\n"), header=False)
    with pytest.raises(DataError, match=r"line 2, column 3 \(c\) is empty"):
        numbers(sheet, ["a", "b", "c"])


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    sheet = read_sheet(write(tmp_path, "patients,target\np,1\n"), header=True)
    with pytest.raises(DataError, match=r"no column 'patient'; did you mean 'patients'\?"):
        column(sheet, "patient")


def test_an_empty_name_is_refused(tmp_path: Path) -> None:
    sheet = read_sheet(write(tmp_path, "id,a\np,1\n,2\n"), header=True)
    with pytest.raises(DataError, match="line 3: column 'id' is empty"):
        column(sheet, "id")


def test_sizes_are_held_against_params(tmp_path: Path) -> None:
    sheet = read_sheet(write(tmp_path, "id,a,b\np,1,2\n"), header=True)
    expect(sheet, 1, "rows", 3, "shape")
    with pytest.raises(DataError, match="3 feature columns, and shape says 4"):
        expect(sheet, 1, "rows", 4, "shape")
    with pytest.raises(DataError, match="1 rows, and rows says 2"):
        expect(sheet, 2, "rows", 3, "shape")


@pytest.mark.parametrize("value", ["2.0", "-1.0", "0.5"])
def test_a_label_that_is_no_class(tmp_path: Path, value: str) -> None:
    sheet = read_sheet(write(tmp_path, f"0.0\n1.0\n{value}\n"), header=False)
    with pytest.raises(DataError, match=rf"line 3: label {float(value):g}; accepted: 0 = no, 1 = yes"):
        class_indices(sheet, numbers(sheet, ["label"])[:, 0], ["no", "yes"])


def test_labels_become_indices(tmp_path: Path) -> None:
    sheet = read_sheet(write(tmp_path, "0.000e+00\n1.000e+00\n1\n"), header=False)
    labels = class_indices(sheet, numbers(sheet, ["label"])[:, 0], ["no", "yes"])
    assert labels.tolist() == [0, 1, 1]
    assert labels.dtype == np.int64
